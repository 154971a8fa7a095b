"""What a peer of the queue benchmark has to offer, and what is counted of it."""

import time


class Tally:
    """What one worker process did so far. Recorded, not run: a result counts once the database has acknowledged it."""

    def __init__(self):
        self.first = None
        self.last = None
        self.recorded = 0
        self.round_trips = 0
        self.round_trips_at_last = 0

    def began(self):
        if self.first is None:
            self.first = time.monotonic_ns()

    def acknowledged(self, jobs):
        self.recorded += jobs
        self.last = time.monotonic_ns()
        self.round_trips_at_last = self.round_trips


class Peer:
    """One queue. `settings` are the ones it is measured with, `tried` the others that `sweep` measures."""

    settings: dict = {}
    tried: list = []

    def version(self):
        raise NotImplementedError

    async def install(self, url):
        """Makes the schema in an empty database."""
        raise NotImplementedError

    async def fill(self, url, jobs, settings, tally):
        """Enqueues jobs that do nothing, as many at a time as the peer can."""
        raise NotImplementedError

    async def serve(self, url, settings, tally, on_job, stop):
        """Works until `stop` is set; `on_job` is called with a job's number when its code starts."""
        raise NotImplementedError

    async def producer(self, url):
        """Gives an async function that enqueues the job of a number and returns when that is committed."""
        raise NotImplementedError

    async def clear(self, url):
        """Removes the jobs that wait."""
        raise NotImplementedError


def count_psycopg(tally):
    """Counts what psycopg sends and waits for: statements, what is prepared for them, and BEGIN and COMMIT."""
    from psycopg import _connection_base, _cursor_base

    def counted(owner, name):
        original = getattr(owner, name)

        def count(self, *arguments, **named):
            tally.round_trips += 1
            return original(self, *arguments, **named)

        setattr(owner, name, count)

    for name in ("_execute_send", "_send_prepare", "_send_query_prepared"):
        counted(_cursor_base.BaseCursor, name)
    counted(_connection_base.BaseConnection, "_exec_command")
