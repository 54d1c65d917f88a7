"""Providers' bills and usage exports as CSV: which columns say what, told from the header.

OpenAI's dashboard exports costs (``amount_value`` by ``line_item``) and usage (``num_model_requests``), with the fields
of its organization API; Anthropic's console exports tokens (``usage_input_tokens_no_cache`` and others) and cost
(``cost_usd`` by ``token_type``). Any other file needs a ``date``, and a ``cost`` or tokens.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

from penstock.core.errors import ConfigError

_DATED = re.compile(r"-(20\d\d-?\d\d-?\d\d|latest|\d{4})$")
_APART = re.compile(r"[^a-z0-9]+")


class Charge(NamedTuple):
    """What a bill says of one model on one day.

    Attributes:
        day: UTC.
        model: Its name, made comparable by `comparable`; empty where the bill names none.
        input_tokens: Prompt tokens, cached ones included; None where the bill does not count.
        output_tokens: Generated tokens; None where the bill does not count.
        cost_usd: None where the bill has no amounts.
    """

    day: date
    model: str
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: Decimal | None


class Form(NamedTuple):
    """A kind of file.

    Attributes:
        name: What it is called.
        kind: The kind of provider it comes from; None for any.
        marks: Columns that tell it.
        day: Columns of which the first that is there has the day.
        model: Likewise the model.
        cost: Likewise the amount.
        given: Columns whose sum is the input tokens.
        made: Columns whose sum is the output tokens.
        currency: The column that has to say USD.
        quantity: The column of tokens of the row's line item, which says in or out.
    """

    name: str
    kind: str | None
    marks: tuple[str, ...]
    day: tuple[str, ...]
    model: tuple[str, ...]
    cost: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    currency: str = ""
    quantity: str = ""


FORMS = (
    Form(
        "OpenAI costs", "openai", ("amount_value",), ("start_time_iso", "start_time"), ("line_item",),
        ("amount_value",), currency="amount_currency", quantity="quantity",
    ),
    Form(
        "OpenAI usage", "openai", ("num_model_requests", "input_tokens"), ("start_time_iso", "start_time"), ("model",),
        given=("input_tokens",), made=("output_tokens",),
    ),
    Form(
        "Anthropic usage", "anthropic", ("usage_date_utc", "usage_input_tokens_no_cache"), ("usage_date_utc",),
        ("model_version", "model"),
        given=(
            "usage_input_tokens_no_cache", "usage_input_tokens_cache_write_5m", "usage_input_tokens_cache_write_1h",
            "usage_input_tokens_cache_read",
        ),
        made=("usage_output_tokens",),
    ),
    Form("Anthropic cost", "anthropic", ("usage_date_utc", "cost_usd"), ("usage_date_utc",), ("model",), ("cost_usd",)),
    Form(
        "generic", None, (), ("date", "day"), ("model",), ("cost_usd", "cost", "amount_usd", "amount"),
        ("input_tokens", "prompt_tokens", "tokens"), ("output_tokens", "completion_tokens"), "currency",
    ),
)  # fmt: skip
"""The first whose marks are all there counts."""


class Bill(NamedTuple):
    """A bill, summed up by day and model.

    Attributes:
        form: Which kind of file it was.
        charges: Ordered by day and model.
    """

    form: Form
    charges: list[Charge]


def comparable(model: str) -> str:
    """Make names of a model comparable: ``Claude Haiku 4.5`` and ``claude-haiku-4-5-20251001`` are the same.

    Case, signs, what is before a slash, and the date of a version do not count.
    """
    plain = _APART.sub("-", model.lower().rpartition("/")[2]).strip("-")
    return _DATED.sub("", plain)


def read_bill(lines: Iterable[str], file: str = "the file") -> Bill:
    """Read a CSV file.

    Args:
        lines: Its lines, the header first.
        file: Its name, for errors.

    Raises:
        ConfigError: A column is missing, or a value cannot be read.
    """
    reader = csv.DictReader(lines)
    columns = [(name or "").strip().lower().lstrip("\ufeff") for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    form = next(form for form in FORMS if all(mark in columns for mark in form.marks))
    if not _first(form.day, columns) or not (_first(form.cost, columns) or _all(form.given, columns)):
        raise ConfigError(
            f"{file} is no bill Penstock can read: it has the columns {', '.join(columns) or 'none'}",
            expected="an export of OpenAI's or Anthropic's usage or costs, or the columns date, model, and cost or "
            "input_tokens and output_tokens",
        )
    found: dict[tuple[date, str], Charge] = {}
    for number, row in enumerate(reader, 2):
        try:
            charge = _charge(form, row, columns)
        except (ValueError, InvalidOperation, OverflowError) as error:
            reason = "not a number" if isinstance(error, InvalidOperation) else str(error)
            raise ConfigError(f"{file}, line {number}: {reason}") from None
        if charge is not None:
            key = charge.day, charge.model
            found[key] = _add(found[key], charge) if key in found else charge
    return Bill(form, [found[key] for key in sorted(found)])


def _charge(form: Form, row: Mapping[str, str | None], columns: list[str]) -> Charge | None:
    text = {name: (value or "").strip() for name, value in row.items() if isinstance(name, str)}
    cost_column = _first(form.cost, columns)
    cost = _decimal(text[cost_column]) if cost_column else None
    given = made = None
    if _all(form.given, columns):
        given = sum(_whole(text[name]) for name in _all(form.given, columns))
        made = sum(_whole(text[name]) for name in _all(form.made, columns))
    model_column = _first(form.model, columns)
    model = text[model_column] if model_column else ""
    if form.quantity:
        model, _, item = (part.strip() for part in model.partition(","))
        if text.get("quantity_unit") == "tokens" and text.get(form.quantity):
            count = _whole(text[form.quantity])
            given, made = (0, count) if "output" in item else (count, 0)
    if cost is None and not given and not made:
        return None  # as OpenAI has them for days without anything
    currency = text.get(form.currency, "").upper() if form.currency else ""
    if currency not in ("", "USD"):
        raise ValueError(f"the amount is in {currency}; expected USD")
    return Charge(
        _day(next((text[name] for name in form.day if text.get(name)), "")), comparable(model), given, made, cost
    )


def _add(one: Charge, other: Charge) -> Charge:
    def total(some: int | None, more: int | None) -> int | None:
        return more if some is None else some if more is None else some + more

    costs = [each for each in (one.cost_usd, other.cost_usd) if each is not None]
    return Charge(
        one.day,
        one.model,
        total(one.input_tokens, other.input_tokens),
        total(one.output_tokens, other.output_tokens),
        sum(costs, Decimal(0)) if costs else None,
    )


def _first(names: tuple[str, ...], columns: list[str]) -> str:
    return next((name for name in names if name in columns), "")


def _all(names: tuple[str, ...], columns: list[str]) -> list[str]:
    return [name for name in names if name in columns]


def _day(text: str) -> date:
    if text.isdigit():
        return datetime.fromtimestamp(int(text), UTC).date()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a date such as 2026-01-31") from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).date()


def _decimal(text: str) -> Decimal | None:
    if not text:
        return None
    amount = Decimal(text.replace(",", "").removeprefix("$"))
    if not amount.is_finite():
        raise ValueError(f"{text[:40]!r} is not an amount")
    return amount


def _whole(text: str) -> int:
    return int(Decimal(text.replace(",", ""))) if text else 0
