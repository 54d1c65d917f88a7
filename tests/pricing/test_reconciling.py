from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pricing.bills import FORMS, Bill, Charge, comparable
from penstock.pricing.reconciling import Booked, reconcile

DAY = date(2026, 11, 2)
GENERIC = FORMS[-1]


def lines(charges, booked, *, tolerance="0.01", today=date(2026, 12, 1)):
    return reconcile(Bill(GENERIC, charges), booked, tolerance=Decimal(tolerance), today=today)


def test_what_the_ledger_had_to_guess_is_named():
    charge = Charge(DAY, "m", 2_000_000, 0, Decimal(9))
    book = Booked(DAY, "m", 9, 1_000_000, 0, Decimal(1), estimated=3, unpriced=2, given_up=4)
    (line,) = lines([charge], [book])
    assert [reason.split(" attempts ")[0] for reason in line.reasons[:3]] == ["2", "4", "3"]
    assert "no known price" in line.reasons[0]


def test_a_day_that_is_not_over_says_so():
    (line,) = lines([Charge(DAY, "m", None, None, Decimal(9))], [Booked(DAY, "m", cost_usd=Decimal(5))], today=DAY)
    assert line.reasons[0] == "the day is not over"


def test_days_outside_the_bill_are_left_out_and_versions_put_together():
    booked = [
        Booked(date(2026, 11, 1), "m", cost_usd=Decimal(100)),
        Booked(DAY, "m-2026-01-31", cost_usd=Decimal(1)),
        Booked(DAY, "org/M-latest", cost_usd=Decimal(2)),
    ]
    (line,) = lines([Charge(DAY, "m", None, None, Decimal(3))], booked)
    assert (line.agrees, line.ledger_usd, line.difference_usd) == (True, Decimal(3), Decimal(0))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("models/gemini-2.5-pro", "gemini-2.5-pro"),
        ("mistral-large-latest", "Mistral Large"),
    ],
)
def test_names_of_a_model_are_comparable(name, other):
    assert comparable(name) == comparable(other)


def test_different_models_stay_different():
    names = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4", "o1", "claude-haiku-4-5", "claude-haiku-4", "gpt-3.5-turbo"]
    assert len({comparable(name) for name in names}) == len(names)


amounts = st.decimals(0, 1000, places=6)
books = st.builds(
    Booked, st.dates(DAY, date(2026, 11, 5)), st.sampled_from(["a", "b"]), st.integers(0, 9), st.integers(0, 10**7),
    st.integers(0, 10**7), amounts, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3),
)  # fmt: skip


@given(st.lists(books, max_size=8, unique_by=lambda book: (book.day, book.model)))
def test_a_bill_that_says_what_the_ledger_says_agrees(booked):
    charges = sorted(
        Charge(book.day, book.model, book.input_tokens, book.output_tokens, book.cost_usd) for book in booked
    )
    found = lines(charges, booked, tolerance="0")
    assert all(line.agrees and not line.reasons for line in found)
    assert len(found) == len(booked)


@given(st.lists(books, max_size=6), st.lists(books, max_size=6, unique_by=lambda book: (book.day, book.model)))
def test_differences_of_all_lines_add_up(booked, billed):
    charges = sorted(Charge(b.day, b.model, b.input_tokens, b.output_tokens, b.cost_usd) for b in billed)
    found = lines(charges, booked)
    if charges:
        inside = [book for book in booked if charges[0].day <= book.day <= charges[-1].day]
        total = sum((line.difference_usd for line in found), Decimal(0))
        assert total == sum(c.cost_usd for c in charges) - sum(b.cost_usd for b in inside)
