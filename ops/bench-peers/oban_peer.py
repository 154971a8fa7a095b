"""oban: a queue's limit is how many jobs it fetches and acknowledges at a time, so a large one."""

import importlib.metadata

from oban import Oban, worker
from oban.schema import install
from psycopg_pool import AsyncConnectionPool

from peer import Peer, count_psycopg

# A worker is a class that is found by its name; a process serves once.
observer = None


@worker(queue="default")
class Nothing:
    async def process(self, job):
        observer(job.args["number"])


class ObanPeer(Peer):
    settings = {"processes": 2, "limit": 100, "connections": 4, "bulk": 1000}
    tried = [
        {"processes": 1, "limit": 10},
        {"processes": 1, "limit": 100},
        {"processes": 1, "limit": 500},
        {"processes": 2, "limit": 100},
        {"processes": 2, "limit": 500},
    ]

    def version(self):
        return importlib.metadata.version("oban")

    async def pool(self, url, connections=1):
        pool = AsyncConnectionPool(url, min_size=connections, max_size=connections, open=False)
        await pool.open(wait=True)
        return pool

    async def install(self, url):
        pool = await self.pool(url)
        await install(pool)
        await pool.close()

    async def fill(self, url, jobs, settings, tally):
        count_psycopg(tally)
        pool = await self.pool(url)
        oban = Oban(pool=pool, name="filler")
        bulk = settings["bulk"]
        for first in range(0, jobs, bulk):
            await oban.enqueue_many(Nothing.new({"number": number}) for number in range(first, first + bulk))
        await pool.close()

    async def serve(self, url, settings, tally, on_job, stop):
        global observer
        observer = on_job
        count_psycopg(tally)
        pool = await self.pool(url, settings["connections"])
        oban = Oban(pool=pool, queues={"default": settings["limit"]})
        acknowledge = oban._query.ack_jobs

        async def ack_jobs(acks):
            ids = await acknowledge(acks)
            tally.acknowledged(len(ids))
            return ids

        oban._query.ack_jobs = ack_jobs
        async with oban:
            await stop.wait()
        await pool.close()

    async def producer(self, url):
        oban = Oban(pool=await self.pool(url), name="producer")

        async def produce(number):
            await oban.enqueue(Nothing.new({"number": number}))

        return produce

    async def clear(self, url):
        pool = await self.pool(url)
        async with pool.connection() as connection:
            await connection.execute("TRUNCATE oban_jobs")
        await pool.close()


peer = ObanPeer()
