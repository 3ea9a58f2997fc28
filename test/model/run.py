#!/usr/bin/env python3
# SPDX-License-Identifier: BSL-1.0
"""Checks the models beside it with spin: every state that they can reach.

Lines that begin with `//!` in a model say what is to be done with it:
  mirrors FILE FUNCTION...    what it is a model of; the functions must be there
  check [DEFINE...]           spin must find nothing wrong, having seen all states
  refute DEFINE... TEXT       with these faults built in, spin must find something wrong
A model that cannot fail proves nothing, so each one has faults.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

here = Path(__file__).resolve().parent
root = here.parents[1]
pattern = os.environ.get("BOTHWORLDS_TEST_CASE", "*").lower()
jobs = int(os.environ.get("BOTHWORLDS_TEST_JOBS", os.cpu_count()))


def directives(model: Path):
    for line in model.read_text().splitlines():
        if found := re.match(r"//!\s+(\w+)\s*(.*)", line):
            yield found[1], found[2].split()


def cases():
    for model in sorted(here.glob("*.pml")):
        for verb, words in directives(model):
            if verb == "mirrors":
                yield f"{model.stem} mirrors {words[0]}", mirrors, (words[0], words[1:])
                continue
            defines = [word for word in words if re.fullmatch(r"[A-Z][A-Z0-9_]+(=\w+)?", word)]
            why = " ".join(words[len(defines):])
            title = f"{model.stem} {' '.join(defines)}".strip()
            if verb == "check":
                yield f"{title} holds", verify, (model, defines, False)
            elif verb == "refute":
                yield f"{title} is refuted: {why}", verify, (model, defines, True)
            else:
                raise SystemExit(f"{model.name}: unknown directive {verb}")


def mirrors(file: str, functions: list[str]) -> str:
    text = (root / file).read_text() if (root / file).exists() else ""
    gone = [name for name in functions if f"{name}(" not in text]
    return f"{file} has no {', '.join(gone)}: look at the model again" if gone or not functions else ""


def verify(model: Path, defines: list[str], wanted_refuted: bool) -> str:
    with tempfile.TemporaryDirectory() as directory:
        def call(*command: str) -> str:
            done = subprocess.run(command, cwd=directory, text=True, errors="replace",
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
            return done.stdout

        output = call("spin", "-a", *(f"-D{define}" for define in defines), str(model))
        if not (Path(directory) / "pan.c").exists():
            return output
        # -DSAFETY: assertions and invalid end states; -DNOFAIR and the like follow from it.
        output += call("gcc", "-O0", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c")
        # -m: how deep a run may be. A search that had to stop there is none.
        output += call("timeout", "200", "./pan", "-m1000000", "-w22", "-n",)
        found = re.search(r"errors: (\d+)", output)
        if "Error:" in output or not found or "max search depth too small" in output or "out of memory" in output:
            return output
        refuted = found[1] != "0"
        if refuted == wanted_refuted and (refuted or "Search not completed" not in output):
            return ""
        if not refuted:
            return "nothing was found wrong, although the fault is built in\n" + output
        return output + call("spin", "-t", "-k", f"{model.name}.trail", "-p", "-g", "-l", *(f"-D{define}" for define in defines), str(model))


chosen = [case for case in cases() if fnmatchcase(case[0].lower(), pattern)]
if not shutil.which("spin"):
    print("spin is not installed (tools/setup does it), so the models are not checked")
    print(f"0 passed, 0 failed, {len(chosen)} skipped")
    sys.exit()

with ThreadPoolExecutor(jobs) as executor:
    outcomes = list(executor.map(lambda case: case[1](*case[2]), chosen))
failed = 0
for (title, _, _), complaint in zip(chosen, outcomes):
    print(f"{'FAILED' if complaint else 'ok'}: {title}")
    if complaint:
        failed += 1
        print(complaint[-6000:])
print(f"{len(chosen) - failed} passed, {failed} failed")
sys.exit(bool(failed))
