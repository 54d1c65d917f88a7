import asyncio
import contextlib

import pytest

from penstock.testing.faultproxy import FaultProxy


class Echo:
    """Says everything back."""

    def __init__(self):
        self.ended = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            self.ended.append("fin")
        except ConnectionResetError:
            self.ended.append("rst")
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def connected(**options):
    async with Echo() as echo, FaultProxy("127.0.0.1", echo.port, **options) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield proxy, reader, writer, echo
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def until(check):
    async with asyncio.timeout(10):
        while not check():  # noqa: ASYNC110 - the proxy has no event for it
            await asyncio.sleep(0.001)


async def said(reader, count):
    return await asyncio.wait_for(reader.readexactly(count), 10)


async def test_it_passes_everything_on_and_closes_with_both_ends():
    async with connected() as (proxy, reader, writer, echo):
        data = bytes(range(256)) * 4096
        writer.write(data)
        assert await said(reader, len(data)) == data
        assert (proxy.connections, proxy.accepted) == (1, 1)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        assert echo.ended == ["fin"]
        await until(lambda: not proxy.connections)


async def test_it_delays_each_direction_and_keeps_the_order():
    loop = asyncio.get_running_loop()
    async with connected() as (proxy, reader, writer, _):
        writer.write(b"a")
        await said(reader, 1)
        proxy.delay_s = 0.1
        start = loop.time()
        for letter in b"bcdef":
            writer.write(bytes([letter]))
            await asyncio.sleep(0.01)
        assert await said(reader, 5) == b"bcdef"
        assert 0.2 <= loop.time() - start < 0.5


async def test_it_limits_the_rate():
    loop = asyncio.get_running_loop()
    async with connected(bytes_per_s=20_000) as (proxy, reader, writer, _):
        start = loop.time()
        writer.write(b"x" * 6_000)
        assert await said(reader, 6_000)
        assert loop.time() - start >= 0.25
        proxy.bytes_per_s = None
        writer.write(b"x" * 600_000)
        assert await said(reader, 600_000)


async def test_it_freezes_and_thaws_open_and_new_connections():
    async with connected() as (proxy, reader, writer, _):
        proxy.freeze()
        assert proxy.frozen
        writer.write(b"hello")
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        late_writer.write(b"late")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.1)
        proxy.thaw()
        assert await said(reader, 5) == b"hello"
        assert await said(late_reader, 4) == b"late"
        late_writer.close()
        await late_writer.wait_closed()


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_it_cuts_both_sides(how):
    async with connected() as (proxy, reader, writer, echo):
        writer.write(b"a")
        await said(reader, 1)
        assert proxy.cut(how) == 1
        if how == "fin":
            assert await asyncio.wait_for(reader.read(), 10) == b""
        else:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), 10)
        await until(lambda: echo.ended and not proxy.connections)
        assert echo.ended == [how]
        again, other = await asyncio.open_connection("127.0.0.1", proxy.port)
        other.write(b"b")
        assert await said(again, 1) == b"b"
        other.close()
        await other.wait_closed()


async def refused(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asyncio.wait_for(reader.read(), 10) == b""
    except ConnectionResetError:
        return True
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_it_refuses_and_says_so_when_there_is_no_target():
    async with connected() as (proxy, _, _, _):
        proxy.refusing = True
        assert await refused(proxy.port)
        assert proxy.connections == 1
    async with Echo() as echo:
        port = echo.port
    async with FaultProxy("127.0.0.1", port) as proxy:
        assert await refused(proxy.port)


async def test_a_reset_on_one_side_is_one_on_the_other():
    async with connected() as (proxy, reader, writer, echo):
        writer.write(b"a")
        await said(reader, 1)
        proxy_side = writer.transport.get_extra_info("socket")
        proxy_side.setsockopt(1, 13, b"\x01\0\0\0\0\0\0\0")  # SO_LINGER of 0 s
        writer.transport.abort()
        await until(lambda: echo.ended and not proxy.connections)
        assert echo.ended == ["rst"]
