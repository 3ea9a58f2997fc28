# SPDX-License-Identifier: BSL-1.0
"""How often the threads of an idle process wake up."""

import subprocess
import time
from pathlib import Path

SETTLE = 12  # seconds: idle workers leave after ten, each with one last wake-up
WATCH = 10


def wakeups(pid):
    """Each time a thread goes to sleep of its own accord it has been awake before."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        for line in status.read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def measure(program):
    """Wake-ups in ten seconds, of a process that has used both bridges and now waits."""
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout.readline().strip() != "idle":
            raise RuntimeError("bench_idle did not get as far as being idle")
        time.sleep(SETTLE)
        before = wakeups(process.pid)
        time.sleep(WATCH)
        return wakeups(process.pid) - before
    finally:
        process.kill()
        process.wait()
