import json

import pytest

from penstock.abc import StoredAnswer
from penstock.caching.at_rest import read_answer
from penstock.caching.entries import Entries, Entry
from penstock.core.events import Event


def entry(name, *, tenant="t", fresh_until=100.0, cost_pusd=1):
    key = name.encode()
    return Entry.of(StoredAnswer(key, tenant, "json", b"", 0.0, fresh_until, cost_pusd=cost_pusd, input_tokens=3))


def held(entries, name, size):
    one = entry(name)
    entries.put(one)
    entries.hold(one, b"x" * (size - 100), None)
    return one


def test_both_bounds_hold():
    entries = Entries(max_entries=5, max_memory_bytes=1000)
    gone = []
    for number in range(50):
        one = entry(f"{number:02}")
        gone += entries.put(one)
        entries.hold(one, b"x" * 300, None)
        assert len(entries) <= 5
        assert entries.memory_bytes <= 1000
    assert len(set(gone)) == 45
    assert all(entries.find(key) is None for key in gone)
    assert sum(one.body is not None for one in entries) == 2


def test_what_leaves_memory_is_still_known():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    first = held(entries, "a", 600)
    second = held(entries, "b", 600)
    assert first.body is None
    assert first.held is None
    assert second.body is not None
    assert entries.find(b"a") is first
    assert entries.memory_bytes == 600


def test_an_answer_larger_than_memory_is_not_held():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    small = held(entries, "small", 200)
    large = held(entries, "large", 5000)
    assert large.held is None
    assert small.body is not None
    assert Entries(10, 0).memory_bytes == 0
    assert held(Entries(10, 0), "a", 200).held is None


def test_a_second_form_is_counted_and_one_too_many_is_not_kept():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    one = held(entries, "a", 200)
    entries.hold(one, one.body, [Event(data=b"y" * 50)])
    assert entries.memory_bytes == 400
    entries.hold(one, one.body, [Event(data=b"y" * 900)])
    assert entries.memory_bytes == 400
    assert one.events == [Event(data=b"y" * 50)]


def test_replacing_and_removing_give_memory_back():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    old = held(entries, "a", 300)
    new = held(entries, "a", 500)
    assert entries.find(b"a") is new
    assert old.body is None
    assert entries.memory_bytes == 500
    entries.hold(old, b"late", None)
    assert entries.memory_bytes == 500
    assert entries.remove(b"a")
    assert not entries.remove(b"a")
    assert entries.memory_bytes == 0


def test_one_tenant_can_be_cleared():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    for name, tenant in (("a", "x"), ("b", "y"), ("c", "x")):
        entries.put(entry(name, tenant=tenant))
    assert entries.clear(lambda entry: entry.tenant == "x") == [b"a", b"c"]
    assert [one.key for one in entries] == [b"b"]
    assert entries.clear() == [b"b"]


def test_entries_leave_a_day_after_their_freshness():
    entries = Entries(max_entries=10, max_memory_bytes=1000)
    for name, fresh_until in (("a", 100.0), ("b", 200.0), ("c", 300.0)):
        entries.put(entry(name, fresh_until=fresh_until))
    assert entries.expire(86_400.0) == []
    assert entries.expire(86_400.0 + 250.0) == [b"a", b"b"]
    assert len(entries) == 1


def test_reading_what_was_stored():
    body = json.dumps({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()
    whole, events, usage = read_answer(StoredAnswer(b"k", "t", "json", body, 0, 0))
    assert whole == body
    assert events is None
    assert usage is not None
    assert usage.output_tokens == 4
    lines = [
        b'{"choices": [ {"delta": {"content": "hi"}} ]}',
        b'{"choices":[{"delta":{},"finish_reason":"stop"}]}',
        b'{"choices":[],"usage":{"prompt_tokens":5}}',
    ]
    whole, events, usage = read_answer(StoredAnswer(b"k", "t", "events", b"\n".join(lines), 0, 0))
    assert whole is None
    assert [event.data for event in events] == lines
    assert [event.finish_reason for event in events] == [None, "stop", None]
    assert events[2].bare_usage
    assert usage.input_tokens == 5


@pytest.mark.parametrize("form", ["json", "events"])
def test_damaged_answers_are_noticed(form):
    with pytest.raises(ValueError, match="damaged"):
        read_answer(StoredAnswer(b"k", "t", form, b'{"choices": [', 0, 0))
