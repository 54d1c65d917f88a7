"""An effect and its confidence sequence as units come in: an SVG file of its own, for light and dark screens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

WIDTH, PANEL = 880, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 96, 16, 34, 34
_LINES = 5
_EARLY = 0.1
"""Share of the units whose intervals, wide as they are, do not stretch the scale."""
_STYLE = (
    "svg{--ink:#1b2430;--dim:#5d6b7c;--paper:#fff;--rule:#dfe5ec;--band:#3b6fb6}"
    "@media(prefers-color-scheme:dark){svg{--ink:#e6ebf1;--dim:#94a3b5;--paper:#12161c;--rule:#2d3641;--band:#6ea3ea}}"
    "rect{fill:var(--paper)}text{fill:var(--dim);font:13px system-ui,sans-serif}.title{fill:var(--ink);font-size:15px}"
    ".grid{stroke:var(--rule)}.zero{stroke:var(--ink);stroke-dasharray:5 4}"
    ".band{fill:var(--band);opacity:.22}.effect{fill:none;stroke:var(--band);stroke-width:2}"
)


class Track(NamedTuple):
    """One arm's difference from the control, over time.

    Attributes:
        name: What it is called.
        units: Units so far, growing.
        effect: The difference, estimated, at each of these.
        low: The least it may be.
        high: The most it may be.
    """

    name: str
    units: Sequence[int]
    effect: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


def effect_chart(title: str, tracks: Sequence[Track], write: Callable[[float], str]) -> str:
    """Draw a panel for each track, all to the same scale.

    Args:
        title: Above the first panel.
        tracks: What to draw; those without units are left empty.
        write: Turns an effect into text.
    """
    height = PANEL * max(1, len(tracks)) + 24
    most = max((track.units[-1] for track in tracks if track.units), default=1)
    bottom, top = _range(tracks, most)
    drawn = [_panel(track, 24 + PANEL * at, most, (bottom, top), write) for at, track in enumerate(tracks)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><title>{escape(title)}</title><style>{_STYLE}</style><rect width="{WIDTH}" height="{height}"/>'
        f'<text class="title" x="{_LEFT}" y="22">{escape(title)}</text>{"".join(drawn)}</svg>\n'
    )


def _range(tracks: Sequence[Track], most: int) -> tuple[float, float]:
    values = [
        value
        for track in tracks
        for units, low, high in zip(track.units, track.low, track.high, strict=True)
        if units >= most * _EARLY
        for value in (low, high)
    ]
    bottom, top = min(0.0, *values) if values else -1.0, max(0.0, *values) if values else 1.0
    step = 10.0 ** math.floor(math.log10((top - bottom) / _LINES or 1.0))
    step = next(step * factor for factor in (1, 2, 5, 10) if (top - bottom) / (step * factor) <= _LINES)
    return math.floor(bottom / step) * step, math.ceil(top / step) * step


def _panel(
    track: Track, offset: float, most: int, scale: tuple[float, float], write: Callable[[float], str]
) -> str:  # fmt: skip
    bottom, top = scale
    plot = PANEL - _TOP - _BOTTOM

    def x(units: float) -> float:
        return _LEFT + units / most * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return offset + _TOP + (top - min(max(value, bottom), top)) / (top - bottom) * plot

    parts = [f'<text x="{_LEFT}" y="{offset + 22:.1f}">{escape(track.name)}</text>']
    for number in range(_LINES + 1):
        value = bottom + (top - bottom) * number / _LINES
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{escape(write(value))}</text>')
        units = most * number / _LINES
        anchor = "end" if number == _LINES else "middle"
        parts.append(
            f'<text x="{x(units):.1f}" y="{offset + PANEL - 12:.1f}" text-anchor="{anchor}">{round(units)}</text>'
        )
    if track.units:
        upper = [f"{x(units):.1f},{y(high):.1f}" for units, high in zip(track.units, track.high, strict=True)]
        lower = [f"{x(units):.1f},{y(low):.1f}" for units, low in zip(track.units, track.low, strict=True)]
        middle = [f"{x(units):.1f},{y(value):.1f}" for units, value in zip(track.units, track.effect, strict=True)]
        parts.append(f'<polygon class="band" points="{" ".join(upper + lower[::-1])}"/>')
        parts.append(f'<polyline class="effect" points="{" ".join(middle)}"/>')
    parts.append(f'<line class="zero" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(0.0):.1f}" y2="{y(0.0):.1f}"/>')
    return "".join(parts)
