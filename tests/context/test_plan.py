import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.context.conversations import chat, conversations, requests

from penstock.context.billing import BILLINGS, NO_CACHE
from penstock.context.memory import Memory
from penstock.context.plan import draft, stable_points
from penstock.context.terms import Terms
from penstock.core.errors import InvalidRequest
from penstock.pricing.estimate import estimate_message

INSTRUCTIONS = ("system", "developer")

terms = st.builds(
    Terms,
    mode=st.sampled_from(["budget", "aggressive"]),
    tokens=st.one_of(st.none(), st.integers(50, 2000)),
    billing=st.sampled_from([NO_CACHE, BILLINGS["anthropic"], BILLINGS["openai"]]),
    recent=st.one_of(st.none(), st.integers(0, 300)),
    excerpts=st.one_of(st.none(), st.integers(0, 300)),
    summary=st.one_of(st.none(), st.integers(0, 300)),
)


def size(messages):
    return sum(map(estimate_message, messages))


def plan(messages, given_terms, memory=None, tools=0):
    made = draft(messages, tools, given_terms, estimate_message, memory)
    return None if made is None else made.finish()


def last_turn(messages):
    at = max(at for at, message in enumerate(messages) if message["role"] == "user")
    while at and messages[at - 1]["role"] == "user":
        at -= 1
    return at


def said(message):
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


@given(conversations(), terms)
def test_what_is_sent_is_a_valid_shorter_conversation(messages, terms):
    before = copy.deepcopy(messages)
    try:
        made = plan(messages, terms)
    except InvalidRequest:
        turn = last_turn(messages)
        before = [each for each in messages[:turn] if each["role"] in INSTRUCTIONS]
        assert terms.tokens < size(before + messages[turn:])
        return
    assert messages == before
    if made is None:
        assert terms.mode == "aggressive" or terms.tokens is None or size(messages) <= terms.tokens
        return
    sent = made.messages
    if terms.tokens is not None:
        assert size(sent) <= terms.tokens
    # System prompts stay, in order and word for word.
    assert [each for each in sent if each["role"] in INSTRUCTIONS] == [
        each for each in messages if each["role"] in INSTRUCTIONS
    ]
    # The last user turn and what follows stay; at most something stands before what it says.
    turn = messages[last_turn(messages) :]
    assert sent[-len(turn) + 1 :] == turn[1:] or len(turn) == 1
    assert said(sent[-len(turn)]).endswith(said(turn[0]))
    # Tool calls stand with all their results, as they did.
    for at, message in enumerate(sent):
        if message["role"] == "tool":
            calls = [call["id"] for each in sent[:at] for call in each.get("tool_calls") or ()]
            assert message["tool_call_id"] in calls
    answered = {each["tool_call_id"] for each in messages if each["role"] == "tool"}
    calls = {call["id"] for each in sent for call in each.get("tool_calls") or ()}
    assert calls & answered == {each["tool_call_id"] for each in sent if each["role"] == "tool"}
    # Roles follow each other as before, and a person begins.
    roles = [each["role"] for each in sent if each["role"] not in INSTRUCTIONS]
    assert roles[0] == "user"
    theirs = [each["role"] for each in messages if each["role"] not in INSTRUCTIONS]
    assert roles == theirs[-len(roles) :]


@given(conversations(), terms)
def test_what_is_reported_is_what_was_done(messages, terms):
    try:
        made = plan(messages, terms)
    except InvalidRequest:
        return
    if made is None:
        return
    shaping = made.shaping
    assert (shaping.before, shaping.after) == (size(messages), size(made.messages))
    assert shaping.left_out == len(messages) - len(made.messages)
    assert 0 <= shaping.summarised <= shaping.left_out
    assert bool(shaping.how) == bool(shaping.summarised)
    assert shaping.kept == sum(any(each is came for came in messages) for each in made.messages)
    assert [span.start for span in made.spans[1:]] == [span.end for span in made.spans[:-1]]
    assert (made.spans[0].start, made.spans[-1].end) == (0, len(messages))
    assert made.spans[-1].fate == "kept"


@settings(max_examples=60)
@given(conversations(least=4), terms)
def test_the_prefix_only_grows_until_the_next_cut(messages, terms):
    memory = Memory()
    ends, prefix = [], None
    for request in requests(messages):
        try:
            made = draft(request, 0, terms, estimate_message, memory)
        except InvalidRequest:
            prefix = None
            continue
        sent = request if made is None else made.finish().messages
        stable = [json.dumps(each) for each in sent[: len(sent) - len(request) + last_turn(request)]]
        if made is not None and made.cuts.ends != ends:
            assert made.cuts.ends[: len(ends)] == ends
            ends = made.cuts.ends
        elif prefix is not None and size(sent) + 100 < (terms.tokens or 10**6):
            assert stable[: len(prefix)] == prefix
        prefix = stable


@settings(max_examples=40)
@given(conversations(most=8), terms)
def test_memory_changes_nothing(messages, terms):
    memory = Memory(most_tokens=100)
    for request in requests(messages):
        try:
            fresh = plan(copy.deepcopy(request), terms)
        except InvalidRequest:
            continue
        assert plan(request, terms, memory) == fresh


@given(conversations(), st.integers(0, 2000))
def test_nothing_is_done_to_what_fits(messages, spare):
    assert draft(messages, 30, Terms(tokens=size(messages) + 30 + spare), estimate_message) is None
    assert draft(messages, 30, Terms(), estimate_message) is None
    assert draft(messages, 30, Terms("off", tokens=1), estimate_message) is None


def test_a_budget_that_is_too_small_is_refused_with_both_numbers():
    messages = chat(10, system="Be brief. " * 100)
    least = size([messages[0], messages[-1]]) + 17
    with pytest.raises(InvalidRequest) as caught:
        draft(messages, 17, Terms(tokens=least - 1), estimate_message)
    assert (caught.value.code, caught.value.param) == ("context_too_small", "messages")
    assert f"may have {least - 1} tokens" in caught.value.message
    assert f"allow {least} tokens or more" in caught.value.message
    assert size(plan(messages, Terms(tokens=least), tools=17).messages) == least - 17


def test_one_turn_that_is_too_long_is_refused():
    with pytest.raises(InvalidRequest, match="allow"):
        draft([{"role": "user", "content": "word " * 500}], 0, Terms(tokens=100), estimate_message)


def test_a_models_summary_stands_in_for_the_extractive_one():
    made = draft(chat(60), 0, Terms(tokens=2500), estimate_message)
    texts = [f"Part {number} was about {number} valves." for number in range(len(made.summaries))]
    plan = made.finish(texts)
    assert plan.shaping.how == "model"
    first = next(each for each in plan.messages if each["role"] == "user")
    assert all(text in first["content"] for text in texts)
    assert made.finish([None] * len(texts)) == made.finish()
    assert made.finish().shaping.how == "extractive"


def test_a_models_summary_that_is_too_long_is_cut():
    made = draft(chat(60), 0, Terms(tokens=2500), estimate_message)
    plan = made.finish(["The pump failed again in Lisbon. " * 1000] * len(made.summaries))
    assert size(plan.messages) <= 2500
    assert "The pump failed again in Lisbon." in plan.messages[1]["content"]


def test_without_room_for_summaries_they_are_left_out_and_that_is_said():
    plan_ = plan(chat(60), Terms(tokens=1500, summary=0))
    assert (plan_.shaping.summarised, plan_.shaping.how) == (0, "")
    assert plan_.spans[0].fate == "left out"


def test_the_key_points_of_what_is_cut_are_in_the_summary():
    messages = chat(60)
    messages[3]["content"] = "I'm allergic to peanuts. " + messages[3]["content"]
    assert "- preference: I'm allergic to peanuts." in plan(messages, Terms(tokens=2500)).messages[1]["content"]


def test_notes_stand_before_the_parts_of_a_multimodal_message():
    messages = chat(60)
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "text", "text": "This?"},
    ]
    messages[-1] = {"role": "user", "content": parts}
    last = plan(messages, Terms(tokens=2500)).messages[-1]["content"]
    assert last[1:] == parts
    assert last[0]["type"] == "text"


def test_results_that_come_after_the_next_question_keep_their_calls():
    """No provider documents it, but assistants that work in the background send results late."""
    messages = chat(40)
    call = {"id": "late", "type": "function", "function": {"name": "measure", "arguments": "{}"}}
    messages[6] = {"role": "assistant", "content": None, "tool_calls": [call]}
    messages.insert(-3, {"role": "tool", "tool_call_id": "late", "content": "42"})
    sent = plan(messages, Terms(tokens=1500)).messages
    assert not any(each["role"] == "tool" or each.get("tool_calls") for each in sent)
    messages.append(messages.pop(-4))
    with pytest.raises(InvalidRequest):
        plan(messages, Terms(tokens=1500))


def test_where_the_prompt_can_be_cached():
    messages = chat(60)
    assert stable_points(messages) == (0, len(messages) - 2, len(messages) - 1)
    assert stable_points(messages[:2]) == (0, 1)
    assert stable_points([]) == ()
    made = plan(messages, Terms(tokens=2500, excerpts=0))
    assert made.breakpoints == (0, len(made.messages) - 2, len(made.messages) - 1)
    messages[-1] = {"role": "user", "content": "What was item 3 about?"}
    made = plan(messages, Terms(tokens=2500))
    assert made.spans[0].quoted
    assert made.breakpoints == (0, len(made.messages) - 2)
    call = {"id": "1", "type": "function", "function": {"name": "measure", "arguments": "{}"}}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
    ]
    made = plan(messages, Terms(tokens=2500))
    assert made.breakpoints == (0, len(made.messages) - 4, len(made.messages) - 1)


@pytest.mark.parametrize(("notes", "versions"), [("", 1), (" and my notes " + "blue valve " * 620, 3)])
def test_excerpts_stay_the_same_while_tools_are_called(notes, versions):
    """Until their results leave no room for them: then half as much is quoted, so that this happens rarely."""
    messages, memory, seen = chat(60), Memory(), []
    messages[-1] = {"role": "user", "content": f"What about{notes} was item 3 about?"}
    for number in range(10):
        made = plan(messages, Terms(tokens=2500), memory)
        asked = next(each for each in reversed(made.messages) if each["role"] == "user")
        seen += [asked] if asked not in seen else []
        assert number or "Excerpts" in asked["content"]
        call = {"id": str(number), "type": "function", "function": {"name": "measure", "arguments": "{}"}}
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": str(number), "content": "42 litres"},
        ]
    assert len(seen) <= versions


@pytest.mark.parametrize(
    "messages",
    [None, "text", [1], [None], [{"content": "no role"}], [{"role": 7}], {"role": "user"}],
)
def test_what_cannot_be_read_is_left_to_the_provider(messages):
    assert draft(messages, 0, Terms(tokens=1), estimate_message) is None


@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["system", "user", "assistant", "tool", "function", "odd"])},
            optional={
                "content": st.one_of(st.none(), st.text(), st.integers(), st.lists(st.one_of(st.text(), st.none()))),
                "tool_calls": st.one_of(st.none(), st.integers(), st.lists(st.one_of(st.none(), st.just({"id": 1})))),
                "tool_call_id": st.one_of(st.none(), st.integers(), st.text()),
                "name": st.one_of(st.none(), st.integers(), st.text()),
            },
        ),
        max_size=12,
    ),
    terms,
)
def test_ill_formed_messages_do_no_harm(messages, terms):
    try:
        made = plan(messages, terms)
    except InvalidRequest:
        return
    assert made is None or terms.tokens is None or size(made.messages) <= terms.tokens


def test_where_much_has_come_since_the_request_before_its_end_is_a_breakpoint():
    """Anthropic looks back 20 blocks from a mark for what it has cached."""
    minutes = [{"role": "user", "name": f"speaker_{at % 2}", "content": f"Point {at}."} for at in range(40)]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Here are the minutes."}]
    messages += [{"role": "assistant", "content": "Go on."}, *minutes]
    assert stable_points(messages) == (0, 1, 41, 42)
    assert stable_points(messages[:8]) == (0, 6, 7)


@pytest.mark.parametrize(
    ("terms", "shares"),
    [
        (Terms(tokens=8000), (2000, 2000, 1000)),
        (Terms(tokens=100_000), (25_000, 8192, 12_500)),
        (Terms("aggressive", tokens=100_000), (8192, 4096, 768)),
        (Terms("aggressive", billing=BILLINGS["anthropic"]), (16_384, 4096, 768)),
        (Terms("aggressive", tokens=4000, recent=7, excerpts=0), (7, 0, 500)),
    ],
)
def test_what_each_part_may_have_when_nobody_says(terms, shares):
    found = terms.shares()
    assert (found.recent, found.excerpts, found.summary) == shares


@pytest.mark.parametrize("dear", ["[Excerpts", "[Summary"])
def test_the_budget_holds_for_counts_that_do_not_add_up(dear):
    """Tokens of a text are not those of its parts; a counter may even charge for what stands around it."""

    def count(message):
        content = str(message.get("content"))
        return estimate_message(message) + 400 * (dear in content and len(content) > 300)

    messages = chat(60, words=12)
    messages[-1] = {"role": "user", "content": "word " * 500 + "What was item 3 about?"}
    for tokens in range(700, 1500, 50):
        sent = draft(messages, 0, Terms(tokens=tokens), count).finish().messages
        assert sum(map(count, sent)) <= tokens
