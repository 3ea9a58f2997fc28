#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Measures everything and writes the table, bench.json and bench.svg. tools/bench calls it."""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import chart
import machine
import table
import timing
from results import CURVES, OURS, TITLES, Figure, Results

parser = argparse.ArgumentParser(prog="bench")
parser.add_argument("--build", type=Path, required=True, help="the build folder")
parser.add_argument("--output", type=Path, help="where table, JSON and chart go; without it: the build folder")
parser.add_argument("--cases", help="only these, for example B1,B3,in_flight")
parser.add_argument("--quick", action="store_true", help="a few seconds, for whether it works: the figures mean nothing")
options = parser.parse_args()

FULL = timing.Effort(repetitions=7, seconds=0.1)
CURVE = timing.Effort(repetitions=3, seconds=0.05)
QUICK = timing.Effort(repetitions=1, seconds=0.001)

programs = options.build / "bench"
started = time.monotonic()


class Progress:
    """One line on a terminal that is written over; a line for each step where there is none."""

    def __init__(self, steps):
        self.left, self.steps, self.done = steps, steps, 0

    def step(self, what):
        self.done += 1
        elapsed = time.monotonic() - started
        line = f"[{self.done}/{self.steps} {elapsed:4.0f} s] {what}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def wanted(name):
    return not options.cases or name in options.cases.split(",")


def measure(results, case, cpus):
    effort = QUICK if options.quick else FULL
    for subject, (ns, least, cpu) in timing.run(programs / "bench_timing", f"^{case}/", cpus, effort).items():
        results.figures.append(Figure(case, cpus, subject, ns, least, cpu))


def measure_curve(results, name):
    lines = {}
    effort, pattern = (QUICK, f"^{name}/.*/10?0?/process_time") if options.quick else (CURVE, f"^{name}/")
    for subject, (ns, _, _) in timing.run(programs / "bench_timing", pattern, "all", effort).items():
        who, x = subject.rsplit("/", 1)
        lines.setdefault(who, []).append((int(x), ns))
    results.curves[name] = {who: sorted(seen) for who, seen in lines.items()}


def count_allocations(results, case):
    printed = subprocess.run([programs / "bench_allocations", f"{case}/{OURS}" if options.quick else f"{case}/"], stdout=subprocess.PIPE, check=True).stdout
    for name, each in json.loads(printed).items():
        for figure in results.figures:
            if f"{figure.case}/{figure.subject}" == name:
                figure.allocations = each


def main():
    cases = [case for case in TITLES if wanted(case)]
    curves = [name for name in CURVES if wanted(name)]
    if options.quick:
        curves = [] if options.cases is None else curves
    progress = Progress(3 * len(cases) + len(curves))
    results = Results(machine.describe())
    for case in cases:
        for cpus, place in table.PLACES.items():
            progress.step(f"{case}, {place}: {TITLES[case]}")
            measure(results, case, cpus)
        progress.step(f"{case}: heap allocations")
        count_allocations(results, case)
    for name in curves:
        progress.step(f"curve: {CURVES[name][0]}")
        measure_curve(results, name)
    progress.end()

    out = options.output or options.build
    (out / "bench.json").write_text(json.dumps(results.as_json(), indent=1))
    (out / "bench.svg").write_text(chart.svg(results))
    (out / "bench.md").write_text(table.markdown(results))
    print(machine.as_text(results.machine))
    print(table.plain(results))
    print(f"Written: {out}/bench.json, bench.svg and bench.md")


main()
