"""The forms a report is given in, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from penstock.reporting import page, sheet, text
from penstock.reporting.figures import UsageReport


class Format(NamedTuple):
    """One form.

    Attributes:
        render: Writes a report in it.
        media_type: What it is, in HTTP's and MIME's words.
    """

    render: Callable[[UsageReport], str]
    media_type: str


def _json(report: UsageReport) -> str:
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode() + "\n"


FORMATS = {
    "text": Format(text.render, "text/plain; charset=utf-8"),
    "json": Format(_json, "application/json"),
    "csv": Format(sheet.render, "text/csv; charset=utf-8"),
    "html": Format(page.render, "text/html; charset=utf-8"),
}
"""Amounts of money in JSON are strings, so that no program rounds them."""
