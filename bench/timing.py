# SPDX-License-Identifier: BSL-1.0
"""Runs the timing program and reads what Google Benchmark says."""

import json
import os
import statistics
import subprocess
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Effort:
    repetitions: int
    seconds: float  # each repetition runs for at least this long


def on_one_cpu():
    """Of those that may run this process, the last: the first has most of the interrupts."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def run(program, pattern, cpus, effort):
    """{subject: (median ns, least ns, median cpu ns)} per call, for the subjects whose names match `pattern`.

    All of them run in one process, their repetitions in random order, so that what disturbs the machine disturbs all.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        subprocess.run(
            [program, f"--benchmark_filter={pattern}", f"--benchmark_out={out}", "--benchmark_out_format=json",
             f"--benchmark_repetitions={effort.repetitions}", "--benchmark_enable_random_interleaving=true",
             f"--benchmark_min_time={effort.seconds}"],
            preexec_fn=on_one_cpu if cpus == "one" else None,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        rows = json.loads(out.read_text())["benchmarks"]
    samples = defaultdict(list)
    for row in rows:
        if row["run_type"] != "iteration":
            continue
        subject = row["name"].split("/process_time")[0].split("/", 1)[1]
        scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row["time_unit"]] / row["calls"]
        samples[subject].append((row["real_time"] * scale, row["cpu_time"] * scale))
    return {subject: (statistics.median(real for real, _ in seen), min(real for real, _ in seen),
                      statistics.median(cpu for _, cpu in seen))
            for subject, seen in samples.items()}
