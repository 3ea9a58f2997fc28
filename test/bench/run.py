#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks that a quick run of the benchmarks gives its table, its JSON and its chart. No figure is looked at."""

import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from fnmatch import fnmatch
from pathlib import Path

run, build = Path(sys.argv[1]), Path(sys.argv[2])
passed, failures = 0, []


def check(name, holds, otherwise=""):
    global passed
    if not fnmatch(name.lower(), os.environ.get("BOTHWORLDS_TEST_CASE", "*").lower()):
        return
    if holds:
        passed += 1
    else:
        failures.append(name)
        print(f"bench: {name}: failed {otherwise}")


with tempfile.TemporaryDirectory() as folder:
    ended = subprocess.run([sys.executable, run, "--build", build, "--output", folder, "--quick", "--cases=B1,B3,B5,B8,in_flight"],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    check("a quick run of the benchmarks succeeds", ended.returncode == 0, ended.stderr)
    check("the table names ours and a baseline",
          all(name in ended.stdout for name in ("bothworlds", "Asio by an expert", "ours / theirs")), ended.stdout)
    found = Path(folder)
    results = json.loads((found / "bench.json").read_text()) if (found / "bench.json").exists() else {}
    seen = {(figure["case"], figure["cpus"], figure["subject"]): figure for figure in results.get("figures", [])}
    check("the JSON has a time and an allocation count for each case",
          all(seen.get((case, cpus, "bothworlds"), {}).get("ns", 0) > 0 and
              seen[case, cpus, "bothworlds"]["allocations"] is not None
              for case in ("B1", "B3", "B8") for cpus in ("all", "one")), seen.keys())
    # A count, not a time. B8's memory goes one way, from the worker to the loop; rare allocations are the exchange's.
    check("a warm call allocates nothing, also where it ends on another thread than it began on",
          all(seen.get((case, "all", "bothworlds"), {}).get("allocations", 1) < 0.1 for case in ("B1", "B3", "B8")))
    check("a warm nesting allocates nothing, whatever its depth",
          all(seen.get(("B5", "all", f"bothworlds, depth {depth}"), {}).get("allocations", 1) < 0.1
              for depth in (1, 8, 64, 1000)))
    check("the JSON has the curve", len(results.get("curves", {}).get("in_flight", {}).get("bothworlds", [])) > 2)
    chart = (found / "bench.svg").read_text() if (found / "bench.svg").exists() else "<none/>"
    check("the chart is an SVG with a dot for each figure",
          xml.fromstring(chart).tag.endswith("svg") and chart.count("<circle") >= len(seen) > 0)

print(f"{passed} passed, {len(failures)} failed")
sys.exit(bool(failures))
