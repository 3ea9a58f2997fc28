#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Measures everything and writes the table, bench.json and bench.svg. tools/bench calls it."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import build_cost
import chart
import http_load
import idle
import machine
import table
import timing
from goals import PLACES
from results import ALL_CPUS_ONLY, CURVES, OURS, TITLES, Figure, Results

parser = argparse.ArgumentParser(prog="bench")
parser.add_argument("--build", type=Path, required=True, help="the build folder")
parser.add_argument("--output", type=Path, help="where table, JSON and chart go; without it: the build folder")
parser.add_argument("--cases", help="only these, for example B1,B3,in_flight")
parser.add_argument("--quick", action="store_true", help="a few seconds, for whether it works: the figures mean nothing")
parser.add_argument("--docs", action="store_true", help="write chart and table into docs/, too")
options = parser.parse_args()

FULL = timing.Effort(rounds=9, turns=2, seconds=0.02, most_rounds=31, enough=6)
CURVE = timing.Effort(rounds=1, turns=3, seconds=0.02)
QUICK = timing.Effort(rounds=1, turns=1, seconds=0.001)

root = Path(__file__).resolve().parents[1]
programs = options.build / "bench"


class Progress:
    """One line on a terminal that is written over; a line for each step where there is none."""

    def __init__(self, steps):
        self.steps, self.done, self.started = steps, 0, time.monotonic()

    def step(self, what):
        self.done += 1
        line = f"[{self.done}/{self.steps} {time.monotonic() - self.started:4.0f} s] {what}"
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def measure(results, case, cpus):
    effort = QUICK if options.quick else FULL
    for subject, seen in timing.run(programs / "bench_timing", f"^{case}/", cpus, effort).items():
        results.figures.append(Figure(case, cpus, subject, seen.median, seen.least, seen.cpu,
                                      rounds_ns=seen.rounds, rounds_cpu_ns=seen.cpu_rounds))


def measure_curve(results, name):
    lines = {}
    effort, pattern = (QUICK, f"^{name}/.*/10?0?/process_time") if options.quick else (CURVE, f"^{name}/")
    for subject, seen in timing.run(programs / "bench_timing", pattern, "all", effort).items():
        who, x = subject.rsplit("/", 1)
        lines.setdefault(who, []).append((int(x), seen.median))
    results.curves[name] = {who: sorted(seen) for who, seen in lines.items()}


def count_allocations(results, case):
    printed = subprocess.run([programs / "bench_allocations", f"{case}/{OURS}" if options.quick else f"{case}/"],
                             stdout=subprocess.PIPE, check=True).stdout
    for name, each in json.loads(printed).items():
        for figure in results.figures:
            if f"{figure.case}/{figure.subject}" == name:
                figure.allocations = each


def measure_peers(results, cases, cpus):
    """In Python, beside it: Debian's interpreter is the one that sees Debian's packages."""
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    printed = subprocess.run([python, Path(__file__).parent / "peers.py"] + ([] if cpus == "all" else ["--one-cpu"]),
                             stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(printed)
    for name, seen in found["figures"].items():
        case, subject = name.split("/", 1)
        if case in cases:
            results.figures.append(Figure(case, cpus, subject + " (Python)", statistics.median(seen), min(seen)))
    for peer in found["missing"]:
        note = f"{peer} is not installed and was left out: tools/setup --bench"
        if note not in results.notes:
            results.notes.append(note)


def measure_http(results):
    results.extra["http"] = http_load.measure(options.build / "examples/bothworlds-demo", 4)
    if results.extra["http"] is None:
        results.notes.append("wrk is not installed, B11 was left out: tools/setup --bench")


def steps(results):
    """(what, how) of everything that is asked for."""
    asked = options.cases.split(",") if options.cases else None
    cases = [case for case in TITLES if asked is None or case in asked]
    for case in cases:
        for cpus, place in PLACES.items():
            if cpus == "all" or case not in ALL_CPUS_ONLY:
                yield f"{case}, {place}: {TITLES[case]}", lambda c=case, p=cpus: measure(results, c, p)
        yield f"{case}: heap allocations", lambda c=case: count_allocations(results, c)
    for name in CURVES:
        if name in asked if asked else not options.quick:
            yield f"curve: {CURVES[name][0]}", lambda n=name: measure_curve(results, n)
    if options.quick:
        return
    for cpus, place in PLACES.items():
        if any(case in cases for case in ("B1", "B2", "B3", "B4", "B5", "B7", "B8")):
            yield f"asgiref, anyio, asyncio, {place}", lambda p=cpus: measure_peers(results, cases, p)
    if not asked or "B6" in asked:
        yield "B6: bytes of queued coroutines", lambda: results.extra.update(queued_bytes=json.loads(
            subprocess.run([programs / "bench_queued_memory"], stdout=subprocess.PIPE, check=True).stdout))
    if not asked or "B11" in asked:
        yield "B11: the demo server under wrk", lambda: measure_http(results)
    if not asked or "build" in asked:
        yield "compile time and object size", lambda: results.extra.update(
            build_cost=build_cost.measure(options.build, 2))
    if not asked or "idle" in asked:
        yield "an idle process, 22 s", lambda: results.extra.update(
            idle_wakeups=idle.measure(programs / "bench_idle"))


def take_over(results, earlier):
    """What is no time, and was not asked for now, from the last run into the same folder."""
    if options.cases and earlier.exists():
        results.extra = json.loads(earlier.read_text()).get("extra", {}) | results.extra


def write(results):
    out = options.output or options.build
    take_over(results, out / "bench.json")
    (out / "bench.json").write_text(json.dumps(results.as_json(), indent=1))
    (out / "bench.svg").write_text(chart.svg(results))
    (out / "bench.md").write_text(table.markdown(results))
    print(machine.as_text(results.machine))
    print(table.plain(results))
    print(f"Written: {out}/bench.json, bench.svg and bench.md")
    if options.docs:
        (root / "docs/performance.svg").write_text(chart.svg(results))
        page = root / "docs/performance.md"
        begin, end = "<!-- figures -->\n", "<!-- end of figures -->\n"
        before, rest = page.read_text().split(begin)
        page.write_text(before + begin + "\n![Time per call, ours and the baselines](performance.svg)\n\n" + machine.as_text(results.machine) + ".\n\n" + table.markdown(results) +
                        "\n" + end + rest.split(end)[1])


def main():
    results = Results(machine.describe())
    todo = list(steps(results))
    progress = Progress(len(todo))
    for what, how in todo:
        progress.step(what)
        how()
    progress.end()
    write(results)


main()
