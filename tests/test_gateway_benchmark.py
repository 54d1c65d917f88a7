"""The benchmark of the gateway measures what it says, and does not let wrong answers pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from benchmarks.gateway.__main__ import chosen, judged
from benchmarks.gateway.asking import check
from benchmarks.gateway.figures import FIGURES, figures
from benchmarks.gateway.first_byte import ask
from benchmarks.gateway.paraphrases import questions
from benchmarks.gateway.rows import HIT, JSON_64, SEMANTIC, SUBJECTS
from benchmarks.gateway.serving import Seen
from benchmarks.load import Bodies, Measured, chat_body, whole_request
from benchmarks.processes import Server
from benchmarks.upstream import Upstream, whole


@asynccontextmanager
async def upstream(*, hold: bool = False) -> AsyncIterator[Server]:
    serving = await asyncio.get_running_loop().create_server(lambda: Upstream(hold=hold), "127.0.0.1", 0)
    async with serving:
        yield Server("upstream", None, f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}")


def measured(per_s=100.0, p50_ms=1.0, n=100) -> Measured:
    return Measured(per_s, p50_ms, 2 * p50_ms, 10.0, n)


def test_a_whole_run_has_every_figure():
    results = {f"{subject.name}/{row.name}": [measured()] for subject in SUBJECTS for row in subject.rows}
    results["upstream/json_1"] = results["upstream/first_byte"] = [measured(p50_ms=0.5)]
    found = figures(results)
    assert set(FIGURES) <= set(found)
    assert {"hit_us", "json_us", "sse_us", "hit_per_s", "json_per_s", "sse_per_s", "sglang_json_64_us"} <= set(found)


def test_figures_are_medians_of_what_was_measured():
    rates = {"penstock/json_64": (10.0, 90.0, 30.0), "nginx-proxy/json_64": (60.0, 50.0, 70.0)}
    found = figures({name: [measured(rate) for rate in three] for name, three in rates.items()})
    assert found["json_vs_nginx"] == 0.5
    assert found["json_per_s"] == 30.0
    assert "hit_vs_nginx" not in found


def test_the_added_latency_is_beyond_the_upstreams_own():
    found = figures({
        "upstream/json_1": [measured(p50_ms=0.2)],
        "nginx-proxy/json_1": [measured(p50_ms=0.4)],
        "penstock/json_1": [measured(p50_ms=0.5)],
    })  # fmt: skip
    assert found["added_p50_vs_nginx"] == pytest.approx(1.5)
    assert found["added_p50_ms_1"] == pytest.approx(0.3)


def test_the_parts_of_a_run_can_be_chosen():
    assert {subject.name for subject in chosen([], quick=True)} == {
        subject.name for subject in SUBJECTS
    } - {"portkey", "litellm", "litellm-cache"}  # fmt: skip
    (only,) = chosen(["penstock/json_*"], quick=False)
    assert (only.name, [row.name for row in only.rows]) == ("penstock", ["json_1", "json_64", "json_20k"])
    assert chosen(["nobody/*"], quick=False) == []


@pytest.mark.parametrize(
    ("row", "seen"),
    [
        (HIT, Seen(100, 0, hits=90, semantic=0, joined=0)),
        (HIT, Seen(100, 1, hits=100, semantic=0, joined=0)),
        (HIT, Seen(50, 0, hits=50, semantic=0, joined=0)),
        (JSON_64, Seen(100, 0, hits=5, semantic=0, joined=0)),
        (JSON_64, Seen(100, 0, hits=0, semantic=0, joined=5)),
        (SEMANTIC, Seen(100, 0, hits=0, semantic=80, joined=0)),
    ],
    ids=["misses", "a refusal", "uncounted", "hits", "joined", "answered afresh"],
)
def test_a_row_that_is_not_what_it_says_ends_the_run(row, seen):
    with pytest.raises(RuntimeError, match=row.name):
        judged(measured(), seen, row)


def test_only_answers_by_meaning_count_as_such():
    assert judged(measured(), Seen(100, 0, hits=0, semantic=99, joined=0), SEMANTIC).per_s == pytest.approx(99.0)
    assert judged(measured(), Seen(100, 0, hits=100, semantic=0, joined=0), HIT).per_s == 100.0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_upstreams_own_answer_passes(stream):
    async with upstream() as server:
        await asyncio.to_thread(check, server, chat_body(stream=stream), stream=stream)


async def test_a_changed_answer_does_not_pass(monkeypatch):
    said = whole()
    said["choices"][0]["message"]["content"] += " And more."
    monkeypatch.setattr("benchmarks.gateway.asking.whole", lambda: said)
    async with upstream() as server:
        with pytest.raises(RuntimeError, match="something else"):
            await asyncio.to_thread(check, server, chat_body(stream=False), stream=False)


async def test_the_first_event_of_a_stream_is_timed_apart_from_its_end():
    async with upstream() as server:
        request = whole_request(server, chat_body(stream=True), digits=10)
        times = await asyncio.to_thread(ask, ("127.0.0.1", server.port), request, 0.01)
    assert times.whole
    assert all(0 < first < whole for first, whole in zip(*times, strict=True))


async def test_a_whole_answer_has_no_first_event():
    async with upstream() as server:
        request = whole_request(server, chat_body(stream=False), digits=10)
        with pytest.raises(RuntimeError, match="no whole stream"):
            await asyncio.to_thread(ask, ("127.0.0.1", server.port), request, 0.01)


async def test_an_upstream_that_holds_says_no_more_than_the_first_event():
    async with upstream(hold=True) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for stream in (True, False):
            writer.write(whole_request(server, chat_body(stream=stream), digits=6))
        answers = await reader.readuntil(b"fp_mock")
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.count(b"data: ") == 1


def test_questions_differ_and_so_do_their_bodies():
    known, others = questions()
    assert (len(known), len(others)) == (1000, 3000)
    assert len({*known, *others}) == 4000
    bodies = Bodies([b"NUMBER"])
    assert bodies.other() != bodies.other()
