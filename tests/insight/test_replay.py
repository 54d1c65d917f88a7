from hypothesis import given
from hypothesis import strategies as st

from penstock.insight.facts import Fact, Question, questions
from penstock.insight.replay import CachePolicy, replay

KEYS = [bytes([number]) * 16 for number in range(4)]


def ask(at, key=KEYS[0], *, cost=100, seconds=1.0, size=10, storable=True, model="m"):
    return Question(at, key, model, cost, seconds, 10, 20, size, storable)


def test_what_was_asked_before_is_free_until_it_is_stale():
    asked = [ask(0), ask(5), ask(11), ask(13), ask(30)]
    outcome = replay(asked, CachePolicy(ttl_s=10.0))
    assert outcome.asked == [1, 0, 1, 0, 1]
    assert (outcome.hits, sum(outcome.cost_pusd)) == (2, 300)
    assert outcome.ages_s == [4.0, 1.0]


def test_a_model_may_have_a_time_of_its_own():
    asked = [ask(0, model="brief"), ask(5, model="brief")]
    assert sum(replay(asked, CachePolicy(ttl_s=10.0, ttls={"brief": 2.0})).asked) == 2


def test_identical_questions_at_the_same_time_wait_for_one_answer():
    asked = [ask(0, seconds=4.0), ask(1), ask(1, KEYS[1])]
    joined = replay(asked, CachePolicy(enabled=False))
    assert (joined.joined, joined.asked, joined.waited_s) == (1, [1, 0, 1], [4.0, 3.0, 1.0])
    assert replay(asked, CachePolicy(enabled=False, coalesce=False)).asked == [1, 1, 1]


def test_what_may_not_be_kept_or_is_too_large_is_asked_again():
    policy = CachePolicy(max_entry_bytes=100)
    assert replay([ask(0, storable=False), ask(5)], policy).asked == [1, 1]
    assert replay([ask(0, size=101), ask(5)], policy).asked == [1, 1]


def test_a_full_cache_forgets():
    asked = [ask(2 * number, key) for number, key in enumerate(KEYS)] + [ask(20, KEYS[0])]
    assert replay(asked, CachePolicy(max_entries=2)).hits == 0
    assert replay(asked, CachePolicy(max_entries=4)).hits == 1


def test_a_stale_answer_is_given_while_it_is_renewed_once():
    asked = [ask(0, seconds=2.0), ask(13), ask(13.5), ask(16)]
    outcome = replay(asked, CachePolicy(ttl_s=10.0, stale_while_revalidate_s=5.0))
    assert outcome.asked == [1, 1, 0, 0]
    assert outcome.waited_s == [2.0, 0.0, 0.0, 0.0]


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from(KEYS), st.floats(0.01, 5)), max_size=40),
    st.floats(0.1, 50),
    st.floats(1.0, 4.0),
)
def test_keeping_answers_for_longer_never_asks_more(asks, ttl, factor):
    asked = sorted((ask(at, key, seconds=seconds) for at, key, seconds in asks), key=lambda each: each.at)
    short, long = (replay(asked, CachePolicy(ttl_s=each)) for each in (ttl, ttl * factor))
    assert len(set(asks)) == 0 or sum(long.asked) >= len({each.key for each in asked})
    assert sum(short.asked) + short.hits + short.joined == len(asked)
    assert sum(long.asked) + long.hits + long.joined == len(asked)


def test_a_hit_is_worth_what_the_provider_took_for_the_same_question():
    facts = [
        Fact(0, key=KEYS[0], cache="miss", cost_pusd=70, seconds=3.0, answer_bytes=55),
        Fact(9, key=KEYS[0], cache="hit", cost_pusd=0, saved_pusd=70, seconds=0.001),
        Fact(4, key=KEYS[0], cache="collapsed", cost_pusd=0, seconds=0.5),
        Fact(5, key=KEYS[1], cache="hit", cost_pusd=0, saved_pusd=40, seconds=0.001),
        Fact(6, key=KEYS[2], cache="bypass"),
        Fact(6, key=KEYS[2], cache="semantic", saved_pusd=40, seconds=0.001),
        Fact(7, cache="miss"),
    ]
    found = questions(facts)
    assert [(each.at, each.cost_pusd, each.seconds) for each in found] == [
        (0, 70, 3.0),
        (4, 70, 3.0),
        (5, 40, 3.0),  # never asked of a provider: the model's median
        (9, 70, 3.0),
    ]


def test_what_failed_or_was_cut_off_is_not_kept():
    facts = [
        Fact(0, key=KEYS[0], cache="miss", outcome="upstream_timeout"),
        Fact(1, key=KEYS[1], cache="miss", finish_reason="length"),
        Fact(2, key=KEYS[2], cache="miss", finish_reason="stop"),
    ]
    assert [each.storable for each in questions(facts)] == [False, False, True]
