# SPDX-License-Identifier: BSL-1.0
"""B11: the demo server's /check, driven by wrk; alone, and while its sorts keep the CPUs busy."""

import re
import shutil
import signal
import subprocess
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path

CONNECTIONS = 32


@contextmanager
def server(program):
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "one.txt").write_text("one\n")
        process = subprocess.Popen([program, "--serve", folder], stdout=subprocess.PIPE, text=True)
        try:
            for line in process.stdout:
                found = re.search(r"http://127\.0\.0\.1:\d+", line)
                if found:
                    break
            else:
                raise RuntimeError("the demo server did not start")
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate()


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(value) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]


def drive(url, seconds):
    """Requests per second, and the latency of half and of 99 % of them in milliseconds."""
    out = subprocess.run(["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", url + "/check"],
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    return {"requests_per_second": float(re.search(r"Requests/sec:\s*([\d.]+)", out)[1]),
            "p50_ms": milliseconds(re.search(r"^\s+50%\s+(\S+)$", out, re.M)[1]),
            "p99_ms": milliseconds(re.search(r"^\s+99%\s+(\S+)$", out, re.M)[1])}


def measure(program, seconds):
    """None where wrk is not installed."""
    if not shutil.which("wrk"):
        return None
    with server(program) as url:
        drive(url, 1)  # warm
        alone = drive(url, seconds)
        over = threading.Event()

        def sort_on():
            while not over.is_set():
                urllib.request.urlopen(url + "/work/5").read()

        sorters = [threading.Thread(target=sort_on) for _ in range(4)]
        for thread in sorters:
            thread.start()
        try:
            busy = drive(url, seconds)
        finally:
            over.set()
            for thread in sorters:
                thread.join()
    return {"alone": alone, "while sorting": busy}
