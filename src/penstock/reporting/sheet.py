"""Reports as comma-separated values (RFC 4180): a row a line, for spreadsheets."""

from __future__ import annotations

import csv
import io

from penstock.reporting.figures import UsageLine, UsageReport
from penstock.reporting.writing import visible

_FIGURES = tuple(name for name in UsageLine.__struct_fields__ if name != "group")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render(report: UsageReport) -> str:
    """Write a report's lines, or its total when it is not split, with the period in each row."""
    page = io.StringIO()
    writer = csv.writer(page, lineterminator="\r\n")
    writer.writerow(["since", "until", *report.by, *_FIGURES])
    for line in report.lines if report.by else [report.total]:
        group = [harmless(line.group[name] or "") for name in report.by]
        values = [getattr(line, name) for name in _FIGURES]
        writer.writerow([int(report.since), int(report.until), *group, *("" if v is None else v for v in values)])
    return page.getvalue()


def harmless(text: str) -> str:
    """Keep a spreadsheet from taking text for a formula: clients choose the names of models and tags."""
    return visible(f"'{text}" if text.startswith(_FORMULA) else text)
