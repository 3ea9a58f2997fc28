# SPDX-License-Identifier: BSL-1.0
"""What the figures are to be, as ratios to baselines of the same run. Printed, never enforced."""

from dataclasses import dataclass

AS_WRITTEN = "Asio as written"
EXPERT = "Asio by an expert"


@dataclass(frozen=True)
class Ratio:
    case: str
    cpus: str  # "all" or "one"
    baseline: str
    at_least: float  # ours / theirs, at most this
    what: str = "ns"

    def text(self):
        place = {"all": "all CPUs", "one": "one CPU"}[self.cpus]
        what = "" if self.what == "ns" else " (CPU)"
        return f"{self.case} {place}{what} / {self.baseline}"


RATIOS = [
    Ratio("B1", "all", AS_WRITTEN, 0.2),
    Ratio("B1", "all", EXPERT, 0.4),
    Ratio("B2", "all", EXPERT, 0.65),
    Ratio("B3", "all", EXPERT, 0.1),
    Ratio("B3", "one", "raw futex", 1.25),
    Ratio("B4", "all", EXPERT, 0.35),
    Ratio("B4", "one", EXPERT, 0.25),
]

# Heap allocations per warm call of these.
NO_ALLOCATION = ["B1", "B2", "B3", "B4"]
