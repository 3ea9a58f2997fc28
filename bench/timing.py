# SPDX-License-Identifier: BSL-1.0
"""Runs the timing program and reads what Google Benchmark says."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Effort:
    rounds: int  # in each of which every subject has its turns
    turns: int
    seconds: float  # each turn takes at least this long
    most_rounds: int = 0  # so many, while they have not taken `enough` seconds: short rounds are cheap
    enough: float = 0


@dataclass(frozen=True)
class Times:
    """Nanoseconds per call of one subject."""

    median: float
    least: float
    cpu: float  # median CPU time of the whole process
    rounds: list[float]  # the mean of each round; that of another subject's same round is from the same moment
    cpu_rounds: list[float]


def on_one_cpu():
    """Of those that may run this process, the last: the first has most of the interrupts."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def run(program, pattern, cpus, effort):
    """{subject: Times} for the subjects whose names match `pattern`.

    In a round all of them run in one process, and their turns in random order: what disturbs the machine for a moment
    disturbs any of them, and what disturbs it for longer, all of them in that round.
    """
    seen = defaultdict(list)  # subject -> for each round its turns
    started = time.monotonic()
    for count in range(max(effort.rounds, effort.most_rounds)):
        if count >= effort.rounds and time.monotonic() - started > effort.enough:
            break
        turns = defaultdict(list)
        for row in one_round(program, pattern, cpus, effort):
            if row["run_type"] != "iteration":
                continue
            subject = row["name"].split("/process_time")[0].split("/", 1)[1]
            scale = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row["time_unit"]] / row["calls"]
            turns[subject].append((row["real_time"] * scale, row["cpu_time"] * scale))
        for subject, those in turns.items():
            seen[subject].append(those)
    return {subject: times(rounds) for subject, rounds in seen.items()}


def one_round(program, pattern, cpus, effort):
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        subprocess.run(
            [program, f"--benchmark_filter={pattern}", f"--benchmark_out={out}", "--benchmark_out_format=json",
             f"--benchmark_repetitions={effort.turns}", "--benchmark_enable_random_interleaving=true",
             f"--benchmark_min_time={effort.seconds}"],
            preexec_fn=on_one_cpu if cpus == "one" else None,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return json.loads(out.read_text())["benchmarks"]


def times(rounds):
    real = [turn[0] for turns in rounds for turn in turns]
    return Times(statistics.median(real), min(real), statistics.median(turn[1] for turns in rounds for turn in turns),
                 [statistics.mean(turn[0] for turn in turns) for turns in rounds],
                 [statistics.mean(turn[1] for turn in turns) for turns in rounds])
