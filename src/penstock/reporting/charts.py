"""Charts as inline SVG: no scripts, no fonts, no images, so a page with them opens anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT = 880, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 8, 10, 30
_LINES = 4
_LABELS = 8


class Series(NamedTuple):
    """Values over time that share a colour, named by a class of the page's style."""

    name: str
    style: str
    values: Sequence[float | None]


def stacked(series: Sequence[Series], labels: Sequence[str], write: Callable[[float], str]) -> str:
    """Draw bars, each made of one value of each series.

    Args:
        series: The parts, the lowest first.
        labels: What each bar is called.
        write: Turns a value into text.
    """
    sums = [sum(each.values[at] or 0 for each in series) for at in range(len(labels))]
    frame = _Frame(max(sums, default=0), len(labels), write)
    width = max(frame.step * 0.82, 0.6)
    drawn = []
    for at, label in enumerate(labels):
        floor = 0.0
        told = "; ".join(f"{each.name} {write(each.values[at] or 0)}" for each in series)
        rects = []
        for each in series:
            value = each.values[at] or 0
            if value > 0:
                top = frame.y(floor + value)
                rects.append(
                    f'<rect class="{each.style}" x="{frame.x(at) - width / 2:.2f}" y="{top:.2f}" '
                    f'width="{width:.2f}" height="{frame.y(floor) - top:.2f}"/>'
                )
                floor += value
        if rects:
            drawn.append(f"<g><title>{escape(label)}: {escape(told)}</title>{''.join(rects)}</g>")
    return frame.around("".join(drawn), labels) + legend(series)


def line(series: Series, labels: Sequence[str], write: Callable[[float], str]) -> str:
    """Draw one series as a line; where it has no value the line is broken."""
    known = [value for value in series.values if value is not None]
    frame = _Frame(max(known, default=0), len(labels), write)
    drawn, path, pen = [], [], "M"
    for at, value in enumerate(series.values):
        if value is None:
            pen = "M"
            continue
        path.append(f"{pen}{frame.x(at):.2f} {frame.y(value):.2f}")
        pen = "L"
        drawn.append(
            f'<circle class="{series.style}" cx="{frame.x(at):.2f}" cy="{frame.y(value):.2f}" r="2.5">'
            f"<title>{escape(labels[at])}: {escape(write(value))}</title></circle>"
        )
    return frame.around(f'<path class="{series.style} stroke" d="{" ".join(path)}"/>' + "".join(drawn), labels)


def legend(series: Sequence[Series]) -> str:
    """Name the colours."""
    return (
        '<p class="legend">'
        + "".join(f'<span><i class="{each.style}"></i>{escape(each.name)}</span>' for each in series)
        + "</p>"
    )


class _Frame:
    """The axes, and where values lie between them."""

    def __init__(self, most: float, count: int, write: Callable[[float], str]) -> None:
        self.top = _round_up(most)
        self.step = (WIDTH - _LEFT - _RIGHT) / max(count, 1)
        self._write = write

    def x(self, at: int) -> float:
        return _LEFT + (at + 0.5) * self.step

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - value / self.top * (HEIGHT - _TOP - _BOTTOM)

    def around(self, drawn: str, labels: Sequence[str]) -> str:
        parts = []
        for number in range(_LINES + 1):
            value = self.top * number / _LINES
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(self._write(value))}</text>')
        every = max(1, math.ceil(len(labels) / _LABELS))
        parts.extend(
            f'<text x="{self.x(at):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>'
            for at, label in enumerate(labels)
            if at % every == every // 2
        )
        return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}{drawn}</svg>'


def _round_up(value: float) -> float:
    """Return the next number that divides well into four."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(unit * factor for factor in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if unit * factor >= value * 0.9999)
