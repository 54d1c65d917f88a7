"""The benchmark's chart, as SVG: hits and errors of each rule, and what a change of answers does.

A dot is wrong ÷ served of those that labels know; the line above it goes to where all that they do not know is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path

from benchmarks.semantic.streams import DRIFT_PERCENT, Figures, Sweep
from penstock.matching.evaluation import Step

WIDTH, HEIGHT = 900, 330
_BOTTOM, _TOP = 250, 40
_COLOURS = {"penstock": "#0b7285", "vcache": "#e8590c", "gptcache": "#868e96"}
_NAMES = {"penstock": "Penstock", "vcache": "vCache's rule", "gptcache": "fixed threshold (GPTCache)"}
_MOST_ERROR = 0.4
_WINDOW = 250
_LEGEND = (0, 110, 310)


def plot(figures: Figures, path: Path, label: str) -> None:
    """Write the chart of one embedder's figures."""
    requests = figures.keys["qqp_requests"] * figures.keys["qqp_orders"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        *_left(figures.sweeps, requests, label),
        *_right(figures.drifts),
        "</svg>",
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def _left(sweeps: dict[str, list[Sweep]], requests: int, label: str) -> Iterator[str]:
    left, right = 50, 420
    most = 1.25 * max((each.served for name in ("penstock", "vcache") for each in sweeps[name]), default=1) / requests

    def x(share: float) -> float:
        return left + (right - left) * share / most

    def y(error: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(error / _MOST_ERROR, 1.0)

    yield _text(left, 20, f"Wrong ÷ served ({escape(label)} embedder)", weight="bold")
    yield from _grid(left, right, y, (0.0, 0.05, 0.1, 0.2, 0.3, 0.4))
    for place in range(5):
        yield _text(x(most * place / 4), _BOTTOM + 16, f"{100 * most * place / 4:.0f} %", anchor="middle")
    yield _text((left + right) / 2, _BOTTOM + 34, "served ÷ requests", anchor="middle")
    for at, (name, every) in enumerate(sweeps.items()):
        colour = _COLOURS[name]
        size = 5 if name == "penstock" else 2.5
        for each in every:
            share = each.served / requests
            if 0 < share <= most and each.error <= _MOST_ERROR:
                yield _line([(x(share), y(each.error)), (x(share), y(each.harsh))], colour, 1)
                yield _dot(x(share), y(each.error), size, colour)
        yield _dot(left + 12 + _LEGEND[at], HEIGHT - 16, size, colour)
        yield _text(left + 22 + _LEGEND[at], HEIGHT - 12, _NAMES[name])


def _right(drifts: Sequence[Sequence[Step]]) -> Iterator[str]:
    left, right = 500, 880
    length = min(len(steps) for steps in drifts)
    change = length // 2

    def x(number: float) -> float:
        return left + (right - left) * number / length

    def y(share: float) -> float:
        return _BOTTOM - (_BOTTOM - _TOP) * min(share / _MOST_ERROR, 1.0)

    yield _text(left, 20, f"A third of the answers changes ({DRIFT_PERCENT} % allowed)", weight="bold")
    yield from _grid(left, right, y, (0.0, DRIFT_PERCENT / 100, 0.1, 0.2, 0.3, 0.4))
    yield _line([(x(change), _TOP), (x(change), _BOTTOM)], "#c92a2a", 1)
    served, wrong = [], []
    for start in range(0, length - _WINDOW + 1, _WINDOW):
        steps = [step for order in drifts for step in order[start : start + _WINDOW] if step.served]
        known = [step.right for step in steps if step.right is not None]
        served.append((start + _WINDOW / 2, len(steps) / _WINDOW / len(drifts)))
        if known:
            wrong.append((start + _WINDOW / 2, known.count(False) / len(known)))
    for values, colour, name, at in (
        (served, "#74b816", "served ÷ requests", 0),
        (wrong, "#0b7285", "wrong ÷ served", 1),
    ):
        yield _line([(x(number), y(share)) for number, share in values], colour, 2)
        yield _line([(left + 180 * at, HEIGHT - 16), (left + 16 + 180 * at, HEIGHT - 16)], colour, 2)
        yield _text(left + 22 + 180 * at, HEIGHT - 12, name)
    yield _text(
        (left + right) / 2, _BOTTOM + 34, f"requests, means of {_WINDOW} in {len(drifts)} orders", anchor="middle"
    )
    for number in (0, change, length):
        yield _text(x(number), _BOTTOM + 16, f"{number:,}", anchor="middle")


def _grid(left: float, right: float, y: Callable[[float], float], values: Sequence[float]) -> Iterator[str]:
    for value in values:
        yield f'<line x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#dee2e6"/>'
        yield _text(left - 6, y(value) + 4, f"{100 * value:g} %", anchor="end")


def _dot(x: float, y: float, size: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" fill="{colour}"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float) -> str:
    places = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="#343a40">{text}</text>'
