"""Conversations for tests: drawn at random, with everything providers allow in them."""

import json

from hypothesis import strategies as st

WORDS = ["harbour", "invoice", "budget", "Tuesday", "Lisbon", "chlorine", "42", "€1,250", "valve", "prefer", "decided",
         "remember", "never", "pump", "schedule", "Maria", "deadline", "colour", "blue", "17:30"]  # fmt: skip

texts = st.builds(
    lambda first, step, size: " ".join(WORDS[(first + step * at) % len(WORDS)] for at in range(size)) + ".",
    st.integers(0, len(WORDS) - 1),
    st.sampled_from([1, 3, 7, 9]),
    st.integers(1, 60),
)
contents = st.one_of(
    texts,
    st.builds(
        lambda text: [
            {"type": "text", "text": text},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
        ],
        texts,
    ),
)


@st.composite
def exchanges(draw, number):
    """What a user says, and all that follows until the user speaks again."""
    messages = [{"role": "user", "content": draw(contents)} for _ in range(draw(st.sampled_from([1, 1, 1, 2])))]
    if draw(st.integers(0, 9)) == 0:
        messages.insert(0, {"role": "system", "content": f"Note {number}: {draw(texts)}"})
    for round_ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        ids = [f"call_{number}_{round_}_{each}" for each in range(draw(st.integers(1, 3)))]
        calls = [
            {"id": id_, "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"what": number})}}
            for id_ in ids
        ]
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
        messages += [{"role": "tool", "tool_call_id": id_, "content": draw(texts)} for id_ in ids]
    messages.append({"role": "assistant", "content": draw(texts)})
    return messages


@st.composite
def conversations(draw, least=1, most=14):
    """A whole conversation that waits for an answer: to a user, or to the results of tools, some of them missing."""
    messages = draw(st.sampled_from([[], [{"role": "system", "content": "You are brief."}],
                                     [{"role": "developer", "content": "Answer in English."}],
                                     [{"role": "assistant", "content": "Hello, what can I do for you?"}]]))  # fmt: skip
    messages = list(messages)
    for number in range(draw(st.integers(least, most))):
        messages += draw(exchanges(number))
    last = draw(exchanges("last"))
    return messages + last[: draw(st.integers(_to_first_user(last), len(last) - 1))]


def _to_first_user(messages):
    return next(at for at, message in enumerate(messages) if message["role"] == "user") + 1


def chat(turns, words=40, system="You are a helpful assistant."):
    """A plain conversation of `turns` exchanges of about `words` words each message, and a last question."""
    messages = [{"role": "system", "content": system}]
    for turn in range(turns):
        filler = " ".join(f"{WORDS[(turn * 7 + at) % len(WORDS)]}{turn % 5}" for at in range(words))
        messages.append({"role": "user", "content": f"Item {turn}: {filler}."})
        messages.append({"role": "assistant", "content": f"Noted item {turn}, {filler}."})
    return [*messages, {"role": "user", "content": "What do you make of all this?"}]


def requests(messages):
    """Every request there was on the way to `messages`, each a beginning of them."""
    seen = False
    for at, message in enumerate(messages):
        if message["role"] == "assistant" and seen:
            yield messages[:at]
        seen = seen or message["role"] == "user"
    yield messages
