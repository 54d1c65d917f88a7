import datetime
import ssl

import pytest
import trustme

from penstock.config.providers import ProviderSettings
from penstock.core.errors import ConfigError, ProviderError
from penstock.providers.transport import open_transport


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory):
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def server_side(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def answer(peer):
    while await peer.request():
        await peer.reply(b"secret " * 50_000)


async def test_requests_over_tls_reuse_the_connection(serve, connect, post, authority, ca_file):
    context = server_side(authority.issue_cert("127.0.0.1"))
    transport = connect(upstream := await serve(answer, "https", ssl=context), ca_file=ca_file)
    for _ in range(3):
        assert await (await transport.send(post())).read() == b"secret " * 50_000
    assert len(upstream.peers) == 1


async def test_pausing_over_tls(serve, connect, post, authority, ca_file):
    body = bytes(range(256)) * 20_000

    async def handler(peer):
        while await peer.request():
            await peer.reply(body)

    context = server_side(authority.issue_cert("127.0.0.1"))
    transport = connect(upstream := await serve(handler, "https", ssl=context), ca_file=ca_file)
    for _ in range(2):
        assert b"".join([piece async for piece in await transport.send(post())]) == body
    assert len(upstream.peers) == 1


@pytest.mark.parametrize("fault", ["expired", "wrong host", "unknown authority"])
async def test_bad_certificates(serve, connect, post, authority, ca_file, fault):
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = {
        "expired": lambda: authority.issue_cert("127.0.0.1", not_after=past),
        "wrong host": lambda: authority.issue_cert("example.com"),
        "unknown authority": lambda: trustme.CA().issue_cert("127.0.0.1"),
    }[fault]()
    upstream = await serve(answer, "https", ssl=server_side(certificate))
    transport = connect(upstream, ca_file=ca_file)
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert (caught.value.code, caught.value.retryable) == ("upstream_tls", False)
    assert f"(127.0.0.1:{upstream.port}): TLS failed" in str(caught.value)
    assert transport._pool._open == 0


@pytest.mark.parametrize("reaction", ["speaks plaintext", "closes"])
async def test_server_without_tls(serve, connect, post, ca_file, reaction):
    async def handler(peer):
        await peer.reader.read(100)
        if reaction != "closes":
            await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await peer.gone()

    transport = connect(await serve(handler, "https"), ca_file=ca_file)
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert caught.value.code == "upstream_tls"


async def test_server_that_never_shakes_hands(serve, connect, post, ca_file):
    async def handler(peer):
        await peer.gone()

    transport = connect(await serve(handler, "https"), ca_file=ca_file, timeouts={"connect_s": 0.2})
    with pytest.raises(ProviderError) as caught:
        await transport.send(post())
    assert caught.value.code == "upstream_timeout"
    assert "connecting" in str(caught.value)


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_unusable_ca_file(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        open_transport("https://127.0.0.1", ProviderSettings(name="up", kind="openai", ca_file=str(path)))
    assert caught.value.key == "ca_file"


def test_the_system_is_trusted_by_default():
    open_transport("https://127.0.0.1", ProviderSettings(name="up", kind="openai"))
