"""What labels stand for over time."""

from hypothesis import given
from hypothesis import strategies as st

from penstock.core.prompt import PromptDefinition, PromptText, PromptVersion
from penstock.prompts.labels import UNMOVED, labels_of, move, observe, previous
from penstock.prompts.versions import in_order


def define(*versions, **labels):
    texts = (PromptText("user", "x"),)
    return PromptDefinition("p", {each: PromptVersion(each, texts) for each in versions}, labels)


def test_numbers_in_versions_count_as_numbers():
    assert in_order(["1.10", "2", "1.9", "1", "v3", "v20", "beta"]) == ["beta", "v3", "v20", "1", "1.9", "1.10", "2"]


def test_production_is_the_newest_until_somebody_says_otherwise():
    assert labels_of(define("1", "2", "10"), UNMOVED) == {"production": "10"}
    assert labels_of(define("1", "2", production="1", staging="2"), UNMOVED) == {"production": "1", "staging": "2"}


def test_going_back_goes_to_what_was_before_then_further_back():
    prompt = define("1", "2", "3", "4", "5", production="3")
    state = observe(prompt, UNMOVED, 0.0)
    steps = []
    state = move(state, "production", "3", "5", 1.0, "ada")
    for _ in range(3):
        now, to = labels_of(prompt, state)["production"], previous(prompt, state, "production")
        steps.append((now, to))
        state = move(state, "production", now, to, 2.0, "ada")
    assert steps == [("5", "3"), ("3", "2"), ("2", "1")]
    assert previous(prompt, state, "production") is None


def test_a_decision_holds_until_the_files_say_something_new():
    before = define("1", "2", "3", production="3")
    state = move(observe(before, UNMOVED, 0.0), "production", "3", "2", 1.0, "ada")
    assert labels_of(before, observe(before, state, 2.0)) == {"production": "2"}
    after = define("1", "2", "3", "4", production="4")
    state = observe(after, state, 3.0)
    assert labels_of(after, state) == {"production": "4"}
    last = state.moves[-1]
    assert (last.label, last.before, last.after, last.by) == ("production", "2", "4", "files")
    assert previous(after, state, "production") == "2"


def test_a_decision_for_a_version_that_is_gone_does_not_count():
    state = move(UNMOVED, "production", "2", "1", 1.0, "ada")
    assert labels_of(define("2", "3"), state) == {"production": "3"}


VERSIONS = ("1", "2", "3", "4")


@given(st.lists(st.one_of(st.none(), st.sampled_from(VERSIONS)), max_size=12), st.sampled_from(VERSIONS))
def test_going_back_always_leads_to_an_older_version(moves, declared):
    prompt = define(*VERSIONS, production=declared)
    state = observe(prompt, UNMOVED, 0.0)
    for to in moves:
        now = labels_of(prompt, state)["production"]
        back = previous(prompt, state, "production")
        assert (back is None) == (now == "1")
        assert back is None or back < now
        state = move(state, "production", now, to or back or now, 1.0, "")
        assert labels_of(prompt, state)["production"] in VERSIONS
