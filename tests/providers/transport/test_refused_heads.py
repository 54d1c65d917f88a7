"""Answers that are refused for their head, with the body in the same packet."""

import pytest

from penstock.core.errors import ProviderError


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("content-encoding: br", "not asked for"),
        ("transfer-encoding: gzip, chunked", "transfer-encoding"),
        ("x-long: " + "y" * 70_000, "larger than"),
    ],
)
async def test_nothing_of_them_is_read(serve, connect, post, field, said):
    async def answer(peer):
        while await peer.request():
            await peer.send(f"HTTP/1.1 200 OK\r\n{field}\r\n\r\ndata: 1\n\n".encode())

    transport = connect(await serve(answer))
    with pytest.raises(ProviderError, match=said) as caught:
        await transport.send(post())
    assert caught.value.code == "upstream_invalid"
