"""The benchmark's chart, as SVG: what a conversation costs against how much of what answers is in the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import chain
from pathlib import Path

from benchmarks.context.bill import LEAST, Curves, Point

WIDTH, HEIGHT = 900, 330
_TOP, _BOTTOM, _LEFT, _RIGHT = 50, 250, 52, 24
_LOWEST = 0.7
_COLOURS = {"penstock": "#0b7285", "retrieval": "#e8590c", "whole": "#868e96"}
_NAMES = {"penstock": "Penstock", "retrieval": "retrieved anew for each question", "whole": "whole history, cached"}
_LEGEND = (50, 170, 410)


def plot(curves: Sequence[Curves], path: Path) -> None:
    """Write the chart, a panel for each model."""
    width = WIDTH / len(curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *chain.from_iterable(
            _panel(each, number * width + _LEFT, (number + 1) * width - _RIGHT) for number, each in enumerate(curves)
        ),
    ]
    for at, (name, label) in zip(_LEGEND, _NAMES.items(), strict=True):
        parts += [_dot(at, HEIGHT - 16, 4, _COLOURS[name]), _text(at + 10, HEIGHT - 12, label)]
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _panel(curves: Curves, left: float, right: float) -> Iterator[str]:
    shown = [point for point in (*curves.retrieved, *curves.planned, curves.whole) if point.recall >= _LOWEST]
    most = 1.1 * max(point.usd for point in shown)

    def place(point: Point) -> tuple[float, float]:
        x = left + (right - left) * (point.recall - _LOWEST) / (1.0 - _LOWEST)
        return x, _BOTTOM - (_BOTTOM - _TOP) * point.usd / most

    yield _text(left, 20, escape(curves.prices.model), weight="bold")
    yield _text(left, 38, "USD for a conversation")
    for quarter in range(5):
        usd = most * quarter / 4
        _, y = place(Point("", usd, 1.0))
        yield f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dee2e6"/>'
        yield _text(left - 6, y + 4, f"{usd:.2f}", anchor="end")
    for recall in (0.7, 0.8, 0.9, 1.0):
        x, _ = place(Point("", 0.0, recall))
        yield _text(x, _BOTTOM + 16, f"{recall:.0%}", anchor="middle")
    x, _ = place(Point("", 0.0, LEAST))
    yield _line([(x, _TOP), (x, _BOTTOM)], "#adb5bd", 1, dashed=True)
    yield _text((left + right) / 2, _BOTTOM + 34, "mean recall of what answers", anchor="middle")
    yield _line([place(point) for point in curves.retrieved if point.recall >= _LOWEST], _COLOURS["retrieval"], 2)
    for name, points in (("retrieval", curves.retrieved), ("penstock", curves.planned), ("whole", [curves.whole])):
        for point in points:
            if point.recall >= _LOWEST:
                yield _dot(*place(point), 4, _COLOURS[name])
    x, y = place(curves.chosen)
    yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="{_COLOURS["penstock"]}"/>'


def _dot(x: float, y: float, size: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float, *, dashed: bool = False) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#343a40">{text}</text>'
