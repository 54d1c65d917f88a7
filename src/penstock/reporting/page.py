"""Reports as one HTML file that needs nothing else: style and charts are in it, and it runs no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from penstock.reporting import charts
from penstock.reporting.figures import UsageReport, UsageSlot
from penstock.reporting.style import STYLE
from penstock.reporting.text import COLUMNS, cells, explained, label
from penstock.reporting.writing import amount, change, day, duration, moment, share, visible

_MOST_LINES = 500
"""Lines on the page; the rest is in the other formats."""


def render(report: UsageReport) -> str:
    """Write a report as a page."""
    total = report.total
    whose = f" of {visible(report.tenant)}" if report.tenant else ""
    title = f"Usage{whose}"
    period = f"{moment(report.since)} to {moment(report.until)} UTC"
    parts = [f"<header><h1>{escape(title)}</h1><p>{period}</p></header>"]
    if report.uncounted:
        parts.append(f"<p class=note>{report.uncounted} older calls are still being added up and not in here.</p>")
    if total.calls:
        parts += [_tiles(report), _charts(report), _lines(report), _errors(report), _judgements(report)]
    else:
        parts.append("<p class=note>No calls.</p>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}, {period}</title><style>{STYLE}</style></head><body><main>"
        f"{''.join(parts)}<footer>Penstock. Days and hours are UTC; times are within 2.5&nbsp;%; "
        f"{escape(explained(total))}</footer></main></body></html>\n"
    )


def _tiles(report: UsageReport) -> str:
    total = report.total
    changes = {trend.name: trend for trend in report.trends}
    tiles = (
        ("Calls", f"{total.calls:,}", "calls a day"),
        ("Answered", share(total.success_rate), ""),
        ("Failed", share(total.error_rate), "error rate"),
        ("From cache", share(total.hit_rate), "hit rate"),
        ("Cost", f"{_cents(float(total.cost_usd))} $", "cost a day, $"),
        ("Saved", f"{_cents(float(total.saved_usd))} $", "saved a day, $"),
        ("Tokens", _short(total.input_tokens + total.output_tokens), "tokens a day"),
        ("95 % within", duration(total.p95_s), "95th percentile of latency, s"),
    )
    made = []
    for name, value, followed in tiles:
        trend = changes.get(followed)
        note = "<small></small>"
        if trend is not None and trend.change is not None:
            style = {True: "better", False: "worse", None: ""}[trend.better]
            note = f'<small class="{style}">{change(trend.change)}</small>'
        made.append(f"<div><span>{name}</span><b>{escape(value)}</b>{note}</div>")
    return f'<section class="tiles">{"".join(made)}</section>'


def _charts(report: UsageReport) -> str:
    slots = _filled(report)
    labels = [(moment(slot.start) if report.slot_s < 86_400 else day(slot.start))[5:] for slot in slots]
    calls = [
        charts.Series("upstream", "upstream", [slot.calls - slot.hits - slot.errors for slot in slots]),
        charts.Series("from cache", "cached", [slot.hits for slot in slots]),
        charts.Series("failed", "failed", [slot.errors for slot in slots]),
    ]
    dollars = [
        charts.Series("spent", "spent", [float(slot.cost_usd) for slot in slots]),
        charts.Series("saved by the cache", "cached", [float(slot.saved_usd) for slot in slots]),
    ]
    tokens = [
        charts.Series("in", "upstream", [slot.input_tokens for slot in slots]),
        charts.Series("out", "spent", [slot.output_tokens for slot in slots]),
    ]
    latency = charts.Series("mean", "upstream", [slot.mean_s for slot in slots])
    per = "hour" if report.slot_s < 86_400 else "day"
    drawn = (
        (f"Calls per {per}", charts.stacked(calls, labels, _short)),
        (f"Dollars per {per}", charts.stacked(dollars, labels, _cents)),
        (f"Tokens per {per}", charts.stacked(tokens, labels, _short)),
        ("Mean latency", charts.line(latency, labels, duration)),
    )
    return '<section class="charts">' + "".join(
        f"<figure><figcaption>{name}</figcaption>{chart}</figure>" for name, chart in drawn
    ) + "</section>"  # fmt: skip


def _filled(report: UsageReport) -> list[UsageSlot]:
    """Put back the slots that are left out because nothing happened in them."""
    known = {slot.start: slot for slot in report.slots}
    empty = report.previous.cost_usd * 0
    starts = range(int(report.since), max(int(report.until), int(report.since) + 1), report.slot_s)
    return [known.get(start) or UsageSlot(start, 0, 0, 0, 0, 0, empty, empty, None) for start in starts]


def _lines(report: UsageReport) -> str:
    if not report.lines:
        return ""
    most = max(line.calls for line in report.lines)
    rows = []
    for line in report.lines[:_MOST_LINES]:
        names = [f"<th>{escape(label(line, name))}</th>" for name in report.by]
        figures = [f"<td>{escape(_grouped(cell))}</td>" for cell in cells(line)]
        bar = f'<td class="bar"><i style="width:{line.calls / most:.1%}"></i></td>'
        rows.append(f"<tr>{''.join(names)}{bar}{''.join(figures)}</tr>")
    left = len(report.lines) - _MOST_LINES
    more = f"<p class=note>And {left} more.</p>" if left > 0 else ""
    heads = [*report.by, "", *COLUMNS]
    return f"<section><h2>By {escape(', '.join(report.by))}</h2>{_table(heads, rows, len(report.by))}{more}</section>"


def _errors(report: UsageReport) -> str:
    rows = [
        f"<tr><th>{escape(visible(each.outcome))}</th><th>{escape(visible(each.model))}</th>"
        f"<th>{escape(visible(each.provider or '-'))}</th><td>{each.calls:,}</td><td>{share(each.share)}</td>"
        f"<td>{moment(each.first_at)}</td><td>{moment(each.last_at)}</td></tr>"
        for each in report.errors
    ]
    if not rows:
        return ""
    heads = ("error", "model", "provider", "calls", "share", "first", "last")
    return f"<section><h2>What failed</h2>{_table(heads, rows, 3)}</section>"


def _judgements(report: UsageReport) -> str:
    rated = [
        f"<tr><th>{each.name}</th><td>{amount(each.name, each.value)}</td>"
        f'<td><mark class="{each.category.split()[0]}">{each.category}</mark></td>'
        f"<td>{amount(each.name, each.good)}</td><td>{amount(each.name, each.excellent)}</td></tr>"
        for each in report.ratings
    ]
    compared = [
        f"<tr><th>{each.name}</th><td>{amount(each.name, each.now)}</td><td>{amount(each.name, each.before)}</td>"
        f'<td class="{({True: "better", False: "worse", None: ""})[each.better]}">{change(each.change)}</td></tr>'
        for each in report.trends
    ]
    ratings = _table(("", "value", "category", "target", "excellent"), rated, 1)
    trends = _table(("", "now", "before", "change"), compared, 1)
    return (
        f'<section class="pair"><div><h2>Ratings</h2>{ratings}</div>'
        f"<div><h2>Against the period before</h2>{trends}</div></section>"
    )


def _table(heads: Sequence[str], rows: Sequence[str], left: int) -> str:
    head = "".join(f"<th{'' if at < left else ' class=right'}>{escape(name)}</th>" for at, name in enumerate(heads))
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"


def _grouped(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _cents(value: float) -> str:
    """Write dollars to the cent, or to three digits where that would be nothing; the tables have them in full."""
    return f"{value:,.2f}" if value >= 1 or value == 0 else f"{value:.3g}"
