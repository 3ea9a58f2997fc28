# SPDX-License-Identifier: BSL-1.0
"""What the figures are to be. Printed with each run, never enforced: a benchmark is no test."""

from dataclasses import dataclass

AS_WRITTEN = "Asio as written"
EXPERT = "Asio by an expert"
GROUP = "Asio's parallel group"
CHANNEL = "concurrent_channel"
QUEUE = "mutex and condvar"
PLACES = {"all": "all CPUs", "one": "one CPU"}


@dataclass(frozen=True)
class Ratio:
    """Ours / theirs, in the same process."""

    case: str
    cpus: str  # "all" or "one"
    baseline: str
    at_most: float
    variant: str = ""
    what: str = "ns"  # or cpu_ns

    def text(self):
        parts = [self.case, self.variant, PLACES[self.cpus], "CPU time" if self.what == "cpu_ns" else ""]
        return ", ".join(part for part in parts if part) + f" / {self.baseline}"


RATIOS = [
    Ratio("B1", "all", AS_WRITTEN, 0.2),
    Ratio("B1", "all", EXPERT, 0.4),
    Ratio("B2", "all", EXPERT, 0.65),
    Ratio("B3", "all", EXPERT, 0.1),
    Ratio("B3", "one", "raw futex", 1.25),
    Ratio("B4", "all", EXPERT, 0.35),
    Ratio("B4", "one", EXPERT, 0.25),
    Ratio("B9", "all", EXPERT, 1.02, variant="1000 µs"),
    Ratio("B9", "all", EXPERT, 1.05, variant="1000 µs", what="cpu_ns"),
    Ratio("B9", "all", f"{EXPERT} on one thread", 1.02, variant="1000 µs"),
    Ratio("B9", "all", f"{EXPERT} on one thread", 1.05, variant="1000 µs", what="cpu_ns"),
    Ratio("B12", "all", GROUP, 1, variant="ready"),
    Ratio("B12", "all", GROUP, 1, variant="yielding"),
    Ratio("B13", "all", CHANNEL, 2, variant="tried"),
    Ratio("B13", "all", CHANNEL, 2, variant="one coroutine"),
    Ratio("B13", "all", CHANNEL, 2, variant="two coroutines, capacity 1"),
    Ratio("B13", "all", CHANNEL, 2, variant="two coroutines, capacity 64"),
    Ratio("B13", "all", QUEUE, 1, variant="two threads, capacity 1"),
    Ratio("B13", "all", QUEUE, 1, variant="two threads, capacity 64"),
    Ratio("B13", "one", QUEUE, 1, variant="two threads, capacity 1"),
    Ratio("B13", "one", QUEUE, 1, variant="two threads, capacity 64"),
    Ratio("B14", "all", "untracked", 1.05, variant="offloads"),
    Ratio("B14", "one", "untracked", 1.05, variant="offloads"),
    Ratio("B14", "all", "untracked", 1.05, variant="calls back"),
    Ratio("B14", "one", "untracked", 1.05, variant="calls back"),
]

NESTING_NS = 5000  # B5, for each level
BYTES_BEYOND_BARE = 200  # B6
BYTES_IN_ALL = 700
NO_ALLOCATION = ["B1", "B2", "B3", "B4", "B5", "B7", "B8"]


def rows(results):
    """(goal, seen, at most, met) of what this run has measured."""
    for goal in RATIOS:
        mine = results.find(goal.case, goal.cpus, variant_of("bothworlds", goal.variant))
        theirs = results.find(goal.case, goal.cpus, variant_of(goal.baseline, goal.variant))
        if mine and theirs:
            value = mine.ratio_to(theirs, goal.what)
            yield goal.text(), f"{value:.2f}", f"{goal.at_most}", value <= goal.at_most
    for figure in results.figures:
        if figure.case == "B5" and figure.subject.startswith("bothworlds") and figure.cpus == "all":
            yield (f"B5{figure.subject.removeprefix('bothworlds')}, ns per level", f"{figure.ns:,.0f}",
                   f"{NESTING_NS:,}", figure.ns <= NESTING_NS)
    memory = results.extra.get("queued_bytes")
    if memory:
        for bare in ["bare coroutine", "bare coroutine, use_awaitable"]:
            beyond = memory["bothworlds"] - memory[bare]
            yield f"B6, bytes beyond a {bare}", f"{beyond:.0f}", f"{BYTES_BEYOND_BARE}", beyond <= BYTES_BEYOND_BARE
        spawned = memory["bothworlds, by its own spawn"]
        yield "B6, bytes in all by its own spawn", f"{spawned:,.0f}", f"{BYTES_IN_ALL}", spawned <= BYTES_IN_ALL
    for case in NO_ALLOCATION:
        seen = [f.allocations for f in results.figures
                if f.case == case and f.cpus == "all" and f.subject.split(", ")[0] == "bothworlds"
                and f.allocations is not None]
        if seen:
            yield f"{case}, heap allocations per warm call", f"{max(seen):.3f}", "0", max(seen) < 0.0005
    if "idle_wakeups" in results.extra:
        count = results.extra["idle_wakeups"]
        yield "wake-ups of an idle process in 10 s", f"{count}", "0", count == 0


def variant_of(subject, variant):
    return f"{subject}, {variant}" if variant else subject
