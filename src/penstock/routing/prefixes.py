"""Which beginnings of prompts a replica has probably computed already.

Inference servers keep the attention keys and values of prompts in blocks and compute only what comes after the longest
prefix they still have (vLLM's automatic prefix caching, SGLang's RadixAttention; hosted models' prompt caches do the
same). A gateway cannot look inside, but it knows what it sent there and when.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import msgspec

from penstock.core.call import Footprint

BLOCK_BYTES = 2048
"""Bytes of JSON a block has: about 512 tokens of English."""
MAX_BLOCKS = 1024
"""Blocks told apart in one prompt, 2 MiB of it; what follows counts as new."""
_BYTES_PER_TOKEN, _LARGE = 4, 64 * 1024
"""Up to so many bytes a prompt's tokens are guessed from its size: what matters are ratios, and the pace is learned."""
Estimate = Callable[[dict[str, Any]], int]
"""Guesses the input tokens of a request body."""
_encode = msgspec.json.Encoder().encode


def footprint(payload: dict[str, Any], estimate: Estimate) -> Footprint:
    """Measure the prompt in a request body in canonical form.

    Each block's checksum covers everything before it, so equal ones mean equal beginnings; that two of four thousand
    million different ones are taken for equal costs no more than a detour. Only full blocks count, as in the servers'
    caches: a continued conversation begins with all full blocks of what it continues. Tools come first, as chat
    templates render them.

    Args:
        payload: The body.
        estimate: Guesses the tokens of a large body; in it may be images, whose bytes are not tokens.
    """
    prompt = payload.get("messages") or payload.get("prompt") or payload.get("input")
    tools = payload.get("tools")
    try:
        data = memoryview(_encode(prompt if tools is None else (tools, prompt)))
    except UnicodeEncodeError:  # half of a surrogate pair: the upstream will refuse it, whichever it is
        return Footprint(estimate(payload), (), 0.0)
    size = len(data)
    tokens = size // _BYTES_PER_TOKEN if size < _LARGE else estimate(payload)
    blocks: list[int] = []
    above = 0
    for end in range(BLOCK_BYTES, min(size, BLOCK_BYTES * MAX_BLOCKS) + 1, BLOCK_BYTES):
        above = crc32(data[end - BLOCK_BYTES : end], above)
        blocks.append(above)
    return Footprint(tokens, tuple(blocks), tokens * BLOCK_BYTES / size if blocks else 0.0)


class PrefixIndex:
    """When each block was last sent to one replica; the blocks unused for longest are forgotten first.

    Whenever a block is touched, all blocks before it in its prompt are, and of one prompt the last blocks go first. So
    a prompt's known blocks always are its first ones, which is what makes a binary search possible.
    """

    __slots__ = ("_capacity", "_touched")

    def __init__(self, capacity: int) -> None:
        """Remember at most `capacity` blocks."""
        self._capacity = capacity
        self._touched: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._touched)

    def match(self, blocks: Sequence[int], since: float) -> int:
        """How many of the first `blocks` were touched at `since` or later."""
        look_up = self._touched.get
        low, high, step = 0, len(blocks), 1  # most prompts share little with most replicas, so begin with small steps
        while low < high:
            middle = low + step if low + step < high else (low + high + 1) // 2
            touched = look_up(blocks[middle - 1])
            if touched is None or touched < since:
                high = middle - 1
                step = high
            else:
                low = middle
                step += step
        return low

    def last(self, block: int) -> float:
        """When `block`, a known one, was touched last."""
        return self._touched[block]

    def touch(self, blocks: Sequence[int], now: float) -> None:
        """The replica is given a prompt of these `blocks`."""
        touched = self._touched
        for block in reversed(blocks):
            touched[block] = now
            touched.move_to_end(block)
        while len(touched) > self._capacity:
            touched.popitem(last=False)

    def forget(self, blocks: Sequence[int], at: float) -> None:
        """Undo that `blocks`, new to the replica then, were touched at `at`, unless they were touched again since."""
        touched = self._touched
        for block in blocks:
            if touched.get(block) == at:
                del touched[block]

    def clear(self) -> None:
        """The replica has lost everything."""
        self._touched.clear()
