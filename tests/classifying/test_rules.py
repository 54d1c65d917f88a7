import pytest

from penstock import ConfigError, Opinion, Rules


def label(rules, text):
    opinion = rules.look(text)
    return None if opinion is None else opinion.label


def test_keywords_are_whole_words_and_phrases():
    rules = Rules(keywords={"hiring": ["hiring", "job opening"], "sales": ["C++ offer"]})
    assert label(rules, "We are HIRING!") == "hiring"
    assert label(rules, "a Job \n opening") == "hiring"
    assert label(rules, "a C++ offer.") == "sales"
    assert label(rules, "rehiring is not hirings") is None
    assert rules.look("hiring").score == 100


def test_keywords_come_before_patterns_and_those_before_the_function():
    rules = Rules(
        keywords={"a": ["one"]},
        patterns={"b": [r"^\d+", "one"]},
        decide=lambda text: Opinion("c", 40) if "maybe" in text else "d" if "sure" in text else None,
    )
    assert [label(rules, text) for text in ("one", "42", "maybe", "sure", "else")] == ["a", "b", "c", "d", None]
    assert rules.look("maybe").score == 40


def test_rules_that_cannot_be_used():
    with pytest.raises(ConfigError, match=r"patterns.b\[0\]"):
        Rules(patterns={"b": ["("]})
    with pytest.raises(ConfigError, match="expected keywords, patterns or decide"):
        Rules()
