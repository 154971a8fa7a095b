"""Runs one action of one peer and prints what came of it as one line of JSON; QueueBench calls it.

    driver.py PEER version | tried | settings
    driver.py PEER install URL
    driver.py PEER fill URL --jobs N
    driver.py PEER drain URL --jobs N --seconds S
    driver.py PEER pickup URL --samples N
    driver.py PEER clear URL
  --set KEY=NUMBER replaces one of the peer's settings.
"""

import argparse
import asyncio
import ctypes
import importlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import uvloop

from peer import Tally

# Python's own way of starting processes anew; a forked one would share connections.
processes = multiprocessing.get_context("spawn")


def load(name):
    return importlib.import_module(f"{name}_peer").peer


def end_with_parent():
    """A worker must not outlive the run that was killed."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


async def ticks(interval, again):
    while again():
        await asyncio.sleep(interval)


def drain_worker(name, url, settings, slot, recorded, jobs, deadline, ready, results):
    end_with_parent()
    peer, tally = load(name), Tally()

    async def work():
        stop = asyncio.Event()

        def more():
            recorded[slot] = tally.recorded
            return sum(recorded) < jobs and time.monotonic() < deadline.value

        ready.wait()
        server = asyncio.create_task(peer.serve(url, settings, tally, lambda number: tally.began(), stop))
        waiter = asyncio.create_task(ticks(0.01, more))
        await asyncio.wait({server, waiter}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        stop.set()
        await server

    uvloop.run(work())
    results.put((tally.first, tally.last, tally.recorded, tally.round_trips_at_last))


def drain(name, url, settings, jobs, seconds):
    """From the first job's start to the last acknowledged result, over all worker processes."""
    count = settings["processes"]
    recorded = processes.Array("q", count, lock=False)
    deadline = processes.Value("d", float("inf"), lock=False)
    ready, results = processes.Barrier(count + 1), processes.Queue()
    workers = [
        processes.Process(
            target=drain_worker, args=(name, url, settings, slot, recorded, jobs, deadline, ready, results), daemon=True
        )
        for slot in range(count)
    ]
    for worker in workers:
        worker.start()
    ready.wait(60)
    deadline.value = time.monotonic() + seconds
    parts = [results.get(timeout=seconds + 60) for _ in workers]
    for worker in workers:
        worker.join()
    parts = [part for part in parts if part[2]]
    if not parts:
        raise SystemExit("no job was recorded")
    return {
        "jobs": sum(part[2] for part in parts),
        "seconds": (max(part[1] for part in parts) - min(part[0] for part in parts)) / 1e9,
        "round_trips": sum(part[3] for part in parts),
    }


def fill(peer, url, settings, jobs):
    tally = Tally()
    begin = time.monotonic()
    uvloop.run(peer.fill(url, jobs, settings, tally))
    return {"jobs": jobs, "seconds": time.monotonic() - begin, "round_trips": tally.round_trips}


def pickup_worker(name, url, settings, started):
    end_with_parent()

    def on_job(number):
        started.send((number, time.monotonic_ns()))

    uvloop.run(load(name).serve(url, settings, Tally(), on_job, asyncio.Event()))


def pickup(name, url, settings, samples):
    """From the moment an enqueue has been acknowledged to the start of the job's code, the queue being empty before."""
    warm_up = 10
    receiver, started = processes.Pipe(duplex=False)
    worker = processes.Process(target=pickup_worker, args=(name, url, settings, started), daemon=True)
    worker.start()

    async def measure():
        produce = await load(name).producer(url)
        latencies = []
        # A worker that was killed before it had recorded a job leaves it to the next one.
        first = os.getpid() * 1_000_000
        for sample in range(-warm_up, samples):
            await produce(first + warm_up + sample)
            committed = time.monotonic_ns()
            what = None
            while what != first + warm_up + sample:
                if not receiver.poll(60):
                    raise SystemExit("a job was not picked up within a minute")
                what, when = receiver.recv()
            if sample >= 0:
                latencies.append((when - committed) / 1e3)
            # Until the job is recorded and the worker waits again; at no fixed distance from its timers.
            await asyncio.sleep(random.uniform(0.04, 0.08))
        return latencies

    latencies = uvloop.run(measure())
    worker.kill()
    worker.join()
    return {"latencies_us": latencies}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("peer")
    parser.add_argument("action")
    parser.add_argument("url", nargs="?")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--samples", type=int)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    peer = load(options.peer)
    settings = dict(peer.settings)
    for pair in options.set:
        key, number = pair.split("=")
        settings[key] = int(number)
    match options.action:
        case "version":
            answer = {"version": peer.version(), "settings": settings}
        case "tried":
            answer = {"tried": peer.tried}
        case "install":
            answer = uvloop.run(peer.install(options.url)) or {}
        case "clear":
            answer = uvloop.run(peer.clear(options.url)) or {}
        case "fill":
            answer = fill(peer, options.url, settings, options.jobs)
        case "drain":
            answer = drain(options.peer, options.url, settings, options.jobs, options.seconds)
        case "pickup":
            answer = pickup(options.peer, options.url, settings, options.samples)
        case other:
            parser.error(f"{other} is no action")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
