# SPDX-License-Identifier: BSL-1.0
"""Compiles each *.cpp beside this file and checks what the compiler says.

A case says at its head, in comment lines of their own, what must happen:

    // case: a sentence                its title; without it the file's name
    // flavor: error                   (the default) it must not compile
    // flavor: warning                 it must compile and draw a warning
    // flavor: pass                    it must compile without a warning
    // expect: text                    the message must contain this; several lines: each of them
    // expect-regex: regex             the same, as a Python regular expression
    // reject: text                    the message must not contain this
    // only: gcc12                     only for this compiler: gcc, clang, gccN, clangN, gcc<=N, gcc>=N, ...

`error` and `warning` need at least one `expect`. White space in messages is squeezed before comparing, because compilers
break long lines. The compiler and its flags are those of another source of the same build (--like); what follows `--`
is added to them. Ends with `N passed, N failed[, N skipped]`.
"""

import argparse
import concurrent.futures
import fnmatch
import operator
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from compile_flags import command_of, without_launcher  # noqa: E402

DIRECTIVE = re.compile(r"^\s*//\s*(case|flavor|expect|expect-regex|reject|only):\s*(.*?)\s*$")


class Case:
    def __init__(self, path):
        self.path = path
        self.title = os.path.basename(path)[: -len(".cpp")].replace("_", " ")
        self.flavor = "error"
        self.expect, self.regex, self.reject, self.only = [], [], [], []
        with open(path, encoding="utf-8") as file:
            for line in file:
                found = DIRECTIVE.match(line)
                if not found:
                    continue
                key, value = found.groups()
                if key == "case":
                    self.title = value
                elif key == "flavor":
                    self.flavor = value
                else:
                    {"expect": self.expect, "expect-regex": self.regex, "reject": self.reject,
                     "only": self.only}[key].append(value)

    def mistake(self):
        if self.flavor not in ("error", "warning", "pass"):
            return f"unknown flavor '{self.flavor}'"
        if self.flavor != "pass" and not self.expect and not self.regex:
            return "says nothing about the message (// expect:)"
        return None


def compiler_version(command):
    """Returns ("gcc" or "clang", major version)."""
    macros = subprocess.run(command[:1] + ["-dM", "-E", "-x", "c++", os.devnull],
                            stdout=subprocess.PIPE, text=True, check=True).stdout
    values = dict(re.findall(r"^#define (__clang_major__|__GNUC__) (\d+)$", macros, re.MULTILINE))
    if "__clang_major__" in values:
        return "clang", int(values["__clang_major__"])
    return "gcc", int(values["__GNUC__"])


def applies(conditions, compiler):
    name, version = compiler
    relations = {"": operator.eq, "=": operator.eq, "<=": operator.le, ">=": operator.ge,
                 "<": operator.lt, ">": operator.gt}
    for condition in conditions:
        found = re.fullmatch(r"(gcc|clang)(<=|>=|<|>|=)?(\d+)?", condition.replace(" ", ""))
        if not found:
            raise SystemExit(f"cannot read '// only: {condition}'")
        wanted, relation, number = found.groups()
        if wanted == name and (number is None or relations[relation or ""](version, int(number))):
            return True
    return not conditions


def run(case, command, build_dir):
    """Returns None, or what is wrong."""
    if case.mistake():
        return case.mistake()
    result = subprocess.run(command + ["-fsyntax-only", case.path], cwd=build_dir, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace",
                            env=dict(os.environ, LC_ALL="C"), check=False)
    message = " ".join(result.stdout.split())
    complaints = []
    if case.flavor == "error" and result.returncode == 0:
        complaints.append("it compiles, and must not")
    if case.flavor != "error" and result.returncode != 0:
        complaints.append("it does not compile, and must")
    if case.flavor == "warning" and "warning:" not in message:
        complaints.append("there is no warning")
    if case.flavor == "pass" and "warning:" in message:
        complaints.append("there is a warning")
    complaints += [f"the message lacks: {text}" for text in case.expect if " ".join(text.split()) not in message]
    complaints += [f"the message does not match: {text}" for text in case.regex if not re.search(text, message)]
    complaints += [f"the message must not have: {text}" for text in case.reject if " ".join(text.split()) in message]
    if not complaints:
        return None
    shown = result.stdout if len(result.stdout) < 6000 else result.stdout[:6000] + "\n[…]\n"
    return "; ".join(complaints) + "\n" + shown


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True, help="build directory with a compile_commands.json")
    parser.add_argument("--like", required=True, help="the source whose flags are taken")
    parser.add_argument("--test-case", default=os.environ.get("BOTHWORLDS_TEST_CASE", "*"),
                        help="only cases whose title or file name matches, as a doctest binary takes it")
    parser.add_argument("--jobs", type=int, default=int(os.environ.get("BOTHWORLDS_TEST_JOBS", "0")) or os.cpu_count())
    parser.add_argument("extra", nargs="*")
    options = parser.parse_args()

    command = without_launcher(command_of(options.build, options.like)) + options.extra
    # A case asks for a warning by name; here it must stay one.
    command = [word for word in command if word != "-Werror"]
    compiler = compiler_version(command)

    cases = [Case(os.path.join(HERE, name)) for name in sorted(os.listdir(HERE)) if name.endswith(".cpp")]
    pattern = options.test_case.lower()
    cases = [case for case in cases if fnmatch.fnmatchcase(case.title.lower(), pattern)
             or fnmatch.fnmatchcase(os.path.basename(case.path).lower(), pattern)]
    chosen = [case for case in cases if applies(case.only, compiler)]

    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as executor:
        for case, problem in zip(chosen, executor.map(lambda case: run(case, command, options.build), chosen)):
            if problem is None:
                passed += 1
            else:
                failed += 1
                print(f"FAILED: {case.title}  ({case.path})\n  {problem}")
    skipped = len(cases) - len(chosen)
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
