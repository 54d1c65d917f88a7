"""Equations are recomputed, and what cannot be read is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.routing.cascade.arithmetic import equations, numbers

RIGHT = [
    "so 48/2 = <<48/2=24>>24 clips",
    "3 hours x $20 = $60",
    "Each of 2 (hot dogs Luke ate) x 3 = 6",
    "2/2 * 1/2 = 1/2 bolt",
    "12/20 * 100 = 60%",
    "10 / 3 = 3.33",
    "(1 + 2) * 3 = 9",
    "-3 + 5 = 2",
    "1,000 + 1 = 1,001 and so on",
    r"\frac{10}{4} = 2.5",
    "1/4 of 44 seniors = 11",
    "17 − 4 = 13",
    "6 × 7 = 42",
    "20 divided by 5 = 4",
]
WRONG = [
    "7 + 5 = 13",
    "<<17*(1/4)=68>>68",
    "0.20 x 44 x 20 = $<<0.20*44*20=1760>>1760",
    "20% of 50 = 12",
    "73 / 8 = <<73/8=9>>9 boxes",
]
UNREADABLE = [
    "6s + 9 = 3 * (s + 9)",
    "x * 4 + 8 = 40",
    "5 = 5",
    "a = b",
    "1/0 = 3",
    "= = =",
    "((((1 + = 4",
    "He has 5 apples and 3 pears = 8 fruits",
    "",
]


@pytest.mark.parametrize("text", RIGHT)
def test_right_equations_are_right(text: str):
    assert [each.right for each in equations(text)] == [True]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_equations_are_wrong(text: str):
    assert [each.right for each in equations(text)] == [False]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_has_no_value_is_no_equation(text: str):
    assert equations(text) == []


def test_a_chain_is_read_step_by_step():
    assert [(each.value, each.right) for each in equations("2 + 2 = 2 * 2 = 5")] == [(4.0, True), (5.0, False)]


def test_numbers_are_read_as_written():
    assert numbers("3 of 1,250.5 cost $.75, and A4 is paper") == [3.0, 1250.5, 0.75]


whole = st.integers(min_value=0, max_value=9999)


@given(whole, whole, st.sampled_from("+-*"), whole)
def test_an_equation_is_right_exactly_if_it_is(a: int, b: int, sign: str, claimed: int):
    true = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert [each.right for each in equations(f"So {a} {sign} {b} = {true}.")] == [True]
    assert [each.right for each in equations(f"So {a} {sign} {b} = {claimed}.")] == [claimed == true]


@given(st.text(alphabet="0123456789+-*/()=%x <>$.,\n", max_size=200))
def test_nothing_that_can_be_written_fails(text: str):
    equations(text)
