from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from penstock.pricing.estimate import estimate_request_tokens
from penstock.routing.prefixes import BLOCK_BYTES, MAX_BLOCKS, PrefixIndex, footprint

LONG = "every word counts " * 300


def said(*texts):
    return [{"role": "user" if place % 2 else "system", "content": text} for place, text in enumerate(texts)]


def blocks(*texts, **fields):
    return footprint({"messages": said(*texts), **fields}, estimate_request_tokens).blocks


@given(st.lists(st.text(max_size=6000), min_size=1, max_size=4), st.text(max_size=6000))
@settings(max_examples=50)
def test_a_continued_conversation_begins_with_the_blocks_of_what_it_continues(texts, more):
    before, after = blocks(*texts), blocks(*texts, more)
    assert after[: len(before)] == before


def test_a_block_stands_for_everything_before_it():
    one, other = blocks("a" + LONG, LONG), blocks("b" + LONG, LONG)
    assert len(one) == len(other) > 3
    assert not set(one) & set(other)
    assert blocks(LONG, "x" * 3000)[0] == blocks(LONG, "y" * 3000)[0]


def test_tools_are_part_of_the_beginning():
    tools = [{"type": "function", "function": {"name": "search", "description": LONG}}]
    assert not set(blocks(LONG, tools=tools)) & set(blocks(LONG))
    assert blocks(LONG, "hello " * 500, tools=tools)[:3] == blocks(LONG, "goodbye " * 500, tools=tools)[:3]


def test_short_and_unsendable_prompts_have_no_blocks():
    assert blocks("hello") == ()
    assert blocks(LONG + "\ud800") == ()
    assert footprint({}, estimate_request_tokens).blocks == ()


def test_prompts_of_other_operations_are_measured_too():
    assert footprint({"prompt": LONG}, estimate_request_tokens).blocks
    assert footprint({"input": [LONG, "b"]}, estimate_request_tokens).blocks


def test_the_number_of_blocks_is_bounded_and_their_tokens_never_exceed_the_prompts():
    huge = footprint({"prompt": "x" * (BLOCK_BYTES * (MAX_BLOCKS + 10))}, estimate_request_tokens)
    assert len(huge.blocks) == MAX_BLOCKS
    assert 0 < len(huge.blocks) * huge.block_tokens <= huge.tokens


def test_images_do_not_count_as_text():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    seen = footprint({"messages": [{"role": "user", "content": [image]}]}, estimate_request_tokens)
    assert seen.tokens < 2000
    assert len(seen.blocks) * seen.block_tokens <= seen.tokens


class IndexAgainstDictionary(RuleBasedStateMachine):
    """Prompts are paths in a tree, so equal blocks mean equal beginnings, as with real hashes."""

    CAPACITY = 12
    paths = st.lists(st.integers(0, 2), min_size=1, max_size=6)

    def __init__(self):
        super().__init__()
        self.index = PrefixIndex(self.CAPACITY)
        self.model = {}
        self.now = 0.0

    @staticmethod
    def chain(path):
        return [hash(tuple(path[: depth + 1])) for depth in range(len(path))]

    @rule(path=paths)
    def touch(self, path):
        self.now += 1.0
        chain = self.chain(path)
        self.index.touch(chain, self.now)
        for depth, block in enumerate(chain):
            self.model[block] = (self.now, -depth)
        for block in sorted(self.model, key=self.model.__getitem__)[: -self.CAPACITY]:
            del self.model[block]

    @rule(path=paths)
    def fail(self, path):
        chain = self.chain(path)
        known = self.index.match(chain, 0.0)
        self.touch(path)
        self.index.forget(chain[known:], self.now)
        for block in chain[known:]:
            self.model.pop(block, None)

    @rule(path=paths, age=st.integers(0, 20))
    def match(self, path, age):
        since = self.now - age
        expected = 0
        for block in self.chain(path):
            if block not in self.model or self.model[block][0] < since:
                break
            expected += 1
        assert self.index.match(self.chain(path), since) == expected

    @rule()
    def clear(self):
        self.index.clear()
        self.model.clear()

    @invariant()
    def bounded(self):
        assert len(self.index) == len(self.model) <= self.CAPACITY


TestIndexAgainstDictionary = IndexAgainstDictionary.TestCase
TestIndexAgainstDictionary.settings = settings(max_examples=60, stateful_step_count=40)
