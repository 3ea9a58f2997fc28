# SPDX-License-Identifier: BSL-1.0
"""The figures as a table: plain for a terminal, or Markdown for docs/performance.md."""

import goals
from results import OURS, TITLES

PLACES = {"all": "all CPUs", "one": "one CPU"}
HEAD = ("", "ns per call", "best", "CPU", "allocations", "ours / theirs")


def number(value):
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}"


def count(value):
    return "–" if value is None else f"{value:.2f}"


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours and theirs else ""


def groups(results):
    """(title, rows) for each case and placement; ours first, the quickest baseline next."""
    for case, title in TITLES.items():
        for cpus, place in PLACES.items():
            seen = [f for f in results.figures if (f.case, f.cpus) == (case, cpus)]
            if not seen:
                continue
            mine = results.find(case, cpus, OURS)
            seen.sort(key=lambda f: (f.subject != OURS, f.ns))
            yield f"{case}, {place}: {title}", [
                (f.subject, number(f.ns), number(f.least_ns), number(f.cpu_ns), count(f.allocations),
                 "" if f.subject == OURS or not mine else ratio(mine.ns, f.ns))
                for f in seen]


def goal_rows(results):
    for goal in goals.RATIOS:
        mine = results.find(goal.case, goal.cpus, OURS)
        theirs = results.find(goal.case, goal.cpus, goal.baseline)
        if mine and theirs:
            value = getattr(mine, f"{goal.what}") / getattr(theirs, f"{goal.what}")
            yield goal.text(), f"{value:.2f}", f"{goal.at_least}", "yes" if value <= goal.at_least else "no"
    for case in goals.NO_ALLOCATION:
        mine = results.find(case, "all", OURS)
        if mine and mine.allocations is not None:
            yield (f"{case} heap allocations per warm call", f"{mine.allocations:.3f}", "0",
                   "yes" if mine.allocations < 0.0005 else "no")


def plain(results):
    lines = []
    for title, rows in groups(results):
        lines += ["", title]
        lines.append(f"  {HEAD[0]:34}{HEAD[1]:>14}{HEAD[2]:>12}{HEAD[3]:>12}{HEAD[4]:>13}{HEAD[5]:>15}")
        lines += [f"  {r[0]:34}{r[1]:>14}{r[2]:>12}{r[3]:>12}{r[4]:>13}{r[5]:>15}" for r in rows]
    lines += ["", f"{'goal':58}{'seen':>10}{'at most':>10}{'met':>6}"]
    lines += [f"{r[0]:58}{r[1]:>10}{r[2]:>10}{r[3]:>6}" for r in goal_rows(results)]
    lines += [""] + [f"note: {note}" for note in results.notes]
    return "\n".join(lines)


def markdown(results):
    lines = ["| | ns per call | best | CPU | heap allocations | ours / theirs |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for title, rows in groups(results):
        lines.append(f"| **{title}** | | | | | |")
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "| goal | seen | at most | met |", "| --- | ---: | ---: | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in goal_rows(results)]
    lines += [""] + [f"- {note}" for note in results.notes]
    return "\n".join(lines) + "\n"
