import pytest

from penstock.core.cascade import Filter, FilterRule
from penstock.routing.filters import MAX_CHARS, applies

GREETING = Filter((FilterRule(("hello", "good morning")),), at_least=1.0, answer="Hello.")
SIGNAL = Filter(
    (
        FilterRule(("budget", "invoice"), score=2.0),
        FilterRule(pattern=r"\$\d+"),
        FilterRule(("no thanks",), score=-3.0),
    ),
    below=2.0,
    answer="No lead.",
)


@pytest.mark.parametrize(
    ("question", "fits"),
    [
        ("Hello?", True),
        ("well, GOOD MORNING to you", True),
        ("Othello", False),
        ("good, morning", False),
        ("", False),
        ("hello" + " " * MAX_CHARS, False),
    ],
)
def test_words_are_whole_words_in_any_case(question, fits):
    assert applies(GREETING, question) is fits


@pytest.mark.parametrize(
    ("question", "under"),
    [
        ("Hi.", True),
        ("$20", True),
        ("Our budget is $20.", False),
        ("Budget? $20? No thanks.", True),
        ("invoice", False),
    ],
)
def test_scores_of_what_fits_add_up_whatever_how_often_it_does(question, under):
    assert applies(SIGNAL, question) is under


def test_a_pattern_minds_the_case_unless_it_says_so():
    assert not applies(Filter((FilterRule(pattern="prove"),), at_least=1.0), "Prove it.")
    assert applies(Filter((FilterRule(pattern="(?i)prove"),), at_least=1.0), "Prove it.")
