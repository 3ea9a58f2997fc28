# SPDX-License-Identifier: BSL-1.0
"""Runs watchdog_victim's cases and checks that each way to go wrong is told, with the name of the case."""

import argparse
import fnmatch
import os
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("victim")
parser.add_argument("--test-case", default=os.environ.get("BOTHWORLDS_TEST_CASE", "*"),
                    help="only cases whose title matches, as a doctest binary takes it")
options = parser.parse_args()

CASES = [
    ("a case that hangs ends the run with its name and its stacks", "hangs", 99, ["TIMED OUT", "wait_for_ever"]),
    ("a case that crashes is named", "crashes", -6, ["CRASHED with SIGABRT"]),
    ("a case that fails fails the run", "fails", 1, ["test cases: 1 | 0 passed | 1 failed"]),
    ("a case that passes passes the run", "passes", 0, ["test cases: 1 | 1 passed | 0 failed"]),
]

passed = failed = 0
for title, case, wanted_code, wanted_texts in CASES:
    if not fnmatch.fnmatchcase(title.lower(), options.test_case.lower()):
        continue
    environment = dict(os.environ, BOTHWORLDS_TEST_TIMEOUT="1")
    environment.pop("BOTHWORLDS_TEST_LONG", None)
    run = subprocess.run([os.path.abspath(options.victim), f"--test-case={case}", "--no-colors"], env=environment,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    output = " ".join(run.stdout.split())
    if wanted_code in (99, -6):
        wanted_texts = wanted_texts + [f"in the test case: {case}"]
    missing = [text for text in wanted_texts if text not in output]
    if run.returncode == wanted_code and not missing:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {title}: exit code {run.returncode}, wanted {wanted_code}; not found: {missing}")
        print(run.stdout)

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
