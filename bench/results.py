# SPDX-License-Identifier: BSL-1.0
"""The figures of one run: what was measured, for which subject, on how many CPUs."""

import statistics
from dataclasses import asdict, dataclass, field

OURS = "bothworlds"

TITLES = {
    "B1": "blocking wait for a coroutine that is ready",
    "B2": "the same, yielding once",
    "B3": "one no-op offload and back, in a row",
    "B4": "1,000 coroutines × 100 no-op offloads, per offload",
    "B5": "nested crossings, pool of 2, per level",
    "B7": "thread-sensitive call from a sync root",
    "B8": "async_to_sync from a worker to its parent loop",
    "B9": "offload that computes for a while",
    "B10": "100 threads in async_to_sync at once, per call",
    "B12": "gather of 1,000 coroutines, per coroutine",
    "B13": "one item through a channel",
    "B14": "the same calls, with waits tracked and not",
    "context": "offload with context variables set",
}

# Only where all CPUs may be used: on one, the callable's own time hides the rest.
ALL_CPUS_ONLY = {"B9", "B10"}

CURVES = {
    "in_flight": ("no-op offloads in flight", "time per offload"),
    "threads": ("threads that block at once", "time per call"),
}


def is_ours(subject):
    return subject.split(", ")[0] == OURS


@dataclass
class Figure:
    case: str
    cpus: str  # "all" or "one"
    subject: str  # NAME, or NAME, VARIANT
    ns: float  # per call: the median of all turns
    least_ns: float
    cpu_ns: float | None = None  # CPU time of the whole process, per call
    allocations: float | None = None
    # For each round, what the subject took in it.
    rounds_ns: list[float] = field(default_factory=list)
    rounds_cpu_ns: list[float] = field(default_factory=list)

    def ratio_to(self, other, what="ns"):
        """The median of the ratios of all rounds, so that it does not depend on how fast the machine was when; of the
        medians, where `other` is from another program."""
        mine, theirs = getattr(self, "rounds_" + what), getattr(other, "rounds_" + what)
        if mine and len(mine) == len(theirs):
            return statistics.median(m / t for m, t in zip(mine, theirs))
        return getattr(self, what) / getattr(other, what)


@dataclass
class Results:
    machine: dict
    figures: list[Figure] = field(default_factory=list)
    # curve -> subject -> [(x, ns)]
    curves: dict = field(default_factory=dict)
    # What is not a time: queued_bytes, idle_wakeups, build_cost, http
    extra: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(self, case, cpus, subject):
        return next((f for f in self.figures if (f.case, f.cpus, f.subject) == (case, cpus, subject)), None)

    def ours_for(self, other):
        """Ours to compare `other` with: of its variant, where there are any."""
        variant = other.subject.split(", ", 1)[1] if ", " in other.subject else ""
        for mine in self.figures:
            if (mine.case, mine.cpus) == (other.case, other.cpus) and is_ours(mine.subject):
                of = mine.subject.split(", ", 1)[1] if ", " in mine.subject else ""
                if not of or variant == of or variant.startswith(of + ",") or variant.endswith(", " + of):
                    return mine
        return None

    def as_json(self):
        return asdict(self)
