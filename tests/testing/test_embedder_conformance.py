import asyncio

import pytest

from penstock.embedders.lexical import LexicalEmbedder
from penstock.testing import check_embedder


class Backwards(LexicalEmbedder):
    async def embed(self, texts, behalf=None):
        vectors = await super().embed(texts)
        return vectors[::-1] if all(texts) else vectors


class Long(LexicalEmbedder):
    async def embed(self, texts, behalf=None):
        return [{key: 2 * weight for key, weight in vector.items()} for vector in await super().embed(texts)]


class Dense(LexicalEmbedder):
    async def embed(self, texts, behalf=None):
        return [b"\0\0\x80\x3f" if vector else b"" for vector in await super().embed(texts)]


class Mixed(LexicalEmbedder):
    """Shares what it embeds between calls."""

    async def embed(self, texts, behalf=None):
        self.texts = texts
        await asyncio.sleep(0)
        return await super().embed(self.texts)


class Breaking(LexicalEmbedder):
    """Breaks those who wait when it is closed."""

    closed = False

    async def embed(self, texts, behalf=None):
        await asyncio.sleep(0)
        if self.closed:
            raise asyncio.CancelledError
        return await super().embed(texts)

    async def aclose(self):
        self.closed = True


class Nothing(LexicalEmbedder):
    async def embed(self, texts, behalf=None):
        return [vector or {0: 1.0} for vector in await super().embed(texts)]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Backwards, "not in the order of the texts"),
        (Long, "has length 2.000"),
        (Dense, "dimensions is not their number"),
        (Mixed, "get each other's vectors"),
        (Breaking, "no PenstockError"),
        (Nothing, "the empty text has a vector"),
    ],
)
async def test_an_embedder_that_breaks_a_promise_is_found_out(broken, says):
    with pytest.raises(AssertionError, match=says):
        await check_embedder(broken())
