"""The bus: processes of one gateway that reach each other."""

import asyncio
import contextlib
import os
import stat
import sys
from collections.abc import AsyncGenerator

import pytest

from penstock.core.errors import ConfigError, InvalidRequest, WorkerError
from penstock.workers.bus import WorkerBus
from penstock.workers.frames import MOST_BYTES, Kind, Reader, encode


@pytest.fixture
def private(tmp_path):
    folder = tmp_path / "bus"
    folder.mkdir(mode=0o700)
    return str(folder)


@pytest.fixture
async def three(private):
    buses = [WorkerBus(private, number, 3) for number in (1, 2, 3)]
    for bus in buses:
        await bus.open()
    assert all(await asyncio.gather(*(bus.meet() for bus in buses)))
    yield buses
    for bus in buses:
        await bus.aclose()


def there(path: str) -> bool:
    return os.path.exists(path)


async def until(check) -> None:
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 there is no event for it
            await asyncio.sleep(0.005)


async def test_everybody_reaches_everybody(three):
    for bus in three:
        bus.reply("who", lambda worker, data, me=bus.number: b"%d asked %d: %b" % (worker, me, data))
    for bus in three:
        for other in bus.others:
            assert await bus.ask(other, "who", b"x") == b"%d asked %d: x" % (bus.number, other)
    assert await three[0].ask_all("who") == {2: b"1 asked 2: ", 3: b"1 asked 3: "}


async def test_a_broadcast_reaches_all_others_in_order(three):
    first, second, third = three
    heard: dict[int, list[bytes]] = {2: [], 3: []}
    second.hear("n", lambda worker, data: heard[2].append(data))
    third.hear("n", lambda worker, data: heard[3].append(data))
    first.hear("n", lambda worker, data: pytest.fail("it told itself"))
    said = [b"%d" % number for number in range(100)]
    for each in said:
        first.broadcast("n", each)
    await until(lambda: heard == {2: said, 3: said})


async def test_an_answer_may_take_its_time_and_others_overtake_it(three):
    first, second, _ = three
    go = asyncio.Event()

    async def slow(worker: int, data: bytes) -> bytes:
        await go.wait()
        return b"slow"

    second.reply("slow", slow)
    second.reply("quick", lambda worker, data: b"quick")
    waiting = first.ask(2, "slow")
    assert await first.ask(2, "quick") == b"quick"
    go.set()
    assert await waiting == b"slow"


async def test_who_gives_up_ends_the_work(three):
    first, second, _ = three
    begun, ended = asyncio.Event(), asyncio.Event()

    async def endless(worker: int, data: bytes) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    second.reply("endless", endless)
    waiting = first.ask(2, "endless")
    await begun.wait()
    waiting.cancel()
    await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize("late", [False, True])
async def test_errors_keep_their_code_and_message(three, late):
    first, second, _ = three

    def refuse(worker: int, data: bytes) -> bytes:
        raise InvalidRequest("no such thing", code="not_found")

    async def refuse_late(worker: int, data: bytes) -> bytes:
        return refuse(worker, data)

    second.reply("refuse", refuse_late if late else refuse)
    with pytest.raises(WorkerError, match="no such thing") as caught:
        await first.ask(2, "refuse")
    assert caught.value.code == "not_found"
    with pytest.raises(WorkerError) as caught:
        await first.ask(2, "unheard of")
    assert caught.value.code == "worker_failed"


async def test_one_that_goes_fails_what_waits_for_it_and_nothing_else(three):
    first, second, third = three
    told: list[tuple[int, bool]] = []
    first.watch(lambda worker, lives: told.append((worker, lives)))
    forever = asyncio.Event()

    async def wait(worker: int, data: bytes) -> bytes:
        await forever.wait()
        return b"done"

    async def endless(worker: int, data: bytes) -> AsyncGenerator[bytes, None]:
        yield b"first"
        await asyncio.Event().wait()

    second.reply("wait", wait)
    second.supply("endless", endless)
    third.reply("wait", wait)
    lost, kept, pieces = first.ask(2, "wait"), first.ask(3, "wait"), first.stream(2, "endless")
    assert await anext(pieces) == b"first"
    await second.aclose()
    for failing in (lost, anext(pieces), first.ask(2, "wait")):
        with pytest.raises(WorkerError) as caught:
            await failing
        assert caught.value.code == "worker_gone"
    assert told == [(2, False)]
    assert first.others == (3,)
    forever.set()
    assert await kept == b"done"
    assert await first.ask_all("wait") == {3: b"done"}


async def test_the_lowest_that_lives_is_elected_and_one_that_comes_back_is_known(three, private):
    first, second, third = three
    assert [bus.elected for bus in three] == [True, False, False]
    await first.aclose()
    await until(lambda: second.others == (3,) and third.others == (2,))
    assert [bus.elected for bus in (second, third)] == [True, False]
    again = WorkerBus(private, 1, 3)
    again.reply("who", lambda worker, data: b"the new one")
    await again.open()
    assert await again.meet()
    await until(lambda: second.others == (1, 3))
    assert [bus.elected for bus in (again, second, third)] == [True, False, False]
    assert await third.ask(1, "who") == b"the new one"
    await again.aclose()


async def test_a_streamed_answer_comes_no_faster_than_it_is_read(three):
    first, second, _ = three
    made = 0

    async def much(worker: int, data: bytes) -> AsyncGenerator[bytes, None]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield bytes(64 * 1024)

    second.supply("much", much)
    pieces = first.stream(2, "much")
    assert len(await anext(pieces)) == 64 * 1024
    await asyncio.sleep(0.05)
    assert made < 10
    assert sum([len(piece) async for piece in pieces]) == 99 * 64 * 1024


async def test_closing_a_stream_closes_its_source(three):
    first, second, _ = three
    closed = asyncio.Event()

    async def endless(worker: int, data: bytes) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.set()

    second.supply("endless", endless)
    pieces = first.stream(2, "endless")
    assert await anext(pieces) == b"x"
    await pieces.aclose()
    await asyncio.wait_for(closed.wait(), 10)


async def test_a_stream_that_fails_says_so_after_what_it_had(three):
    first, second, _ = three

    async def breaks(worker: int, data: bytes) -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise InvalidRequest("enough", code="enough")

    second.supply("breaks", breaks)
    pieces = first.stream(2, "breaks")
    assert await anext(pieces) == b"one"
    with pytest.raises(WorkerError, match="enough"):
        await anext(pieces)


async def test_what_is_too_large_is_refused_before_it_is_sent(three):
    first, second, _ = three
    second.reply("size", lambda worker, data: b"%d" % len(data))
    with pytest.raises(WorkerError, match="too large"):
        await first.ask(2, "size", bytes(MOST_BYTES + 1))
    assert await first.ask(2, "size", bytes(3_000_000)) == b"3000000"


async def test_what_is_no_message_ends_the_connection_only(three, private):
    first, second, _ = three
    second.reply("who", lambda worker, data: b"still here")
    for nonsense in (b"\xff\xff\xff\xff", encode(Kind.SAY, 0, "x", b"")[:4] + b"\xc1" * 20, b"GET / HTTP/1.1\r\n\r\n"):
        reader, writer = await asyncio.open_unix_connection(f"{private}/2.sock")
        writer.write(nonsense)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while await reader.read(1000):
                    pass
        writer.close()
    assert await first.ask(2, "who") == b"still here"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_may_enter_is_refused(tmp_path, mode):
    os.chmod(tmp_path, mode)
    with pytest.raises(ConfigError, match="0700"):
        WorkerBus(str(tmp_path), 1, 2)


async def test_the_sockets_are_where_only_this_user_can_go(three, private):
    assert sorted(os.listdir(private)) == ["1.sock", "2.sock", "3.sock"]
    assert stat.S_IMODE(os.stat(private).st_mode) == 0o700
    for bus in three:
        await bus.aclose()
    assert not there(private)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 7, 1000])
def test_frames_are_found_however_they_arrive(size):
    sent = [(Kind.SAY, 0, "t", b""), (Kind.ASK, 2**40, "topic", bytes(300)), (Kind.END, 1, "", b"x")]
    data = b"".join(bytes(encode(*frame)) for frame in sent)
    reader, found = Reader(), []
    for start in range(0, len(data), size):
        found += reader.feed(data[start : start + size])
    assert found == [(int(kind), number, topic, body) for kind, number, topic, body in sent]


async def test_a_process_that_is_killed_is_gone_at_once(private):
    here = WorkerBus(private, 1, 2)
    await here.open()
    script = (
        "import asyncio, sys\n"
        "from penstock.workers.bus import WorkerBus\n"
        "async def main():\n"
        "    bus = WorkerBus(sys.argv[1], 2, 2)\n"
        "    async def wait(worker, data): await asyncio.Event().wait()\n"
        "    bus.reply('wait', wait)\n"
        "    await bus.open()\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", script, private)
    try:
        assert await here.meet()
        waiting = here.ask(2, "wait")
        await asyncio.sleep(0)
        other.kill()
        with pytest.raises(WorkerError) as caught:
            await asyncio.wait_for(waiting, 10)
        assert caught.value.code == "worker_gone"
    finally:
        if other.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                other.kill()
        await other.wait()
        await here.aclose()
