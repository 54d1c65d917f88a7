"""What is read from a text."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.matching.reading import read, tokens


@given(st.integers(0, 10**9))
def test_a_number_is_read_alike_in_all_its_spellings(number: int) -> None:
    spellings = {f"pay {number} now", f"pay {number:,} now", f"pay {number}.0 now", f"pay {number}.00 now"}
    if number % 1000 == 0 and number:
        spellings.add(f"pay {number // 1000}k now")
    assert {read(text).numbers for text in spellings} == {(str(number),)}


@pytest.mark.parametrize(
    ("text", "numbers", "units"),
    [
        ("twelve hours", ("12",), {"hour"}),
        ("the 3rd of 4 parts", ("3", "4"), set()),
        ("it costs $20", ("20",), {"usd"}),
        ("it costs 20 dollars", ("20",), {"usd"}),
        ("ten kilometres", ("10",), {"km"}),
        ("a day in May", (), set()),
        ("I am at 5 pm", ("5",), {"pm"}),
        ("version 2.10.0", ("2.10.0",), set()),
    ],
)
def test_numbers_and_units(text: str, numbers: tuple[str, ...], units: set[str]) -> None:
    found = read(text)
    assert found.numbers == numbers
    assert found.units == units


@pytest.mark.parametrize(
    ("text", "negated"),
    [
        ("I do not smoke", ("smoke",)),
        ("I don't smoke", ("smoke",)),
        ("I can't smoke", ("smoke",)),
        ("No, I smoke", ()),
        ("No smoking", ("smoking",)),
        ("They leave not on Friday, but on Saturday", ("friday",)),
        ("I never said that I could not swim", ("said", "swim")),
        ("why not", ()),
        ("do you like it or not?", ()),
    ],
)
def test_what_is_negated(text: str, negated: tuple[str, ...]) -> None:
    assert read(text).negated == negated


def test_the_kind_of_a_question() -> None:
    assert read("How many days?").asked == {"how many"}
    assert read("Where and when is it?").asked == {"where", "when"}
    assert read("When it rains, stay inside.").asked == set()


def test_names_and_literals() -> None:
    assert read("Is London far from Oxford?").names == {"london", "oxford"}
    assert read("IS LONDON FAR FROM OXFORD").names == set()
    assert read('say "good night" at https://a.example/b').literals == {"good night", "https://a.example/b"}


@given(st.text(max_size=200))
def test_anything_can_be_read(text: str) -> None:
    found = read(text)
    assert set(found.negated) - {""} <= found.words
    assert len(found.content) + len(found.function) <= len(found.stems)


@given(st.text(alphabet="aZ9 .,?!'+#$<_\n", max_size=30))
@example("C++ or C#? a+b, a +b")
@example("it_is 1,000.50 a $5")
def test_a_text_of_plain_letters_is_split_as_others_are(text: str) -> None:
    """A space of another kind behind it makes no difference."""
    assert tokens(text) == tokens(text + "\u2003")


@given(st.text(alphabet='ab?.! "`|&_\n\u201c\u201d', max_size=20))
def test_a_comma_before_a_text_changes_none_of_its_literals(text: str) -> None:
    assert read(text).literals == read(f", {text}").literals
