# SPDX-License-Identifier: BSL-1.0
"""The figures as an SVG: a dot for each subject on a logarithmic axis, and the curves below."""

import math
from html import escape

import machine
from results import CURVES, OURS, TITLES, is_ours

WIDTH, LEFT, RIGHT = 960, 340, 40
ROW, CURVE_HEIGHT = 30, 240
COLOURS = {
    OURS: "#c2255c",
    "Asio by an expert": "#1971c2",
    "Asio as written": "#74c0fc",
    "std::async": "#868e96",
    "raw futex": "#2f9e44",
    "raw spinning": "#8ce99a",
    "bare coroutine": "#b2f2bb",
}
OTHERS = ["#e8590c", "#f08c00", "#9c36b5", "#6741d9", "#0b7285", "#5c940d"]


class Palette:
    def __init__(self):
        self.known = dict(COLOURS)

    def of(self, subject):
        if subject not in self.known:
            self.known[subject] = OTHERS[(len(self.known) - len(COLOURS)) % len(OTHERS)]
        return self.known[subject]


class Scale:
    """Logarithmic, from whole decade to whole decade."""

    def __init__(self, values, begin, end):
        self.low = math.floor(math.log10(min(values)))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)
        self.begin, self.end = begin, end

    def at(self, value):
        return self.begin + (math.log10(value) - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self):
        return [10.0 ** power for power in range(self.low, self.high + 1)]


def duration(ns):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns:g} ns"


def text(x, y, what, anchor="start", size=13, weight="normal", colour="#212529"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
            f'fill="{colour}">{escape(what)}</text>')


def line(x1, y1, x2, y2, colour="#dee2e6", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def dot(x, y, colour, title, radius):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{escape(title)}</title></circle>'


def dots(results, palette, top):
    """One row for each case and placement. Returns the parts and where they end."""
    rows = [(case, cpus) for case in TITLES for cpus in ("all", "one")
            if any((f.case, f.cpus) == (case, cpus) for f in results.figures)]
    if not rows:
        return [], top
    bottom = top + ROW * len(rows)
    scale = Scale([f.ns for f in results.figures], LEFT, WIDTH - RIGHT)
    parts = [line(scale.at(t), top - 8, scale.at(t), bottom) for t in scale.ticks()]
    parts += [text(scale.at(t), bottom + 16, duration(t), "middle", 11, colour="#495057") for t in scale.ticks()]
    for index, (case, cpus) in enumerate(rows):
        y = top + ROW * index + ROW / 2
        place = "all CPUs" if cpus == "all" else "one CPU"
        parts.append(text(LEFT - 16, y - 1, f"{case}, {place}", "end", 13, "bold"))
        parts.append(text(LEFT - 16, y + 11, TITLES[case], "end", 10, colour="#495057"))
        parts.append(line(LEFT, y, WIDTH - RIGHT, y, "#f1f3f5"))
        seen = [f for f in results.figures if (f.case, f.cpus) == (case, cpus)]
        for f in sorted(seen, key=lambda f: is_ours(f.subject)):
            parts.append(dot(scale.at(f.ns), y, palette.of(f.subject.split(", ")[0]), f"{f.subject}: {f.ns:,.0f} ns",
                             7 if is_ours(f.subject) else 5))
    return parts, bottom + 30


def legend(subjects, palette, top):
    parts, x, y = [], 24, top
    for subject in subjects:
        width = 30 + 7.2 * len(subject)
        if x + width > WIDTH - RIGHT:
            x, y = 24, y + 20
        parts += [dot(x, y - 4, palette.of(subject), subject, 5), text(x + 10, y, subject, size=12)]
        x += width
    return parts, y + 24


def curve(name, lines, palette, left, width, top):
    what, unit = CURVES[name]
    points = [(x, y) for line_ in lines.values() for x, y in line_]
    across = Scale([max(x, 1) for x, _ in points], left + 60, left + width - 20)
    up = Scale([y for _, y in points], top + CURVE_HEIGHT - 40, top + 20)
    parts = [text(left + width / 2, top + 6, f"{unit}, by {what}", "middle", 13, "bold")]
    for t in across.ticks():
        parts.append(line(across.at(t), up.begin, across.at(t), up.end))
        parts.append(text(across.at(t), up.begin + 16, f"{t:,.0f}", "middle", 11, colour="#495057"))
    for t in up.ticks():
        parts.append(line(across.begin, up.at(t), across.end, up.at(t)))
        parts.append(text(across.begin - 8, up.at(t) + 4, duration(t), "end", 11, colour="#495057"))
    for subject, seen in lines.items():
        path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in seen)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{palette.of(subject)}" stroke-width="2.5"/>')
        parts += [dot(across.at(x), up.at(y), palette.of(subject), f"{subject}, {x:,}: {y:,.0f} ns", 4) for x, y in seen]
    return parts


def svg(results):
    palette = Palette()
    subjects = []
    for subject in [OURS] + [f.subject.split(", ")[0] for f in results.figures] + [
            s for lines in results.curves.values() for s in lines]:
        if subject not in subjects:
            subjects.append(subject)
    parts = [text(24, 34, "Time per call, logarithmic; left is better", size=18, weight="bold"),
             text(24, 54, machine.as_text(results.machine), size=10, colour="#495057")]
    more, y = legend(subjects, palette, 82)
    parts += more
    more, y = dots(results, palette, y + 8)
    parts += more
    if results.curves:
        width = (WIDTH - 24) / len(results.curves)
        for index, (name, lines) in enumerate(results.curves.items()):
            parts += curve(name, lines, palette, 12 + index * width, width, y + 20)
        y += CURVE_HEIGHT + 20
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" '
            f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#fff"/>\n'
            + "\n".join(parts) + "\n</svg>\n")
