import msgspec
from hypothesis import given
from hypothesis import strategies as st

from penstock.insight.facts import Fact, Question, questions
from penstock.insight.replay import CachePolicy, replay

replace = msgspec.structs.replace
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


def mean(at, key, *, matched=True, **fields):
    return replace(ask(at, key, **fields), alike=tuple(each for each in KEYS[:3] if each != key), matched=matched)


MEANING = CachePolicy(ttl_s=10.0, by_meaning=frozenset({"m"}))


def test_a_question_of_the_same_meaning_is_free_while_any_answer_to_it_is_fresh():
    asked = [
        mean(0, KEYS[0]),
        mean(5, KEYS[1]),
        mean(9, KEYS[2]),
        mean(12, KEYS[1]),
        mean(15, KEYS[0]),
        ask(16, KEYS[3]),
    ]
    outcome = replay(asked, MEANING)
    # What was answered by meaning is not kept, so at 12 it is asked for, and its answer serves the next.
    assert outcome.asked == [1, 0, 0, 1, 0, 1]
    assert (outcome.meant, outcome.hits, outcome.waited_s) == (3, 0, [1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    assert sum(replay(asked, replace(MEANING, by_meaning=frozenset({"other"}))).asked) == 5


def test_an_exact_answer_comes_before_one_by_meaning():
    asked = [mean(0, KEYS[0]), mean(5, KEYS[0]), mean(5.5, KEYS[1])]
    outcome = replay(asked, MEANING)
    assert (outcome.hits, outcome.meant, outcome.asked) == (1, 1, [1, 0, 0])


def test_what_matching_found_no_answer_for_is_asked():
    asked = [mean(0, KEYS[0]), mean(5, KEYS[1], matched=False), mean(8, KEYS[1])]
    outcome = replay(asked, MEANING)
    assert (outcome.asked, outcome.meant, outcome.hits) == ([1, 1, 0], 0, 1)


def test_audits_are_paid_for_and_nobody_waits_for_them():
    asked = [mean(0, KEYS[0]), mean(5, KEYS[1]), mean(7, KEYS[1]), mean(7, KEYS[2])]
    outcome = replay(asked, replace(MEANING, audit=1.0))
    assert (outcome.asked, outcome.waited_s) == ([1, 1, 0, 1], [1.0, 0.0, 0.0, 0.0])
    assert (outcome.meant, outcome.audits, outcome.hits) == (2, 2, 1)  # the audited one is known word for word now
    others = [bytes([number // 256, number % 256]) for number in range(1000)]
    many = [replace(ask(0), alike=tuple(others)), *(replace(ask(5, key), alike=(KEYS[0],)) for key in others)]
    outcome = replay(many, replace(MEANING, audit=0.05))
    assert outcome.meant == 1000
    assert 20 < outcome.audits == sum(outcome.asked) - 1 < 90
    beginner = replay([replace(each, audit=0.5) for each in many], replace(MEANING, audit=0.05))
    assert 440 < beginner.audits < 560


@given(
    st.lists(st.tuples(st.floats(0, 100), st.sampled_from(KEYS), st.floats(0.01, 5), st.booleans()), max_size=40),
    st.floats(0, 1),
)
def test_every_question_is_answered_in_one_way(asks, audit):
    asked = sorted((mean(at, key, seconds=seconds, matched=matched) for at, key, seconds, matched in asks),
                   key=lambda each: each.at)  # fmt: skip
    outcome = replay(asked, replace(MEANING, audit=audit))
    assert sum(outcome.asked) - outcome.audits + outcome.hits + outcome.joined + outcome.meant == len(asked)


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
        (6, 40, 3.0),
        (9, 70, 3.0),
    ]


def test_what_failed_or_was_cut_off_is_not_kept():
    facts = [
        Fact(0, key=KEYS[0], cache="miss", outcome="upstream_timeout"),
        Fact(1, key=KEYS[1], cache="miss", finish_reason="length"),
        Fact(2, key=KEYS[2], cache="miss", finish_reason="stop"),
    ]
    assert [each.storable for each in questions(facts)] == [False, False, True]


def test_questions_are_alike_when_one_could_have_the_answer_of_the_other():
    facts = [
        Fact(0, key=KEYS[0], cache="miss", semantic="miss"),
        Fact(1, key=KEYS[1], cache="miss", semantic="shadow", semantic_key=KEYS[0]),
        Fact(2, key=KEYS[2], cache="semantic", semantic="hit", semantic_key=KEYS[1], cost_pusd=0, saved_pusd=30),
        Fact(3, key=KEYS[3], cache="miss", semantic="miss"),
        Fact(4, key=KEYS[3], cache="hit"),
        Fact(5, key=KEYS[2], cache="miss", name="penstock-audit"),
    ]
    found = questions(facts)
    assert [each.matched for each in found] == [False, True, True, False, True]
    assert [each.alike for each in found] == [(KEYS[1],), (KEYS[0], KEYS[2]), (KEYS[1],), (), ()]
    assert found[2].cost_pusd == 30
