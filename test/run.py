# SPDX-License-Identifier: BSL-1.0
"""Runs the tests of a build directory and sums their test cases. tools/test calls it.

The tests are those that Meson knows. A doctest binary (suites `unit` and `demo`) is counted by the line that
doctest ends with, a script by its own last line `N passed, N failed`, any other program (suite `examples`) as one case. A program that
crashes, runs out of time or ends without its line counts as one failed case on top of what it reported.
"""

import argparse
import concurrent.futures
import fnmatch
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

DOCTEST_LINE = re.compile(r"^\[doctest\] test cases:\s*(\d+) \|\s*(\d+) passed \|\s*(\d+) failed \|\s*(\d+) skipped", re.M)
SCRIPT_LINE = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?$", re.M)

SANITIZER_FACTOR = 5
LONG_FACTOR = 60
LAST_LINES = 60  # of what a test that failed has printed

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True)
parser.add_argument("--filter", default="")
parser.add_argument("--without", default="")
parser.add_argument("--repeat", type=int, default=1)
parser.add_argument("--jobs", type=int, default=os.cpu_count())
parser.add_argument("--sanitizer", default="none")
parser.add_argument("--long", action="store_true")
parser.add_argument("--verbose", action="store_true")
options = parser.parse_args()

print_lock = threading.Lock()
stop = threading.Event()  # set at ctrl-C: what is queued is not started
failures = []  # what those printed that failed


class Outcome:
    def __init__(self, passed=0, failed=0, skipped=0, why=None):
        self.passed, self.failed, self.skipped, self.why = passed, failed, skipped, why


def load_tests():
    listing = subprocess.run(["meson", "introspect", "--tests", options.build],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    tests = []
    for test in json.loads(listing):
        suites = {suite.split(":")[-1] for suite in test["suite"]}
        tests.append({
            "name": test["name"],
            "command": test["cmd"],
            "env": test["env"],
            "workdir": test.get("workdir"),
            "timeout": test["timeout"],
            "parallel": test["is_parallel"],
            "kind": "doctest" if suites & {"unit", "demo"} else "program" if "examples" in suites else "script",
        })
    return tests


def count(kind, output, code):
    """What a test that was not stopped by us reported."""
    lines = list((DOCTEST_LINE if kind == "doctest" else SCRIPT_LINE).finditer(output))
    if kind == "program":
        return Outcome(passed=1) if code == 0 else Outcome(failed=1, why=ending(code))
    if not lines:
        return Outcome(failed=1, why=f"{ending(code)}, without a summary")
    numbers = [int(number or 0) for number in lines[-1].groups()]
    passed, failed, skipped = numbers[1:] if kind == "doctest" else numbers
    if options.filter:
        skipped = 0  # doctest counts what the filter leaves out
    if code != 0 and failed == 0:
        return Outcome(passed, 1, skipped, f"{ending(code)} although no test case failed")
    return Outcome(passed, failed, skipped, ending(code) if failed else None)


def ending(code):
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return {99: "timed out in a test case"}.get(code, f"exit code {code}")


def run(test):
    if stop.is_set():
        return Outcome(failed=1, why="not started"), "", 0.0
    command = list(test["command"])
    # A comma would begin a second pattern. Scripts read it from their environment.
    pattern = "*" + options.filter.replace(",", "?") + "*" if options.filter else "*"
    if test["kind"] == "doctest":
        command += ["--no-colors", "--no-version"]
    if options.filter:
        if test["kind"] == "program":
            if not fnmatch.fnmatch(test["name"].lower(), f"*{options.filter.lower()}*"):
                return Outcome(), "", 0.0
        elif test["kind"] == "doctest":
            command.append("--test-case=" + pattern)

    environment = dict(os.environ, BOTHWORLDS_TEST_JOBS=str(options.jobs), BOTHWORLDS_TEST_CASE=pattern)
    environment.update(test["env"])
    limit = test["timeout"]
    if options.sanitizer != "none":
        limit *= SANITIZER_FACTOR
    if options.long:
        limit *= LONG_FACTOR
        environment["BOTHWORLDS_TEST_LONG"] = "1"

    started = time.monotonic()
    # A process group of its own, so that running out of time ends the children, too. A child that outlives its parent
    # and keeps the pipe open counts as running out of time.
    process = subprocess.Popen(command, cwd=test["workdir"] or options.build, env=environment, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    timed_out = False
    try:
        raw, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        timed_out = True
        end_group(process)
        raw, _ = process.communicate()
    output = raw.decode(errors="replace")
    took = time.monotonic() - started
    outcome = Outcome(failed=1, why=f"took more than {limit} s") if timed_out else count(test["kind"], output, process.returncode)
    return outcome, output, took


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run_once(tests):
    totals = Outcome()
    done = 0

    def one(test):
        nonlocal done
        outcome, output, took = run(test)
        with print_lock:
            done += 1
            totals.passed += outcome.passed
            totals.failed += outcome.failed
            totals.skipped += outcome.skipped
            if options.filter and outcome.passed + outcome.failed == 0:
                return
            text = f"[{done}/{len(tests)}] {test['name']}: {outcome.passed} passed"
            text += f", {outcome.failed} FAILED ({outcome.why})" if outcome.failed else ""
            text += f", {outcome.skipped} skipped" if outcome.skipped else ""
            print(f"{text}  ({took:.1f} s)", flush=True)
            report = f"{output.rstrip()}\n[{test['name']}] was: {' '.join(test['command'])}"
            if outcome.failed or options.verbose:
                print(report, flush=True)
            if outcome.failed:
                failures.append([text] + report.splitlines()[-LAST_LINES:])

    side_by_side = [test for test in tests if test["parallel"]]
    alone = [test for test in tests if not test["parallel"]]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as executor:
        for future in [executor.submit(one, test) for test in side_by_side]:
            future.result()
    for test in alone:
        one(test)
    return totals


def main():
    left_out = set(options.without.split(","))
    tests = [test for test in load_tests() if test["name"] not in left_out]
    sums = Outcome()
    try:
        for number in range(1, options.repeat + 1):
            if options.repeat > 1:
                print(f"-- run {number} of {options.repeat}", flush=True)
            totals = run_once(tests)
            sums.passed += totals.passed
            sums.failed += totals.failed
            sums.skipped += totals.skipped
            if totals.failed:
                break
    except KeyboardInterrupt:
        stop.set()
        print("interrupted", file=sys.stderr)
        return 130
    # Once more at the end: of a long log that is what people look at, and often all that is kept.
    if failures:
        print("== what failed")
        for failure in failures:
            print("\n".join(failure))
    if sums.passed + sums.failed == 0:
        print("no test case ran" + (f": nothing matches '{options.filter}'" if options.filter else ""), file=sys.stderr)
    print(f"{sums.passed} passed, {sums.failed} failed" + (f", {sums.skipped} skipped" if sums.skipped else ""))
    return 0 if sums.failed == 0 and sums.passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
