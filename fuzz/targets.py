"""What is fuzzed: each target takes any bytes and raises if a promise is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from fuzz.framing import FRAMING_SEEDS, framing
from fuzz.serving import SERVING_SEEDS, serving
from penstock.core.call import Call
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.request import Request
from penstock.server.heads import check_head
from penstock.wire.json_body import MAX_DEPTH, decode_object
from penstock.wire.ndjson import NdjsonDecoder
from penstock.wire.openai_chat import decode_request, encode_request
from penstock.wire.partial_json import PartialJson
from penstock.wire.sse import SseDecoder

_LIMIT = 64


class Target(NamedTuple):
    """A function to call with any bytes, and bytes to begin with."""

    check: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


def pieces(data: bytes) -> list[bytes]:
    """Cut `data` at places that its first byte chooses."""
    if not data:
        return []
    step, rest = data[0] % 7 + 1, data[1:]
    return [rest[at : at + step] for at in range(0, len(rest), step)]


def sse(data: bytes) -> None:
    """An event stream reads the same however it is cut, and is refused alike."""
    parts = pieces(data)
    whole, cut = _events([b"".join(parts)]), _events(parts)
    assert whole[0][: len(cut[0])] == cut[0] or cut[0][: len(whole[0])] == whole[0]
    if whole[1] is None and cut[1] is None:
        assert whole == cut


def _events(parts: Iterable[bytes]) -> tuple[list[bytes], str | None]:
    decoder, events = SseDecoder(max_line_bytes=_LIMIT), []
    try:
        for part in parts:
            events += decoder.feed(part)
    except (ProviderError, ValueError) as error:
        return events, str(error)
    return events, None


def ndjson(data: bytes) -> None:
    """Lines read the same however they are cut, and are refused alike."""
    parts = pieces(data)
    assert _lines([b"".join(parts), b"\n", b""]) == _lines([*parts, b"\n", b""])


def _lines(parts: Iterable[bytes]) -> tuple[list[bytes], str | None]:
    decoder, lines = NdjsonDecoder(max_line_bytes=_LIMIT), []
    try:
        for part in parts:
            lines += decoder.feed(part)
    except ValueError as error:
        return lines, str(error)
    return lines, None


def partial(data: bytes) -> None:
    """JSON in pieces is what it is as a whole, however it is cut; what is refused is refused alike."""
    parts = [part.decode("latin-1") for part in pieces(data)]
    whole, cut = _parsed(["".join(parts)]), _parsed(parts)
    assert whole == cut
    if not isinstance(whole, str):
        assert json.loads("".join(parts)) == whole[0]


def _parsed(parts: Iterable[str]) -> tuple[Any] | str:
    parser = PartialJson()
    try:
        for part in parts:
            parser.feed(part)
        parser.close()
    except ValueError as error:
        return str(error)
    return (parser.value,)


def body(data: bytes) -> None:
    """A body is refused, or read as the standard library reads it, without a repeated key, and not too deep."""
    try:
        document = decode_object(data)
    except InvalidRequest as error:
        assert error.status_code == 400
        assert error.code in ("invalid_json", "invalid_type")
        assert error.message
        error.message.encode()
        return
    assert json.loads(data, object_pairs_hook=_once) == document
    assert _depth(document) <= MAX_DEPTH


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    return 1 + max(map(_depth, value), default=0) if isinstance(value, list) else 0


def request(data: bytes) -> None:
    """A request is refused with words, or can be written for a provider with all its fields."""
    for operation in ("chat", "completions", "embeddings"):
        try:
            inbound = decode_request(operation, data)
        except InvalidRequest as error:
            assert 400 <= error.status_code < 500
            assert error.message
            assert error.code
            continue
        asked = Request(operation, inbound.model, inbound.payload, Call("fuzz"), stream=inbound.stream)
        sent = json.loads(encode_request(asked, "other"))
        assert sent["model"] == "other"
        assert inbound.payload.items() <= sent.items()


def tokens(data: bytes) -> None:
    """As `body`, with bytes that choose tokens: what is nearly JSON is found sooner so."""
    body(b"".join([_TOKENS[byte % len(_TOKENS)] for byte in data]))


def head(data: bytes) -> None:
    """A head's fields are accepted or refused, and what is accepted has one path without empty or dot segments."""
    target, _, rest = data.partition(b"\n")
    host, _, coding = rest.partition(b"\n")
    try:
        check_head(target, b"GET", "1.1", [(b"host", host), *([(b"transfer-encoding", coding)] if coding else [])])
    except InvalidRequest as error:
        assert error.code == "invalid_http"
        return
    path = target.partition(b"?")[0].partition(b"://")[2] or target.partition(b"?")[0]
    segments = unquote_to_bytes(path).split(b"/")[1:]
    assert not {b".", b".."} & {*segments}
    assert b"" not in segments[:-1]
    assert coding.strip().lower() in (b"", b"chunked")
    assert not set(host) & set(b" /?#@\\\r\n\x00")


_TOKENS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b",",
        b" ",
        b"\n",
        b'"',
        b'"a"',
        b'"b"',
        b'"a:b"',
        b'"\\u0061"',
        b'"\\u003a"',
        b'""',
    ),
    *(
        b'"\\\\"',
        b'"\\""',
        b'"\\ud83d\\ude00"',
        b'"\\ud83d"',
        '"é水"'.encode(),
        b"1",
        b"-0",
        b"1.5e-7",
        b"0.1",
        b"1e400",
    ),
    *(b"18446744073709551615", b"18446744073709551616", b"-9223372036854775809", b"9" * 30, b"true", b"null", b"NaN"),
    *(b'{"a":', b'{"b":', b',"a":', b'{"a":1,"a":2}', b"[" * 30, b"]" * 30, b"\xff", b"\\", b"x" * 9),
)

_CHAT = b'{"model":"m","messages":[{"role":"user","content":"a:b \\u00e9 \\ud83d\\ude00"}],"stream":true}'

TARGETS = {
    "sse": Target(sse, (b'\x03data: {"a":1}\r\n\r\n: c\ndata:x\rdata: y\n\nevent: z\n\n', b"\x00\xef\xbb\xbfdata\n\n")),
    "ndjson": Target(ndjson, (b'\x02\xef\xbb\xbf{"a":1}\r\n\n {"b":2}\n', b"\x01{}\n" + b"x" * _LIMIT + b"\r\n")),
    "partial": Target(
        partial, (b'\x02{"a":["\\ud83d\\ude00\\n",-1.5e3,true,null],"a":{}} ', b'\x01"\\udc00', b"\x00[1,2,01]")
    ),
    "body": Target(
        body, (_CHAT, b'{"a":{"b":[1,-2.5e3,null,true]},"a:b":"\\u003a","a":1}', b'{"n":1844674407370955161}')
    ),
    "tokens": Target(tokens, (bytes([0, 9, 4, 20, 5, 10, 4, 2, 20, 3, 1]), bytes([32, 32, 20, 34, 20, 1, 1]))),
    "request": Target(
        request,
        (
            _CHAT,
            b'{"model":"m","prompt":["a"],"stream_options":{"include_usage":true},"stream":true}',
            b'{"model":"m","input":[[1,2]],"cache":{"ttl":1},"store":false}',
        ),
    ),
    "head": Target(head, (b"/v1/models/a%2Fb?c=d\nlocalhost:80\nchunked", b"http://x/v1\n[::1]:80\n", b"/a/../b\nx\n")),
    "framing": Target(framing, FRAMING_SEEDS),
    "serving": Target(serving, SERVING_SEEDS),
}
