import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.context.conversations import chat, conversations

from penstock import Client, Conversation, InvalidRequest
from penstock.context.billing import BILLINGS
from penstock.context.terms import Terms
from penstock.pricing.estimate import estimate_message

FACT = "The spare key of the boathouse hangs behind the barometer."


def size(messages):
    return sum(map(estimate_message, messages))


def long_one(**options):
    conversation = Conversation(chat(80)[:-1], **options)
    conversation.messages[9]["content"] += " " + FACT
    return conversation


def test_a_short_conversation_is_sent_whole():
    conversation = Conversation(tokens=1000).add("system", "Be brief.").add("user", "Hello").add("assistant", "Hi.")
    assert conversation.ask("How are you?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "How are you?"},
    ]
    assert len(conversation) == 4


def test_a_long_one_is_cut_to_its_budget_and_stays_whole_itself():
    conversation = long_one(tokens=2500)
    sent = conversation.context("Where is the key of the boathouse?")
    assert size(sent) <= 2500 < size(conversation.messages)
    assert FACT in sent[-1]["content"]
    assert len(conversation) == 161
    assert size(conversation.context("And why?", budget=1500)) <= 1500
    sent[0]["content"] = "changed"
    assert conversation.messages[0]["content"] != "changed"


def test_the_beginning_stays_the_same_from_question_to_question():
    conversation, beginnings = long_one(tokens=2500), []
    for number in range(4):
        sent = conversation.ask(f"What was item {number + 3}?")
        beginnings.append(json.dumps(sent[:-1]))
        conversation.add("assistant", "No idea.")
    for before, after in pairwise(beginnings):
        assert after.startswith(before[:-1])


@settings(max_examples=40)
@given(conversations(), st.integers(200, 1500))
def test_a_conversation_goes_on_where_it_was_dumped(messages, tokens):
    conversation = Conversation(messages, terms=Terms("aggressive", tokens, BILLINGS["openai"], excerpts=90))
    again = Conversation.load(conversation.dump())
    assert again.messages == messages
    assert again.dump() == conversation.dump()
    try:
        sent = conversation.context()
    except InvalidRequest as error:
        with pytest.raises(InvalidRequest, match=error.message[:60].replace("(", "[(]")):
            again.context()
        return
    assert again.context() == sent


@pytest.mark.parametrize(
    "data", ["", "[]", "{", '{"messages": []}', b"\xff", '{"form": "x", "terms": {}, "messages": []}']
)
def test_what_is_no_dump_is_refused(data):
    with pytest.raises(InvalidRequest) as caught:
        Conversation.load(data)
    assert caught.value.code == "invalid_conversation"


@pytest.mark.parametrize("message", [{"content": "x"}, {"role": 1}, {"role": "user", "content": 7}])
def test_what_is_no_message_is_refused(message):
    with pytest.raises(InvalidRequest) as caught:
        Conversation([message])
    assert caught.value.code == "invalid_messages"


def test_tools_and_parts_are_messages_too():
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    conversation = Conversation().add("user", [{"type": "text", "text": "Look"}], name="Maria")
    conversation.add("assistant", tool_calls=calls).add("tool", "42", tool_call_id="1")
    assert conversation.context() == [
        {"role": "user", "content": [{"type": "text", "text": "Look"}], "name": "Maria"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
    ]


def test_a_budget_too_small_for_the_question_says_so():
    with pytest.raises(InvalidRequest) as caught:
        Conversation(tokens=20).add("system", "Be brief. " * 50).context("Why?")
    assert caught.value.code == "context_too_small"


def test_a_client_answers_it():
    config = {"providers": [{"name": "sim", "kind": "simulated"}],
              "models": [{"name": "fast", "targets": [{"provider": "sim", "model": "any"}]}]}  # fmt: skip
    conversation = long_one(tokens=2500)
    with Client(config) as client:
        answer = client.chat(conversation.ask("Where is the key of the boathouse?"), model="fast")
    conversation.add("assistant", answer.text)
    assert conversation.messages[-1]["content"]


def test_the_explanation_says_what_becomes_of_every_message():
    found = long_one(tokens=2500).explain("Where is the key of the boathouse?")
    assert found.messages == long_one(tokens=2500).context("Where is the key of the boathouse?")
    assert (found.spans[0].start, found.spans[-1].end) == (0, 162)
    assert [span.fate for span in found.spans] == ["summarised"] * (len(found.spans) - 1) + ["kept"]
    assert any(9 in span.quoted for span in found.spans)
    assert FACT in found.excerpts
    assert found.after <= 2500 < found.before
    assert all(end <= found.spans[-1].start for end in found.cuts)


def test_the_explanation_counts_as_the_provider_bills():
    conversation = long_one(terms=Terms(tokens=2500, billing=BILLINGS["anthropic"]))
    conversation.ask("What was item 5?")
    conversation.add("assistant", "No idea.")
    found = conversation.explain("Where is the key of the boathouse?")
    # The whole is read at a tenth but for the answer and the question, which are written.
    assert found.now.whole == pytest.approx(0.1 * found.before, abs=120)
    # What is sent has excerpts that no cache knows.
    assert 0.1 * found.after < found.now.sent < found.now.anew == found.after
    assert found.later.saved == pytest.approx(found.later.whole - found.later.sent)
    assert found.turns_to_pay is not None


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (Terms(tokens=10**6), "it fits"),
        (Terms(), "there is no budget of tokens"),
        (Terms("off"), "nothing is cut in mode off"),
        (Terms("aggressive"), "it is no longer than the 8192 tokens that a cut leaves"),
        (
            Terms("aggressive", billing=BILLINGS["anthropic"], recent=100),
            "no cut has paid for itself so far, as the provider bills what it has cached",
        ),
    ],
)
def test_the_explanation_says_why_nothing_is_cut(terms, reason):
    found = Conversation(chat(10), terms=terms).explain()
    assert [(span.fate, span.reason) for span in found.spans] == [("kept", reason)]
    assert found.now.saved == found.later.saved == 0
    assert found.turns_to_pay is None


def test_nothing_cannot_be_explained():
    with pytest.raises(InvalidRequest) as caught:
        Conversation().explain()
    assert caught.value.code == "invalid_messages"
