#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""The same cases in Python: asgiref, anyio and asyncio itself. Prints JSON: {"B3/asgiref": [ns, ns, …], …}.

A peer that is not installed is left out and named in "missing". Runs of one case are interleaved among the peers.
"""

import asyncio
import json
import os
import sys
import time

missing = []
try:
    from asgiref.sync import async_to_sync, sync_to_async
except ImportError:
    missing.append("asgiref")
    async_to_sync = sync_to_async = None
try:
    import anyio
    import anyio.from_thread
    import anyio.to_thread
except ImportError:
    missing.append("anyio")
    anyio = None

REPEAT = 3
QUICK = "--quick" in sys.argv


def nothing():
    return 42


async def ready():
    return 42


async def yielding():
    await asyncio.sleep(0)
    return 42


def per_call(calls):
    """Times a function that makes `calls` calls, in nanoseconds for each."""
    calls = max(1, calls // 50) if QUICK else calls

    def timed(body):
        began = time.perf_counter_ns()
        body(calls)
        return (time.perf_counter_ns() - began) / calls
    return timed


def blocking(call, coroutine):
    def body(calls):
        for _ in range(calls):
            call(coroutine)
    return body


def in_a_row(call):
    async def walk(calls):
        for _ in range(calls):
            await call(nothing)
    return lambda calls: asyncio.run(walk(calls))


def many(call, coroutines=1000):
    async def one(each):
        for _ in range(each):
            await call(nothing)

    async def all_of_them(calls):
        await asyncio.gather(*(one(max(1, calls // coroutines)) for _ in range(coroutines)))
    return lambda calls: asyncio.run(all_of_them(calls))


def cases():
    """(case, peer, calls, body)"""
    if async_to_sync:
        plain = sync_to_async(nothing, thread_sensitive=False)
        sensitive = sync_to_async(nothing, thread_sensitive=True)

        async def asgiref_offload(_):
            return await plain()

        async def sensitive_calls(calls):
            for _ in range(calls):
                await sensitive()

        def down(left):
            return 0 if left == 0 else async_to_sync(level)(left)

        async def level(left):
            return 1 + await sync_to_async(down, thread_sensitive=True)(left - 1)

        yield "B1", "asgiref", 200, blocking(lambda c: async_to_sync(c)(), ready)
        yield "B2", "asgiref", 200, blocking(lambda c: async_to_sync(c)(), yielding)
        yield "B3", "asgiref", 2000, in_a_row(asgiref_offload)
        yield "B4", "asgiref", 5000, many(asgiref_offload)
        yield "B5", "asgiref, thread-sensitive, depth 8", 400, lambda calls: [down(8) for _ in range(max(1, calls // 8))]
        yield "B7", "asgiref", 1000, lambda calls: async_to_sync(sensitive_calls)(calls)
    if anyio:
        yield "B1", "anyio", 200, blocking(anyio.run, ready)
        yield "B2", "anyio", 200, blocking(anyio.run, yielding)
        yield "B3", "anyio", 2000, in_a_row(anyio.to_thread.run_sync)
        yield "B4", "anyio", 5000, many(anyio.to_thread.run_sync)

        def from_worker(calls):
            for _ in range(calls):
                anyio.from_thread.run(ready)

        yield "B8", "anyio", 2000, lambda calls: anyio.run(anyio.to_thread.run_sync, from_worker, calls)
    yield "B1", "asyncio.run", 200, blocking(lambda c: asyncio.run(c()), ready)
    yield "B2", "asyncio.run", 200, blocking(lambda c: asyncio.run(c()), yielding)
    yield "B3", "asyncio.to_thread", 2000, in_a_row(asyncio.to_thread)
    yield "B4", "asyncio.to_thread", 5000, many(asyncio.to_thread)


def main():
    if "--one-cpu" in sys.argv:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    seen = {}
    listed = list(cases())
    for _ in range(1 if QUICK else REPEAT):
        for case, peer, calls, body in listed:
            seen.setdefault(f"{case}/{peer}", []).append(per_call(calls)(body))
    json.dump({"figures": seen, "missing": missing}, sys.stdout)


main()
