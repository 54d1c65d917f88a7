"""Asking a gateway without a socket."""

import asyncio
import contextlib
import json

import pytest


async def ask(gateway, method, path, *headers, body=b"{}"):
    """Ask in-process; return status and body, decoded if it is a JSON object."""
    sent, asked = [], []

    async def receive():
        if asked:
            await asyncio.Event().wait()
        asked.append(path)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    fields = [(name.encode(), value if isinstance(value, bytes) else value.encode()) for name, value in headers]
    path, _, query = path.partition("?")
    scope = {"type": "http", "method": method, "path": path, "headers": fields, "query_string": query.encode()}
    with contextlib.suppress(KeyError):  # which Starlette raises again for the server's log, once it has answered
        await gateway(scope, receive, send)
    whole = b"".join(message.get("body", b"") for message in sent[1:])
    lines = (b"content-type", b"application/x-ndjson") in sent[0]["headers"]
    return sent[0]["status"], json.loads(whole) if whole[:1] == b"{" and not lines else whole


@pytest.fixture
def call():
    return ask
