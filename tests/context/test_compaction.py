from itertools import pairwise

import pytest
from tests.context.conversations import chat, requests

from penstock.context.billing import BILLINGS, NO_CACHE, OWN_MACHINE
from penstock.context.compaction import LEAST_CUT, replay
from penstock.context.terms import Terms
from penstock.context.units import History
from penstock.pricing.estimate import estimate_message


def cuts(messages, terms):
    """The cuts of each request on the way."""
    return [replay(History(each, estimate_message), terms, 0).ends for each in requests(messages)]


def test_a_cut_takes_out_much_at_a_time():
    """A budget that is 20 exchanges long is met by a few deep cuts, not by one a turn."""
    messages = chat(200)
    exchange = sum(map(estimate_message, messages[1:3]))
    ends = cuts(messages, Terms(tokens=20 * exchange))[-1]
    assert 10 <= len(ends) <= 40
    taken = [sum(map(estimate_message, messages[start:end])) for start, end in zip([1, *ends], ends, strict=False)]
    assert min(taken[1:]) >= 4 * exchange


def test_earlier_cuts_are_found_again_in_every_later_request():
    history = cuts(chat(80), Terms(tokens=2500))
    for before, after in pairwise(history):
        assert after[: len(before)] == before
        assert len(after) - len(before) <= 1


def test_the_bill_decides_later_where_cached_prefixes_are_cheaper():
    terms = {"recent": 1500, "excerpts": 500, "summary": 200}
    first = {}
    for name, billing in [("none", NO_CACHE), ("openai", BILLINGS["openai"]), ("anthropic", BILLINGS["anthropic"])]:
        found = cuts(chat(150), Terms("aggressive", billing=billing, **terms))
        first[name] = next(at for at, ends in enumerate(found) if ends)
    assert first["none"] < first["openai"] < first["anthropic"]


def test_on_a_machine_of_ones_own_the_bill_never_asks_for_a_cut():
    terms = Terms("aggressive", billing=OWN_MACHINE, recent=100, excerpts=100, summary=100)
    assert cuts(chat(150), terms)[-1] == []


@pytest.mark.parametrize("name", ["anthropic", "openai", "deepseek"])
def test_cutting_by_the_bill_costs_less_than_never_cutting(name):
    """And at most twice what the best interval of cuts costs, which is known only afterwards."""
    billing, messages = BILLINGS[name], chat(200)
    terms = Terms("aggressive", billing=billing, recent=600, excerpts=0, summary=400)
    sent, never = 0.0, 0.0
    size, before, cut = 0, 0, 0
    for request in requests(messages):
        history = History(request, estimate_message)
        found = replay(history, terms, 0)
        now = found.ends[-1] if found.ends else 0
        prefix = history.total - history.upto[now] + history.fixed[now] + sum(each.tokens for each in found.blocks)
        sent += billing.cost(prefix, before if now == cut else history.fixed[now])
        never += billing.cost(history.total, size)
        size, before, cut = history.total, prefix, now
    assert sent < 0.75 * never


def test_a_cut_by_the_bill_is_worth_its_name():
    messages = chat(60)
    for ends in cuts(messages, Terms("aggressive", recent=0, excerpts=0, summary=0)):
        for start, end in zip([1, *ends], ends, strict=False):
            assert sum(map(estimate_message, messages[start:end])) >= LEAST_CUT


def test_a_summary_for_each_block_until_there_are_too_many():
    messages = chat(300)
    blocks = [replay(History(each, estimate_message), Terms(tokens=2500), 0).blocks for each in requests(messages)]
    most = 2500 // 8
    assert all(sum(block.tokens for block in each) <= most for each in blocks)
    assert max(map(len, blocks)) > 2
    assert all(each[0].start == 0 for each in blocks if each)
    assert all(one.end == next_.start for each in blocks for one, next_ in pairwise(each))


def test_the_last_turn_may_leave_no_room_for_anything_else():
    messages = chat(20)
    messages[-1] = {"role": "user", "content": "word " * 400}
    last = estimate_message(messages[-1]) + estimate_message(messages[0])
    found = replay(History(messages, estimate_message), Terms(tokens=last + 50), 0)
    assert found.ends[-1] == len(messages) - 1
