"""Requests that two readers could understand differently: refused, closed, and nothing goes upstream."""

import time

import pytest

HOST = b"host: x\r\n"
BODY = b'{"model":"m","messages":[{"role":"user","content":"smuggled"}]}'


def post(*fields, target=b"/v1/chat/completions", version=b"1.1", host=HOST):
    key = b"authorization: Bearer sk-abuse\r\n"
    return b"POST %b HTTP/%b\r\n%b%b%b\r\n" % (
        target,
        version,
        host,
        key,
        b"".join(field + b"\r\n" for field in fields),
    )


LENGTH = b"content-length: %d" % len(BODY)
CHUNKED = b"transfer-encoding: chunked"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)

MALFORMED = {
    "CL and TE": post(LENGTH, CHUNKED) + CHUNKS,
    "TE and CL": post(CHUNKED, LENGTH) + CHUNKS,
    "two CLs": post(LENGTH, LENGTH) + BODY,
    "two different CLs": post(LENGTH, b"content-length: 1") + BODY,
    "list of CLs": post(b"content-length: 3, 3") + BODY,
    "signed CL": post(b"content-length: +3") + BODY,
    "hexadecimal CL": post(b"content-length: 0x3") + BODY,
    "empty CL": post(b"content-length:") + BODY,
    "CL over 64 bits": post(b"content-length: 99999999999999999999999") + BODY,
    "two TEs": post(CHUNKED, CHUNKED) + CHUNKS,
    "TE gzip, chunked": post(b"transfer-encoding: gzip, chunked") + CHUNKS,
    "TE chunked, gzip": post(b"transfer-encoding: chunked, gzip") + CHUNKS,
    "TE xchunked": post(b"transfer-encoding: xchunked") + CHUNKS,
    "TE identity": post(b"transfer-encoding: identity") + CHUNKS,
    "TE with a space before its colon": post(b"transfer-encoding : chunked") + CHUNKS,
    "TE in HTTP/1.0": post(CHUNKED, version=b"1.0") + CHUNKS,
    "bare LF after the request line": post(LENGTH).replace(b"\r\n", b"\n", 1) + BODY,
    "bare LF after a field": post(LENGTH).replace(HOST, b"host: x\n") + BODY,
    "bare LF at the head's end": post(LENGTH)[:-2] + b"\n" + BODY,
    "bare CR": post(LENGTH).replace(HOST, b"host: x\r") + BODY,
    "bare LF in a chunk": post(CHUNKED) + CHUNKS.replace(b"\r\n", b"\n", 1),
    "chunk longer than said": post(CHUNKED) + b"3\r\nabcdef\r\n0\r\n\r\n",
    "chunk of 2^68": post(CHUNKED) + b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "negative chunk": post(CHUNKED) + b"-3\r\nabc\r\n0\r\n\r\n",
    "obs-fold": post(b"x-a: 1", b"  folded", LENGTH) + BODY,
    "space before the first field": post(LENGTH).replace(HOST, b" host: x\r\n") + BODY,
    "space in a name": post(b"x a: 1", LENGTH) + BODY,
    "field without a colon": post(b"nocolon", LENGTH) + BODY,
    "NUL in a value": post(b"x-a: a\x00b", LENGTH) + BODY,
    "control character in a value": post(b"x-a: a\x01b", LENGTH) + BODY,
    "no Host": post(LENGTH, host=b"") + BODY,
    "two Hosts": post(LENGTH, host=HOST + HOST) + BODY,
    "empty Host": post(LENGTH, host=b"host:\r\n") + BODY,
    "Host with a path": post(LENGTH, host=b"host: x/v1\r\n") + BODY,
    "Host with user": post(LENGTH, host=b"host: a@x\r\n") + BODY,
    "Host with a space": post(LENGTH, host=b"host: x y\r\n") + BODY,
    "Host with a bad port": post(LENGTH, host=b"host: x:80a\r\n") + BODY,
    "encoded dot": post(LENGTH, target=b"/v1/%2e/chat/completions") + BODY,
    "encoded dots": post(LENGTH, target=b"/health/%2E%2e/v1/chat/completions") + BODY,
    "dot segment": post(LENGTH, target=b"/v1/./chat/completions") + BODY,
    "dots": post(LENGTH, target=b"/health/../v1/chat/completions") + BODY,
    "dots at the end": post(LENGTH, target=b"/v1/chat/completions/..") + BODY,
    "double slash": post(LENGTH, target=b"/v1//chat/completions") + BODY,
    "leading double slash": post(LENGTH, target=b"//v1/chat/completions") + BODY,
    "dots after an encoded slash": post(LENGTH, target=b"/health%2f../v1/chat/completions") + BODY,
    "two encoded slashes": post(LENGTH, target=b"/v1%2F%2Fchat/completions") + BODY,
    "backslash": post(LENGTH, target=b"/v1\\chat/completions") + BODY,
    "encoded backslash": post(LENGTH, target=b"/v1%5cchat/completions") + BODY,
    "NUL in the path": post(LENGTH, target=b"/v1/chat/completions%00") + BODY,
    "line end in the path": post(LENGTH, target=b"/v1/models/a%0d%0ab") + BODY,
    "fragment": post(LENGTH, target=b"/v1/chat/completions#a") + BODY,
    "no path": post(LENGTH, target=b"v1/chat/completions") + BODY,
    "user in an absolute target": post(LENGTH, target=b"http://a@x/v1/chat/completions") + BODY,
    "bytes beyond ASCII": post(LENGTH, target=b"/v1/\xff") + BODY,
    "space in the target": post(LENGTH, target=b"/v1/chat/completions x") + BODY,
    "star without OPTIONS": post(LENGTH, target=b"*") + BODY,
    "HTTP/0.9": post(LENGTH, version=b"0.9") + BODY,
    "HTTP/2.0": post(LENGTH, version=b"2.0") + BODY,
    "HTTP/1.2": post(LENGTH, version=b"1.2") + BODY,
    "no version": b"GET /v1/models\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "unknown method": b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "method in lower case": b"get /v1/models HTTP/1.1\r\nhost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "garbage": b"\x00\xff\xfe" * 10,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_or_ambiguous_is_refused_and_closed(abused, name):
    before = abused.attempts()
    with abused.wire() as wire:
        wire.send(MALFORMED[name])
        wire.refused(400, "invalid_http")
    assert abused.attempts() == before


@pytest.mark.parametrize("name", ["two CLs", "double slash", "bare LF in a chunk", "garbage"])
def test_the_same_byte_by_byte(abused, name):
    with abused.wire() as wire:
        for byte in MALFORMED[name][:-3]:
            try:
                wire.send(bytes([byte]))
            except ConnectionError:
                break
        wire.refused(400, "invalid_http")


def test_a_request_after_a_refused_one_is_not_read(abused):
    before = abused.attempts()
    with abused.wire() as wire:
        wire.send(MALFORMED["CL and TE"], abused.question("behind it"))
        wire.refused(400, "invalid_http")
    assert abused.attempts() == before


def test_a_refusal_waits_for_the_answers_that_are_owed(abused):
    with abused.wire() as wire:
        wire.send(*(abused.question(f"owed {n}") for n in range(5)), MALFORMED["two CLs"])
        for n in range(5):
            status, _, body = wire.response()
            assert status == 200
            assert f"owed {n}".encode() in body
        wire.refused(400, "invalid_http")


def test_a_malformed_body_is_refused_after_what_is_owed(abused):
    with abused.wire() as wire:
        wire.send(abused.question("owed before a body"), MALFORMED["chunk longer than said"])
        assert wire.response()[0] == 200
        wire.refused(400, "invalid_http")


def test_trailers_are_no_fields_of_the_head(abused):
    keyless = post(CHUNKED).replace(b"authorization: Bearer sk-abuse\r\n", b"")
    with abused.wire() as wire:
        wire.send(keyless, CHUNKS[:-2], b"authorization: Bearer sk-abuse\r\n\r\n")
        assert wire.response()[0] == 401
    with abused.wire() as wire:
        wire.send(post(CHUNKED), CHUNKS[:-2], b"x-request-id: from-a-trailer\r\nhost: y\r\n\r\n")
        status, headers, _ = wire.response()
        assert status == 200
        assert headers["x-request-id"] != "from-a-trailer"
        wire.send(abused.question("the connection goes on"))
        assert wire.response()[0] == 200


def test_a_chunked_body_is_read(abused):
    with abused.wire() as wire:
        wire.send(post(CHUNKED), b"".join(b"1;a=b\r\n%c\r\n" % byte for byte in BODY), b"0\r\n\r\n")
        status, _, body = wire.response()
    assert status == 200
    assert b"smuggled" in body


@pytest.mark.parametrize("target", [b"http://x/v1/chat/completions", b"/v1/chat/completions?api-version=1//2"])
def test_other_forms_of_a_target_work(abused, target):
    assert abused.ask(post(LENGTH, target=target) + BODY)[0] == 200


@pytest.mark.parametrize("name", ["sim%2Fmodel", "sim/model", "a%20b", "a:b", "~a_b.c-1"])
def test_names_of_models_may_be_encoded(abused, name):
    asked = f"GET /v1/models/{name} HTTP/1.1\r\nhost: x\r\n{abused.key}\r\n"
    assert abused.ask(asked.encode())[0] == 200


@pytest.mark.parametrize("host", ["localhost", "a_b:4141", "[::1]:4141", "127.0.0.1", "x:"])
def test_hosts(abused, host):
    assert abused.ask(f"GET /health/live HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())[0] == 200


def test_http_1_0(abused):
    with abused.wire() as wire:
        wire.send(post(LENGTH, version=b"1.0", host=b""), BODY)
        status, headers, _ = wire.response()
        assert (status, headers["connection"]) == (200, "close")
        assert wire.closed()


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("fields", [b"", b"connection: keep-alive\r\n"])
def test_a_stream_for_http_1_0_ends_with_the_connection(abused, fields, known):
    """It knows no chunks (RFC 9112 sections 6.1 and 7.1)."""
    newer = abused.question(f"an old client {fields} {known}", stream=True)
    expected = abused.ask(newer)[2] if known else None
    with abused.wire() as wire:
        wire.send(newer.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n" + fields))
        head, _, body = wire.file.read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close" in head
    assert b"transfer-encoding" not in head
    assert body.startswith(b"data: {")
    assert body.endswith(b"}\n\ndata: [DONE]\n\n")
    assert expected in (None, body)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/health/live", 200),
        ("HEAD", "/v1/models", 200),
        ("HEAD", "/nothing", 404),
        ("OPTIONS", "/v1/chat/completions", 405),
        ("OPTIONS", "*", 404),
        ("PURGE", "/v1/chat/completions", 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/metrics", 405),
        ("TRACE", "/v1/models", 405),
        ("PATCH", "/v1/chat/completions/a", 405),
    ],
)
def test_other_methods(abused, method, path, status):
    with abused.wire() as wire:
        wire.send(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{abused.key}\r\n")
        found, headers, body = wire.response(bodiless=method == "HEAD")
        assert found == status
        if status != 200:
            assert headers["x-request-id"]
            if method != "HEAD":
                abused.shape(body)
        wire.send("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert wire.response()[0] == 200


def test_an_upgrade_is_not_taken_and_the_connection_not_left_hanging(abused):
    with abused.wire() as wire:
        wire.send("GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        status, headers, _ = wire.response()
        assert (status, headers["connection"]) == (200, "close")
        assert wire.closed()


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("x-a: 1\r\n" * 101, 431),
        (f"x-a: {'a' * 70_000}\r\n", 431),
        (f"x-b: {'b' * 900}\r\n" * 90, 431),
        (f"x-c: {'c' * 600}\r\n" * 90, 200),
    ],
    ids=["many", "long", "both", "as many as are allowed"],
)
def test_heads_have_a_size(abused, fields, status):
    with abused.wire() as wire:
        wire.send("GET /health/live HTTP/1.1\r\nhost: x\r\n", fields, "\r\n")
        if status == 200:
            assert wire.response()[0] == 200
        else:
            wire.refused(431, "headers_too_large")


def test_targets_have_a_size(abused):
    with abused.wire() as wire:
        wire.send(f"GET /{'a' * 70_000} HTTP/1.1\r\nhost: x\r\n\r\n")
        wire.refused(431, "headers_too_large")


ENDLESS = {
    "field": "GET /health/live HTTP/1.1\r\nhost: x\r\nx-a: ",
    "target": "GET /",
    "chunk extension": post(CHUNKED).decode() + "1;a=",
    "trailer": post(CHUNKED).decode() + "0\r\nx-a: ",
}


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS)
def test_endless_heads_chunk_extensions_and_trailers_are_cut_off(abused, start):
    before = abused.memory()
    with abused.wire() as wire:
        wire.send(start)
        sent = 0
        try:
            while sent < 20_000_000:
                wire.send(b"a" * 100_000)
                sent += 100_000
        except ConnectionError:
            pass
        status, _, body = wire.response()
        assert status in (400, 431)
        abused.shape(body)
    assert abused.memory() - before < 8_000_000
    assert abused.well() < 5


def test_pipelined_requests_of_all_kinds_are_answered_in_order(abused):
    get = f"GET /v1/models/m{{}} HTTP/1.1\r\nhost: x\r\n{abused.key}\r\n"
    kinds = [
        (lambda n: abused.question("known"), 200, "known"),
        (lambda n: abused.question(f"fresh {n}"), 200, "fresh {}"),
        (lambda n: abused.question(f"streamed {n}", stream=True), 200, "[DONE]"),
        (lambda n: get.format(n).encode(), 200, '"m{}"'),
        (lambda n: abused.question(f"keyless {n}", key="authorization: Bearer sk-{n}\r\n"), 401, "invalid_api_key"),
        (lambda n: abused.post(b"{%d" % n), 400, "invalid_json"),
        (lambda n: f"GET /nothing/{n} HTTP/1.1\r\nhost: x\r\n\r\n".encode(), 404, "/nothing/{}"),
        (lambda n: post(CHUNKED) + CHUNKS, 200, "smuggled"),
        (lambda n: abused.question(f"by id {n}", extra=f"x-request-id: id-{n}\r\n"), 200, "by id {}"),
        (lambda n: f"PUT /v1/models HTTP/1.1\r\nhost: x\r\nx-request-id: id-{n}\r\n\r\n".encode(), 405, "not allowed"),
    ]
    with abused.wire() as wire:
        wire.send(b"".join(kinds[n % 10][0](n) for n in range(100)))
        for n in range(100):
            _, status, says = kinds[n % 10]
            found, headers, body = wire.response()
            assert found == status, (n, body)
            assert says.format(n) in body.decode(), n
            if n % 10 >= 8:
                assert headers["x-request-id"] == f"id-{n}"


def test_connections_have_a_limit(abused):
    wires = [abused.wire() for _ in range(200)]
    try:
        time.sleep(0.3)
        with abused.wire() as late:
            late.refused(503, "too_many_connections")
        wires[0].send("GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert wires[0].response()[0] == 200
    finally:
        for wire in wires:
            wire.__exit__()
    time.sleep(0.2)
    assert abused.well() < 5
