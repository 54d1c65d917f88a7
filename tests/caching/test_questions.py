import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from penstock.abc import Question
from penstock.caching.questions import Questions
from penstock.core.clock import SystemClock
from penstock.embedders.lexical import LexicalEmbedder
from penstock.matching.partition import Partition
from penstock.stores.opening import open_store

EMBEDDER = LexicalEmbedder()
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel", "india", "juliet")


class Remembering:
    """A store that keeps what it is told, at once."""

    def __init__(self):
        self.kept = {}

    async def partitions(self):
        return {}

    async def load(self, partition):
        return [each for each in self.kept.values() if each.partition == partition]

    def put(self, question):
        self.kept[question.id] = question

    def judge(self, question_id, right, wrong):
        pass

    def delete(self, ids):
        for each in ids:
            self.kept.pop(each, None)


def question(number, text="How tall is it?", key=None, partition=1):
    key = (number if key is None else key).to_bytes(32)
    return Question(number, "acme", partition.to_bytes(32), text, key, key, "fast", "lexical", b"", 1000.0)


def put(questions, one):
    questions.put(one, EMBEDDER.embed_one(one.text))


def nearest(questions, one):
    home = questions.partition(one.partition)
    found = None if home is None else home.propose(one.text, EMBEDDER.embed_one(one.text))
    return None if found is None else found.entry


def test_a_question_is_found_in_its_partition_only():
    questions = Questions(Remembering(), Partition, 10)
    put(questions, question(1))
    assert nearest(questions, question(2)) == 1
    assert nearest(questions, question(2, partition=2)) is None
    assert (len(questions), questions.partitions) == (1, 1)


def test_questions_leave_with_their_answer():
    left = []
    store = Remembering()
    questions = Questions(store, Partition, 10, left.append)
    for one in (question(1), question(2, "How high is it?", key=1), question(3, "Who wrote it?")):
        put(questions, one)
    questions.drop_key((1).to_bytes(32))
    assert [each.id for each in questions] == [3]
    assert [each.id for each in left] == [1, 2]
    assert list(store.kept) == [3]
    assert nearest(questions, question(9, "Who wrote it?")) == 3
    questions.drop_key(b"unknown")


def test_what_is_of_use_stays_when_there_are_too_many():
    questions = Questions(Remembering(), Partition, 3)
    for number in (1, 2, 3):
        put(questions, question(number, f"Question {WORDS[number]}"))
    questions.touch(1)
    put(questions, question(4, "Question golf"))
    assert sorted(each.id for each in questions) == [1, 3, 4]


def test_numbers_rise_and_differ_even_when_the_clock_does_not():
    questions = Questions(Remembering(), Partition, 3)
    ids = [questions.new_id(1_700_000_000.0) for _ in range(2000)] + [questions.new_id(1_600_000_000.0)]
    assert ids == sorted(set(ids))
    assert ids[-1] < 2**63


@pytest.mark.parametrize("vector", [b"", b"\0\0\x80?"])
async def test_a_partition_is_read_again_after_a_restart(tmp_path, vector):
    store = open_store(f"sqlite:///{tmp_path}/a.db", SystemClock())
    await store.start()
    questions = Questions(store.questions, Partition, 10)
    await questions.start()
    questions.put(question(1), EMBEDDER.embed_one("How tall is it?"))
    questions.judged(1, right=False)
    await store.flush()
    again = Questions(store.questions, Partition, 10)
    await again.start()
    digest = (1).to_bytes(32)
    assert (again.stored(digest), again.stored(b"?")) == (1, 0)
    (found,) = await again.load(digest)
    assert (found.text, found.wrong) == ("How tall is it?", 1.0)
    assert again.stored(digest) == 0
    assert await again.load(digest) == []
    await store.aclose()


class Keeping(RuleBasedStateMachine):
    """Whatever happens, memory, partitions and store agree, and the bound holds."""

    def __init__(self):
        super().__init__()
        self.store = Remembering()
        self.questions = Questions(self.store, Partition, 5)
        self.next = 0

    @rule(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), key=st.integers(0, 3), home=st.integers(0, 2))
    def put(self, words, key, home):
        self.next += 1
        put(self.questions, question(self.next, " ".join(words), key, home))

    @precondition(lambda self: len(self.questions))
    @rule(data=st.data())
    def touch_or_drop(self, data):
        one = data.draw(st.sampled_from(sorted(each.id for each in self.questions)))
        if data.draw(st.booleans()):
            self.questions.touch(one)
        else:
            self.questions.drop((one,))

    @rule(key=st.integers(0, 3))
    def drop_key(self, key):
        self.questions.drop_key(key.to_bytes(32))
        assert self.questions.of_key(key.to_bytes(32)) == []

    @invariant()
    def all_agree(self):
        known = {each.id: each for each in self.questions}
        assert len(known) == len(self.questions) <= 5
        assert self.store.kept == known
        assert self.questions.partitions == len({each.partition for each in known.values()})
        for digest in {each.partition for each in known.values()}:
            assert len(self.questions.partition(digest)) == sum(each.partition == digest for each in known.values())
        for key in range(4):
            found = {each.id for each in self.questions.of_key(key.to_bytes(32))}
            assert found == {each.id for each in known.values() if each.key == key.to_bytes(32)}


TestKeeping = Keeping.TestCase
TestKeeping.settings = settings(max_examples=50, stateful_step_count=30)
