import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.context.insights import insights, key_points
from penstock.context.summary import Said, prompt, sentences, summarise, trimmed
from penstock.pricing.estimate import estimate_tokens

PLANNING = [
    Said("user", "Hi! My name is Maria and I live in Lisbon. I'm allergic to peanuts. Can you plan 3 dinners?"),
    Said("assistant", "Sure. How many people will eat? I suggest pasta on Monday.", person=False),
    Said("user", "Four of us. Our budget is €120. Never use mushrooms. Let's go with pasta on Monday."),
    Said("assistant", "Wonderful! Pasta it is. You could also try 7 kinds of soup.", person=False),
    Said("user", "I don't know about Tuesday. Friday is still open. What about dessert?"),
]

SAID = ["The", "pump", "in", "Lisbon", "failed", "3", "times.", "Why?", "Nobody", "knows,", "it", "costs", "€40."]
dialogues = st.lists(
    st.builds(
        Said,
        st.sampled_from(["user", "assistant", "Maria"]),
        st.lists(st.sampled_from(SAID)).map(" ".join),
    ),
    max_size=30,
)


def found(said):
    return list(sentences(said))


def test_key_points_are_decisions_preferences_facts_and_open_questions_of_people():
    assert [(each.kind, each.text) for each in insights(found(PLANNING))] == [
        ("fact", "My name is Maria and I live in Lisbon."),
        ("preference", "I'm allergic to peanuts."),
        ("fact", "Our budget is €120."),
        ("preference", "Never use mushrooms."),
        ("decision", "Let's go with pasta on Monday."),
        ("open question", "Friday is still open."),
    ]


def test_a_question_is_open_while_nobody_has_said_anything_after_it():
    said = [Said("user", "Which pump is broken in Lisbon?")]
    assert [each.kind for each in insights(found(said))] == ["open question"]
    assert insights(found([*said, Said("assistant", "The second pump there.", person=False)])) == []


def test_a_decision_of_the_assistant_counts_and_its_numbers_do_not():
    said = [Said("assistant", "The water has 21 degrees today. We agreed on Porto for spring.", person=False)]
    assert [each.text for each in insights(found(said))] == ["We agreed on Porto for spring."]


def test_decisions_are_kept_before_facts_when_there_is_no_room():
    assert key_points(found(PLANNING), 14, estimate_tokens) == "- decision: Let's go with pasta on Monday."


def test_a_summary_has_the_sentences_that_say_most_in_their_order():
    said = [
        Said(
            "user", "Hello there, hello! The pump in hall 4 leaks since Tuesday and Maria has ordered a valve for it."
        ),
        Said("assistant", "I see, thank you. So the pump leaks.", person=False),
        Said("user", "The valve arrives in Lisbon on 3 May and costs €1,250."),
    ]
    assert summarise(found(said), 45, estimate_tokens) == (
        "user: The pump in hall 4 leaks since Tuesday and Maria has ordered a valve for it. "
        "The valve arrives in Lisbon on 3 May and costs €1,250."
    )


@given(dialogues, st.integers(0, 120))
def test_summaries_and_key_points_stay_within_their_tokens(said, tokens):
    everything = found(said)
    for text in (summarise(everything, tokens, estimate_tokens), key_points(everything, tokens, estimate_tokens)):
        assert estimate_tokens(text) <= tokens
    assert summarise(everything, tokens, estimate_tokens) == summarise(found(list(said)), tokens, estimate_tokens)
    spoken = " ".join(sentence.text for sentence in everything)
    for line in summarise(everything, tokens, estimate_tokens).splitlines():
        assert all(word in spoken for word in line.split(": ", 1)[1].split())


@given(st.text(max_size=300), st.integers(0, 60))
def test_what_a_model_wrote_is_cut_at_the_end_of_a_sentence(text, tokens):
    cut = trimmed(text, tokens, estimate_tokens)
    assert text.strip().startswith(cut)
    assert estimate_tokens(cut) <= tokens


def test_trimming_keeps_whole_sentences():
    assert trimmed("One two three. Four five six! Seven eight nine.", 9, estimate_tokens) == (
        "One two three. Four five six!"
    )


def test_a_model_is_told_how_much_to_write_and_given_what_was_said():
    system, user = prompt(PLANNING, 300, estimate_tokens)
    assert (system["role"], user["role"]) == ("system", "user")
    assert "at most 200 words" in system["content"]
    assert "assistant: Sure. How many people" in user["content"]


def test_a_model_is_given_the_most_telling_sentences_of_what_is_too_long():
    said = [Said("user", f"Valve {number} of hall {number % 7} was checked by Maria. " * 3) for number in range(3000)]
    _, user = prompt(said, 300, estimate_tokens)
    assert 8000 < estimate_tokens(user["content"]) < 12_100


@pytest.mark.parametrize("text", ["", "   ", "\n\n", "?!", "a"])
def test_nothing_said_gives_nothing(text):
    assert summarise(found([Said("user", text)]), 100, estimate_tokens) == ""
    assert key_points(found([Said("user", text)]), 100, estimate_tokens) == ""
