"""A provider's bill beside the ledger, by day and model: what differs, and what may be the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from decimal import Decimal

import msgspec

from penstock.pricing.bills import Bill, Charge, comparable

LEAST_USD = Decimal("0.01")
"""Smaller differences are the bill's rounding."""
LEAST_TOKENS = Decimal(100)
"""Smaller differences of tokens are not worth a look."""


class Booked(msgspec.Struct, frozen=True):
    """What the ledger says of a provider's model on a day (UTC).

    Attributes:
        day: When the attempts began.
        model: The provider's name for the model.
        attempts: How many were sent.
        input_tokens: Prompt tokens, cached ones included.
        output_tokens: Generated tokens.
        cost_usd: What is known of the cost.
        estimated: Attempts with estimated tokens.
        unpriced: Attempts with an unknown price.
        given_up: Attempts that a client, a deadline or another attempt ended before their answer.
    """

    day: date
    model: str
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    estimated: int = 0
    unpriced: int = 0
    given_up: int = 0


class Line(msgspec.Struct, frozen=True):
    """One day of one model in both books.

    Attributes:
        day: UTC.
        model: The model, as `comparable` has it; empty where the bill names none.
        ledger_usd: What the ledger says; None when the bill has no amounts.
        bill_usd: What the bill says; None when it has no amounts.
        ledger_tokens: Input and output; None when the bill does not count tokens.
        bill_tokens: Input and output; None when the bill does not count them.
        agrees: The difference is within the tolerance.
        reasons: What may have led to the difference, the likeliest first.
    """

    day: date
    model: str
    ledger_usd: Decimal | None
    bill_usd: Decimal | None
    ledger_tokens: int | None
    bill_tokens: int | None
    agrees: bool
    reasons: list[str]

    @property
    def difference_usd(self) -> Decimal | None:
        """Bill less ledger."""
        return None if self.bill_usd is None or self.ledger_usd is None else self.bill_usd - self.ledger_usd

    @property
    def difference_tokens(self) -> int | None:
        """Bill less ledger."""
        if self.bill_tokens is None or self.ledger_tokens is None:
            return None
        return self.bill_tokens - self.ledger_tokens


def reconcile(bill: Bill, booked: Iterable[Booked], *, tolerance: Decimal, today: date) -> list[Line]:
    """Compare a bill with the ledger, on the days of the bill.

    Args:
        bill: The bill.
        booked: What the ledger has of those days.
        tolerance: Share of the larger figure by which a line may differ.
        today: The day that is not over yet.

    Returns:
        A line a day and model; or a day, for a bill without models.
    """
    if not bill.charges:
        return []
    named = any(charge.model for charge in bill.charges)
    first, last = bill.charges[0].day, bill.charges[-1].day
    charges = {(charge.day, charge.model): charge for charge in bill.charges}
    books: dict[tuple[date, str], Booked] = {}
    for each in booked:
        key = each.day, comparable(each.model) if named else ""
        if first <= each.day <= last:
            books[key] = _add(books[key], each) if key in books else each
    counts = any(charge.input_tokens is not None for charge in bill.charges)
    pays = any(charge.cost_usd is not None for charge in bill.charges)
    lines = [
        _line(key, charges.get(key), books.get(key), counts=counts, pays=pays, tolerance=tolerance)
        for key in sorted({*charges, *books})
    ]
    return [_explain(line, lines, charges, books, today) for line in lines]


def _line(
    key: tuple[date, str], charge: Charge | None, book: Booked | None, *, counts: bool, pays: bool, tolerance: Decimal
) -> Line:
    day, model = key
    book = book or Booked(day, model)
    bill_usd: Decimal = (charge.cost_usd if charge else None) or Decimal(0)
    bill_tokens = ((charge.input_tokens or 0) + (charge.output_tokens or 0)) if charge else 0
    tokens = book.input_tokens + book.output_tokens
    agrees = not pays or _near(bill_usd, book.cost_usd, tolerance, LEAST_USD)
    if counts:
        agrees = agrees and _near(Decimal(bill_tokens), Decimal(tokens), tolerance, LEAST_TOKENS)
    return Line(
        day,
        model,
        book.cost_usd if pays else None,
        bill_usd if pays else None,
        tokens if counts else None,
        bill_tokens if counts else None,
        agrees,
        [],
    )


def _near(one: Decimal, other: Decimal, tolerance: Decimal, least: Decimal) -> bool:
    return abs(one - other) <= max(tolerance * max(one, other), least)


def _explain(
    line: Line,
    lines: list[Line],
    charges: dict[tuple[date, str], Charge],
    books: dict[tuple[date, str], Booked],
    today: date,
) -> Line:
    if line.agrees:
        return line
    key = line.day, line.model
    return msgspec.structs.replace(line, reasons=list(_reasons(line, lines, charges.get(key), books.get(key), today)))


def _reasons(line: Line, lines: list[Line], charge: Charge | None, book: Booked | None, today: date) -> Iterator[str]:
    if line.day >= today:
        yield "the day is not over"
    if book is None:
        yield "nothing of it went through Penstock, or the ledger has it under another name or no longer"
    elif charge is None:
        yield "it was billed to another account or under another name, or the export leaves it out"
    else:
        tokens = line.difference_tokens
        same = tokens is not None and abs(tokens) * 100 <= max(Decimal(line.bill_tokens or 0), LEAST_TOKENS)
        yield from _of_prices(line, book) if same or book.unpriced else ()
        yield from _of_days(line, lines)
        yield from () if same else _of_counts(line, book)


def _of_prices(line: Line, book: Booked) -> Iterator[str]:
    if book.unpriced:
        yield f"{book.unpriced} attempts have no known price: give it in the configuration's `prices`"
    elif line.bill_usd and line.ledger_usd:
        factor = line.bill_usd / line.ledger_usd
        yield f"the tokens agree, and the bill is {factor:.3f} times the ledger: other prices, or a discount"


def _of_days(line: Line, lines: list[Line]) -> Iterator[str]:
    around = [line.day - timedelta(days=1), line.day + timedelta(days=1)]
    for other in lines:
        if other.model == line.model and other.day in around and _opposite(line, other):
            yield f"{other.day} differs the other way: calls around midnight (UTC), or a bill in another time zone"


def _of_counts(line: Line, book: Booked) -> Iterator[str]:
    if book.given_up:
        yield f"{book.given_up} attempts were given up; the provider may have gone on, and billed what it made"
    if book.estimated:
        yield f"{book.estimated} attempts have estimated tokens, because the provider reported none"
    if (line.difference_tokens or line.difference_usd or 0) > 0:
        yield "calls with the same account that did not go through Penstock"
    else:
        yield "not all of it was billed: free or prepaid quota, failed answers, or prices lower than the ledger's"


def _opposite(line: Line, other: Line) -> bool:
    """Whether the other day's difference, added to this one's, leaves less than half of it."""
    if line.difference_tokens is not None and other.difference_tokens is not None:
        return abs(line.difference_tokens + other.difference_tokens) * 2 < abs(line.difference_tokens)
    if line.difference_usd is not None and other.difference_usd is not None:
        return abs(line.difference_usd + other.difference_usd) * 2 < abs(line.difference_usd)
    return False


def _add(one: Booked, other: Booked) -> Booked:
    sums = {name: getattr(one, name) + getattr(other, name) for name in Booked.__struct_fields__[2:]}
    return Booked(one.day, one.model, **sums)
