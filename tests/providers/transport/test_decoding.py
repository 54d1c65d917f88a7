import asyncio
import gzip
import itertools
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.errors import ProviderError
from penstock.providers.transport.decoding import STEP_BYTES, decoder_for

LIMIT = 8 * 1024 * 1024


def bare_deflate(data):
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


def decode(encoding, pieces, limit=LIMIT):
    decoder = decoder_for(encoding, limit, "up:1")
    out = []
    for piece in pieces:
        out.append(decoder.decode(piece))
        while decoder.pending:
            out.append(decoder.decode())
    decoder.finish()
    assert all(len(piece) <= STEP_BYTES for piece in out)
    return b"".join(out)


@given(
    data=st.binary(max_size=2000),
    cuts=st.lists(st.integers(0, 2000), max_size=8),
    coding=st.sampled_from([("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare_deflate)]),
)
def test_whatever_way_it_is_cut_it_decodes_to_the_same(data, cuts, coding):
    name, compress = coding
    packed = compress(data)
    edges = [0, *sorted(cuts), len(packed)]
    assert decode(name, [packed[a:b] for a, b in itertools.pairwise(edges)]) == data


def test_large_bodies_come_in_bounded_steps():
    data = bytes(range(256)) * 20_000
    assert decode("x-gzip", [gzip.compress(data)]) == data


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_nothing_to_undo(encoding):
    assert decoder_for(encoding, LIMIT, "up:1") is None


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_empty_body_is_fine(encoding):
    assert decode(encoding, []) == b""


@pytest.mark.parametrize(
    ("encoding", "pieces", "words"),
    [
        ("gzip", [b"not gzip at all"], "corrupt"),
        ("gzip", [gzip.compress(b"abc" * 99)[:-8] + b"x" * 8], "corrupt"),
        ("gzip", [gzip.compress(b"abc" * 99)[:-4]], "cut short"),
        ("deflate", [b"x"], "cut short"),
        ("gzip", [gzip.compress(b"abc"), b"more"], "after the end"),
        ("gzip", [gzip.compress(bytes(64 * 1024 * 1024))], "expands more than 256 times"),
        ("deflate", [bare_deflate(bytes(64 * 1024 * 1024))], "expands more than 256 times"),
    ],
)
def test_bad_data(encoding, pieces, words):
    with pytest.raises(ProviderError, match=words) as caught:
        decode(encoding, pieces)
    assert caught.value.code == "upstream_invalid"
    assert "up:1" in str(caught.value)


def test_more_than_the_limit_is_refused():
    with pytest.raises(ProviderError, match=r"max_response_bytes \(100\)"):
        decode("gzip", [gzip.compress(b"x" * 101)], limit=100)
    assert decode("gzip", [gzip.compress(b"x" * 100)], limit=100) == b"x" * 100


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_unknown_codings_are_named(encoding):
    with pytest.raises(ProviderError, match=f"content-encoding '{encoding}'"):
        decoder_for(encoding, LIMIT, "up:1")


async def drain(reply):
    async for _ in reply:
        pass


async def test_gzip_over_a_connection_whole_and_streamed(serve, connect, post):
    events = [b"data: %d\n\n" % n * 50 for n in range(5)]
    answered = asyncio.Semaphore(0)

    async def handler(peer):
        await peer.request()
        await peer.reply(gzip.compress(b"".join(events)), "content-encoding: gzip", "content-type: application/json")
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n")
        squeeze = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
        for event in events:
            data = squeeze.compress(event) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            await peer.send(b"%x\r\n%b\r\n" % (len(data), data))
            await answered.acquire()
        data = squeeze.flush()
        await peer.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))

    transport = connect(upstream := await serve(handler))
    reply = await transport.send(post())
    assert reply.headers["content-encoding"] == "gzip"
    assert await reply.read() == b"".join(events)
    received = []
    async for piece in await transport.send(post()):
        received.append(piece)
        answered.release()
    assert received == events
    assert len(upstream.peers) == 1


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("body", [b"rubbish", gzip.compress(b"x" * 100, mtime=0)[:-3]], ids=["rubbish", "cut short"])
async def test_corrupt_gzip_over_a_connection(serve, connect, post, whole, body):
    async def handler(peer):
        await peer.request()
        await peer.reply(body, "content-encoding: gzip")
        await peer.gone()

    reply = await connect(await serve(handler)).send(post())
    for _ in range(2):
        with pytest.raises(ProviderError) as caught:
            await (reply.read() if whole else drain(reply))
        assert caught.value.code == "upstream_invalid"


async def test_a_bomb_is_stopped_and_its_connection_closed(serve, connect, post):
    squeeze = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    bomb = b"".join(squeeze.compress(bytes(1024 * 1024)) for _ in range(256)) + squeeze.flush()
    closed = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + bomb)
        await peer.gone()
        closed.set()

    reply = await connect(await serve(handler)).send(post())
    tracemalloc.start()
    with pytest.raises(ProviderError) as caught:
        await reply.read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.code == "upstream_invalid"
    assert peak < 16 * 1024 * 1024
    await asyncio.wait_for(closed.wait(), 2)
