# SPDX-License-Identifier: BSL-1.0
"""How often the threads of an idle process wake up."""

import subprocess
import time
from pathlib import Path

# Seconds: idle workers leave after ten, each with one last wake-up; and the thread that looks for deadlocks becomes idle
# only when it has seen none for two.
SETTLE = 15
WATCH = 10


def sleeps(pid):
    """How often each thread has gone to sleep of its own accord; it has been awake before."""
    counts = {}
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                counts[status.parent.name] = int(line.split()[1])
    return counts


def wakeups(before, after):
    """Between two looks. A thread that has ended has woken up for that, once at least."""
    return sum(after.get(thread, before.get(thread, 0) + 1) - before.get(thread, 0) for thread in before | after)


def measure(program):
    """Wake-ups in ten seconds, of a process that has used both bridges and now waits."""
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline().strip() != "idle":
            raise RuntimeError("bench_idle did not get as far as being idle")
        time.sleep(SETTLE)
        before = sleeps(process.pid)
        time.sleep(WATCH)
        return wakeups(before, sleeps(process.pid))
    finally:
        process.kill()
        process.wait()
