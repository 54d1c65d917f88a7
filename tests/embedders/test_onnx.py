import asyncio
import threading

import pytest

from penstock.core.errors import ConfigError, PenstockError
from penstock.embedders.graph import Graph
from penstock.embedders.onnx import OnnxEmbedder
from penstock.testing import check_embedder


class Gated(Graph):
    """Stands at the first text until it is let go, and remembers what it was given."""

    def __init__(self, place):
        self.gate, self.began, self.given = threading.Event(), threading.Event(), []
        self.gate.set()
        super().__init__(place)
        self.gate.clear()

    def embed(self, text):
        self.given.append(text)
        self.began.set()
        self.gate.wait()
        return super().embed(text)


async def at_work(embedder, graph):
    """Start a call whose text the thread stands at."""
    first = asyncio.create_task(embedder.embed(["reset"]))
    await asyncio.sleep(0)
    await asyncio.to_thread(graph.began.wait)
    return first


async def test_minilm_keeps_the_promises(minilm):
    await check_embedder(await OnnxEmbedder.open(str(minilm)))


async def test_a_tiny_model_keeps_the_promises(tiny):
    await check_embedder(await OnnxEmbedder.open(str(tiny)))


async def test_company_does_not_change_a_vector(minilm):
    embedder = await OnnxEmbedder.open(str(minilm), threads=2)
    text = "What is the boiling point of water in degrees Celsius at sea level?"
    (alone,) = await embedder.embed([text])
    among = await embedder.embed(["hi", text, "!!! ??? " * 50, "Ünïcödé " * 20])
    assert among[1] == alone
    await embedder.aclose()


async def test_texts_of_those_who_left_are_left_out(tiny):
    graph = Gated(tiny)
    graph.given.clear()
    graph.began.clear()
    embedder = OnnxEmbedder(graph)
    first = await at_work(embedder, graph)
    gone = asyncio.create_task(embedder.embed(["password", "france"]))
    last = asyncio.create_task(embedder.embed(["capital"]))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    graph.gate.set()
    await asyncio.gather(first, last)
    assert graph.given == ["reset", "capital"]
    await embedder.aclose()


async def test_too_many_are_refused_and_later_ones_are_not(tiny):
    graph = Gated(tiny)
    embedder = OnnxEmbedder(graph)
    crowd = asyncio.create_task(embedder.embed(["reset"] * 300))
    await asyncio.sleep(0)
    with pytest.raises(PenstockError) as refused:
        await embedder.embed(["password"])
    assert refused.value.code == "embedder_busy"
    graph.gate.set()
    assert len(await crowd) == 300
    assert len(await embedder.embed(["password"])) == 1
    await embedder.aclose()


async def test_the_event_loop_goes_on_while_a_text_is_embedded(tiny):
    graph = Gated(tiny)
    embedder = OnnxEmbedder(graph)
    first = await at_work(embedder, graph)
    assert await asyncio.gather(asyncio.sleep(0, "went on"), asyncio.sleep(0)) == ["went on", None]
    assert not first.done()
    graph.gate.set()
    await first
    await embedder.aclose()


async def test_what_waits_fails_when_it_is_closed(tiny):
    graph = Gated(tiny)
    embedder = OnnxEmbedder(graph)
    first = await at_work(embedder, graph)
    waiting = asyncio.create_task(embedder.embed(["password"]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(embedder.aclose())
    await asyncio.sleep(0)
    graph.gate.set()
    await closing
    assert len(await first) == 1
    for late in (waiting, embedder.embed(["france"])):
        with pytest.raises(PenstockError) as refused:
            await late
        assert refused.value.code == "embedder_closed"


async def test_a_text_that_breaks_the_model_is_an_error_of_that_call(tiny):
    embedder = await OnnxEmbedder.open(str(tiny))
    with pytest.raises(PenstockError) as failed:
        await embedder.embed([b"reset"])
    assert failed.value.code == "embedder_failed"
    assert len(await embedder.embed(["reset"])) == 1
    await embedder.aclose()


async def test_a_directory_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        await OnnxEmbedder.open(str(tmp_path / "nothing"))
