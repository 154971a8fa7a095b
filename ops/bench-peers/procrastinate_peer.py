"""procrastinate: psycopg with its C part, asynchronous tasks run concurrently, finished jobs deleted."""

import asyncio
import importlib.metadata
import logging

import procrastinate

from peer import Peer, count_psycopg

logging.getLogger("procrastinate").setLevel(logging.WARNING)


class Procrastinate(Peer):
    settings = {"processes": 2, "concurrency": 30, "connections": 10, "bulk": 1000}
    tried = [
        {"processes": 1, "concurrency": 1, "connections": 4},
        {"processes": 1, "concurrency": 10, "connections": 10},
        {"processes": 1, "concurrency": 30, "connections": 10},
        {"processes": 2, "concurrency": 10, "connections": 10},
        {"processes": 2, "concurrency": 30, "connections": 10},
    ]

    def version(self):
        return importlib.metadata.version("procrastinate")

    def app(self, url, on_job=None, connections=4):
        app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=url, min_size=connections, max_size=connections)
        )

        @app.task(name="nothing")
        async def nothing(number):
            on_job(number)

        return app

    async def install(self, url):
        async with self.app(url).open_async() as app:
            await app.schema_manager.apply_schema_async()

    async def fill(self, url, jobs, settings, tally):
        count_psycopg(tally)
        bulk = settings["bulk"]
        async with self.app(url).open_async() as app:
            for first in range(0, jobs, bulk):
                await app.tasks["nothing"].batch_defer_async(
                    *({"number": number} for number in range(first, first + bulk))
                )

    async def serve(self, url, settings, tally, on_job, stop):
        count_psycopg(tally)
        app = self.app(url, on_job, settings["connections"])
        async with app.open_async():
            finish = app.job_manager.finish_job

            async def finish_job(*arguments, **named):
                await finish(*arguments, **named)
                tally.acknowledged(1)

            app.job_manager.finish_job = finish_job
            worker = asyncio.create_task(
                app.run_worker_async(
                    concurrency=settings["concurrency"],
                    delete_jobs="always",
                    install_signal_handlers=False,
                )
            )
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({worker, stopped}, return_when=asyncio.FIRST_COMPLETED)
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    async def producer(self, url):
        app = self.app(url)
        await app.open_async()

        async def produce(number):
            await app.tasks["nothing"].defer_async(number=number)

        return produce

    async def clear(self, url):
        async with self.app(url).open_async() as app:
            await app.connector.execute_query_async("TRUNCATE procrastinate_jobs CASCADE")


peer = Procrastinate()
