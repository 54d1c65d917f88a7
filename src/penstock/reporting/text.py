"""Reports as plain text, for terminals and mail."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.reporting.figures import UsageLine, UsageReport
from penstock.reporting.writing import amount, change, duration, moment, money, share, visible

COLUMNS = (
    "calls",
    "ok",
    "errors",
    "hits",
    "tokens in",
    "tokens out",
    "cost $",
    "saved $",
    "p50",
    "p95",
    "p99",
    "first",
)
"""Heads of `cells`."""


def render(report: UsageReport) -> str:
    """Write a report as text."""
    whose = f" of {visible(report.tenant)}" if report.tenant else ""
    head = f"Usage{whose}, {moment(report.since)} to {moment(report.until)} UTC"
    parts = [f"{head}\n{'=' * len(head)}", _summary(report)]
    if report.lines:
        rows = [[*(label(line, name) for name in report.by), *cells(line)] for line in report.lines]
        rows.append(["total", *[""] * (len(report.by) - 1), *cells(report.total)])
        parts.append(table((*report.by, *COLUMNS), rows, left=len(report.by)))
    if report.errors:
        failed = [
            [each.outcome, each.model, each.provider or "-", each.calls, share(each.share), moment(each.last_at)]
            for each in report.errors
        ]
        heads = ("error", "model", "provider", "calls", "share", "last (UTC)")
        parts.append("What failed\n" + table(heads, failed, left=3))
    if report.total.calls:
        rated = [
            [each.name, amount(each.name, each.value), each.category, amount(each.name, each.good),
             amount(each.name, each.excellent)]
            for each in report.ratings
        ]  # fmt: skip
        parts.append("Ratings\n" + table(("", "value", "category", "target", "excellent"), rated, left=1))
        compared = [
            [each.name, amount(each.name, each.now), amount(each.name, each.before), change(each.change)]
            for each in report.trends
        ]
        parts.append("Against the period before\n" + table(("", "now", "before", "change"), compared, left=1))
    return "\n\n".join(parts) + "\n"


def explained(total: UsageLine) -> str:
    """Say how the cost was obtained, and of how many tokens there was none."""
    parts = [f"{total.priced} calls priced by the provider's token counts"]
    if total.estimated:
        parts.append(f"{total.estimated} by estimated ones ({money(total.estimated_usd)} $)")
    if total.unpriced:
        parts.append(f"{total.unpriced} with price unknown, not in the sum")
    cut = f"{total.cut_tokens} tokens of long conversations were not sent. " if total.cut_tokens else ""
    return cut + "Cost: " + ", ".join(parts) + "."


def cells(line: UsageLine) -> list[object]:
    """Return a line's figures in the order of `COLUMNS`."""
    return [
        line.calls, share(line.success_rate), line.errors, share(line.hit_rate), line.input_tokens, line.output_tokens,
        money(line.cost_usd), money(line.saved_usd), duration(line.p50_s), duration(line.p95_s), duration(line.p99_s),
        duration(line.first_token_s),
    ]  # fmt: skip


def label(line: UsageLine, name: str) -> str:
    """Return what a line has of one of its report's splits."""
    value = line.group[name]
    return "(none)" if value is None else visible(value)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]], *, left: int) -> str:
    """Line up `rows` under `heads`; all but the first `left` columns stand right."""
    grid = [[*heads], *([visible(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in grid) for column in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in grid
    )


def _summary(report: UsageReport) -> str:
    total = report.total
    if not total.calls:
        return "No calls." + _uncounted(report)
    return (
        f"{total.calls} calls, {share(total.success_rate)} answered, {share(total.error_rate)} failed, "
        f"{total.broken_off} broken off by the client.\n"
        f"{total.hits} from the cache ({share(total.hit_rate)}) and {total.collapsed} with identical calls saved "
        f"{total.saved_tokens} tokens and {money(total.saved_usd)} $.\n"
        f"{total.input_tokens} tokens in ({total.cached_tokens} from providers' caches), {total.output_tokens} out; "
        f"{total.attempts} tries on providers cost {money(total.cost_usd)} $.\n"
        f"{explained(total)}\n"
        f"Latency: mean {duration(total.mean_s)}, median {duration(total.p50_s)}, 95 % within {duration(total.p95_s)}, "
        f"99 % within {duration(total.p99_s)}." + _uncounted(report)
    )


def _uncounted(report: UsageReport) -> str:
    if not report.uncounted:
        return ""
    return f"\n{report.uncounted} older calls are still being added up and are not in these figures."
