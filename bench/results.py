# SPDX-License-Identifier: BSL-1.0
"""The figures of one run: what was measured, for which subject, on how many CPUs."""

from dataclasses import asdict, dataclass, field

OURS = "bothworlds"

TITLES = {
    "B1": "blocking wait for a coroutine that is ready",
    "B2": "the same, yielding once",
    "B3": "one no-op offload and back, in a row",
    "B4": "1,000 coroutines × 100 no-op offloads, per offload",
}

CURVES = {
    "in_flight": ("no-op offloads in flight", "ns per offload"),
}


@dataclass
class Figure:
    case: str
    cpus: str  # "all" or "one"
    subject: str
    ns: float  # per call: the median of the repetitions
    least_ns: float
    cpu_ns: float  # CPU time of the whole process, per call
    allocations: float | None = None


@dataclass
class Results:
    machine: dict
    figures: list[Figure] = field(default_factory=list)
    # curve -> subject -> [(x, ns)]
    curves: dict = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def find(self, case, cpus, subject):
        return next((f for f in self.figures if (f.case, f.cpus, f.subject) == (case, cpus, subject)), None)

    def as_json(self):
        return asdict(self)
