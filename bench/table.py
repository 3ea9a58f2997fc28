# SPDX-License-Identifier: BSL-1.0
"""The figures as a table: plain for a terminal, or Markdown for docs/performance.md."""

import goals
from goals import PLACES
from results import TITLES, is_ours

HEAD = ("", "ns per call", "best", "CPU", "allocations", "ours / theirs")


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def count(value):
    return "–" if value is None else f"{value:.2f}"


def ratio(mine, theirs):
    if not mine:
        return ""
    value = mine.ratio_to(theirs)
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def groups(results):
    """(title, rows) for each case and placement; ours first, then the quickest baseline."""
    for case, title in TITLES.items():
        for cpus, place in PLACES.items():
            seen = [f for f in results.figures if (f.case, f.cpus) == (case, cpus)]
            if not any(is_ours(f.subject) for f in seen):
                continue
            mine = [f for f in seen if is_ours(f.subject)]
            others = sorted((f for f in seen if not is_ours(f.subject)), key=lambda f: f.ns)
            yield f"{case}, {place}: {title}", [
                (f.subject, number(f.ns), number(f.least_ns), number(f.cpu_ns), count(f.allocations),
                 "" if is_ours(f.subject) else ratio(results.ours_for(f), f))
                for f in mine + others]


def extras(results):
    """Lines about what is not a time."""
    memory = results.extra.get("queued_bytes")
    if memory:
        yield ("B6: heap bytes for each of 100,000 coroutines with a call queued: " +
               ", ".join(f"{who} {size:,.0f}" for who, size in memory.items()))
    for name, load in (results.extra.get("http") or {}).items():
        yield (f"B11: the demo server's /check under wrk, {name}: {load['requests_per_second']:,.0f} requests per second, "
               f"half within {load['p50_ms']:.2f} ms, 99 % within {load['p99_ms']:.2f} ms")
    cost = results.extra.get("build_cost")
    if cost:
        yield (f"one use in a file that already includes what it needs of Asio ({cost['without'][0]:.1f} s, "
               f"{cost['without'][1] / 1024:.0f} KiB): " +
               "; ".join(f"{name} adds {cost[name][0]:.1f} s, {cost[name][1] / 1024:.0f} KiB"
                         for name in ("sync_to_async", "async_to_sync")))
    if "idle_wakeups" in results.extra:
        yield f"wake-ups of an idle process in 10 s: {results.extra['idle_wakeups']}"


def goal_rows(results):
    return [(goal, seen, at_most, "yes" if met else "no") for goal, seen, at_most, met in goals.rows(results)]


def plain(results):
    lines = []
    for title, rows in groups(results):
        lines += ["", title]
        lines.append(f"  {HEAD[0]:42}{HEAD[1]:>14}{HEAD[2]:>12}{HEAD[3]:>12}{HEAD[4]:>13}{HEAD[5]:>15}")
        lines += [f"  {r[0]:42}{r[1]:>14}{r[2]:>12}{r[3]:>12}{r[4]:>13}{r[5]:>15}" for r in rows]
    lines += [""] + list(extras(results))
    lines += ["", f"{'goal':58}{'seen':>10}{'at most':>10}{'met':>6}"]
    lines += [f"{r[0]:58}{r[1]:>10}{r[2]:>10}{r[3]:>6}" for r in goal_rows(results)]
    lines += [f"note: {note}" for note in results.notes]
    return "\n".join(lines)


def markdown(results):
    lines = ["| | ns per call | best | CPU | heap allocations | ours / theirs |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for title, rows in groups(results):
        lines.append(f"| **{title}** | | | | | |")
        lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += [""] + [f"- {line}" for line in list(extras(results)) + results.notes]
    lines += ["", "| goal | seen | at most | met |", "| --- | ---: | ---: | --- |"]
    lines += ["| " + " | ".join(row) + " |" for row in goal_rows(results)]
    return "\n".join(lines) + "\n"
