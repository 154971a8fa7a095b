"""pgqueuer: asyncpg, which its documentation recommends, uvloop, and a large batch."""

import asyncio
import importlib.metadata
import struct

import asyncpg
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.db import AsyncpgDriver

from peer import Peer


class PgQueuer(Peer):
    settings = {"processes": 2, "batch": 500, "bulk": 1000}
    tried = [
        {"processes": 1, "batch": 10},
        {"processes": 1, "batch": 100},
        {"processes": 1, "batch": 500},
        {"processes": 2, "batch": 100},
        {"processes": 2, "batch": 500},
    ]

    def version(self):
        return importlib.metadata.version("pgqueuer")

    async def install(self, url):
        connection = await asyncpg.connect(url)
        queries = Queries(AsyncpgDriver(connection))
        # Its default durability is that all tables are logged.
        await queries.install()
        await queries.optimize_autovacuum()
        await connection.close()

    async def fill(self, url, jobs, settings, tally):
        connection = await self.connect(url, tally)
        queries = Queries(AsyncpgDriver(connection))
        bulk = settings["bulk"]
        for first in range(0, jobs, bulk):
            payloads = [struct.pack("q", number) for number in range(first, first + bulk)]
            await queries.enqueue(["nothing"] * bulk, payloads, [0] * bulk)
        await connection.close()

    async def serve(self, url, settings, tally, on_job, stop):
        connection = await self.connect(url, tally)
        queries = Queries(AsyncpgDriver(connection))
        record = queries.log_jobs

        async def log_jobs(jobs):
            await record(jobs)
            tally.acknowledged(len(jobs))

        queries.log_jobs = log_jobs
        manager = QueueManager(queries)
        manager.shutdown = stop

        @manager.entrypoint("nothing")
        async def nothing(job):
            on_job(struct.unpack("q", job.payload)[0])

        await manager.run(batch_size=settings["batch"])
        await connection.close()

    async def producer(self, url):
        queries = Queries(AsyncpgDriver(await asyncpg.connect(url)))

        async def produce(number):
            await queries.enqueue("nothing", struct.pack("q", number))

        return produce

    async def clear(self, url):
        connection = await asyncpg.connect(url)
        await Queries(AsyncpgDriver(connection)).clear_queue()
        await connection.close()

    async def connect(self, url, tally):
        connection = await asyncpg.connect(url)

        def count(_):
            tally.round_trips += 1

        connection.add_query_logger(count)
        return connection


peer = PgQueuer()
