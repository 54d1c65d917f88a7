from tests.context.conversations import chat

from penstock.context.memory import Memory
from penstock.context.plan import EXCERPTS_NOTE, draft
from penstock.context.retrieval import PASSAGE, Library, question_of, quoted
from penstock.context.terms import Terms
from penstock.context.units import History
from penstock.pricing.estimate import estimate_message, estimate_tokens

FACT = "The spare key of the boathouse hangs behind the barometer."


def history(*messages):
    return History([dict(zip(("role", "content"), each, strict=True)) for each in messages], estimate_message)


def told(facts, turns=60):
    """A long conversation, in which each fact is told in the turn that is its key."""
    messages = chat(turns)
    for turn, fact in facts.items():
        messages[1 + 2 * turn]["content"] += f" {fact}"
    return messages


def test_what_the_question_needs_is_quoted_before_it():
    messages = told({4: FACT})
    messages[-1] = {"role": "user", "content": "Where is the key of the boathouse?"}
    sent = draft(messages, 0, Terms(tokens=2000, excerpts=300), estimate_message).finish().messages
    assert sent[-1]["content"].endswith("Where is the key of the boathouse?")
    assert sent[-1]["content"].startswith(EXCERPTS_NOTE.partition("\n")[0])
    assert FACT in sent[-1]["content"]


def test_excerpts_are_not_in_the_prefix_of_the_next_turn():
    messages = told({4: FACT})
    messages[-1] = {"role": "user", "content": "Where is the key of the boathouse?"}
    messages += [
        {"role": "assistant", "content": "Behind the barometer."},
        {"role": "user", "content": "Thanks a lot!"},
    ]
    sent = draft(messages, 0, Terms(tokens=2000, excerpts=300), estimate_message).finish().messages
    assert sent[-3:-1] == messages[-3:-1]


def test_a_short_question_is_looked_up_with_the_one_before():
    asked = history(("user", "Where is the key of the boathouse?"), ("assistant", "Behind it."), ("user", "And why?"))
    assert "boathouse" in question_of(asked)


def test_of_a_long_turn_the_first_and_the_last_sentence_are_looked_up():
    pasted = "Have a look at this log.\n" + "12:00 pump on\n" * 200 + "Which valve failed first?"
    assert question_of(history(("user", pasted))) == "Have a look at this log.\nWhich valve failed first?"


def test_who_gives_something_to_read_gets_fewer_excerpts_than_who_asks():
    messages = told({4: FACT})
    note = "The minutes of the boathouse meeting. " + "We talked about the key of the boathouse. " * 30
    sizes = {}
    for name, text in {"reads": note, "asks": f"{note} Where is the key?"}.items():
        messages[-1] = {"role": "user", "content": text}
        plan = draft(messages, 0, Terms(tokens=4000, excerpts=800), estimate_message).finish()
        sizes[name] = plan.once - estimate_message(messages[-1])
    assert 0 < sizes["reads"] <= 210 < sizes["asks"]


def test_long_messages_are_quoted_in_part():
    story = " ".join(f"In chapter {number} nothing happens to anybody." for number in range(300))
    messages = [{"role": "user", "content": f"{story} {FACT} {story}"}, {"role": "assistant", "content": "Well."}]
    messages += [{"role": "user", "content": "Where is the spare key of the boathouse?"}]
    plan = draft(messages, 0, Terms(tokens=1000), estimate_message).finish()
    assert FACT in plan.messages[-1]["content"]
    assert 0 in plan.spans[0].quoted


def test_passages_are_about_as_long_as_they_should_be_and_lose_nothing():
    lines = "\n".join(["A short line.", "data," * 1000, "Ende gut. 次は何ですか。はい。", "x" * 3000])
    library = Library()
    library.add(history(("user", lines)), [0], estimate_tokens)
    assert all(estimate_tokens(each.turn.text) <= 2 * PASSAGE for each in library.passages)
    assert "".join("".join(each.turn.text.split()) for each in library.passages) == "".join(lines.split())


def test_gaps_between_quotations_are_marked():
    library = Library()
    library.add(
        history(("user", "One.\n" + "x" * 600), ("assistant", "Two."), ("user", "Three."), ("assistant", "Four.")),
        range(4),
        estimate_tokens,
    )
    first, *_, two, three, four = library.passages
    assert quoted([first, two, four]) == f"user: {first.turn.text}\nassistant: Two.\n…\nassistant: Four."
    assert quoted([two, three]) == "assistant: Two.\nuser: Three."
    assert quoted([]) == ""


def test_images_and_tool_calls_leave_a_trace():
    calls = [{"id": "1", "type": "function", "function": {"name": "open_valve", "arguments": '{"number": 7}'}}]
    messages = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "done"},
    ]
    library = Library()
    library.add(History(messages, estimate_message), range(3), estimate_tokens)
    assert [each.turn.text for each in library.passages] == ["[image_url]", 'open_valve({"number": 7})', "done"]


def test_indexes_are_forgotten_when_there_are_too_many():
    memory = Memory(most_tokens=8000)
    for number in range(5):
        messages = told({4: f"{FACT} {number}"}, turns=20)
        assert (
            draft(messages, 0, Terms(tokens=1200), estimate_message, memory).finish()
            == draft(messages, 0, Terms(tokens=1200), estimate_message).finish()
        )
    assert memory.tokens <= 8000


def test_what_is_kept_anyway_is_not_quoted():
    messages = told({4: "The boathouse is painted green.", 58: FACT})
    messages[-1] = {"role": "user", "content": "Where is the key of the boathouse?"}
    sent = draft(messages, 0, Terms(tokens=2000, excerpts=300), estimate_message).finish().messages
    assert sum(FACT in each["content"] for each in sent) == 1
    assert FACT not in sent[-1]["content"]
    assert "painted green" in sent[-1]["content"]


def test_the_question_at_the_end_of_a_long_line_is_looked_up():
    asked = question_of(history(("user", "word " * 500 + "where the key of the boathouse is?")))
    assert asked.endswith("where the key of the boathouse is?")
    assert len(asked) < 1300
