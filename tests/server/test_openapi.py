import json
import re

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from penstock.client import AsyncClient
from penstock.server.app import Gateway
from penstock.server.openapi import OPERATIONS, document

CONFIG = {
    "models": [{"name": "*", "targets": [{"provider": "simulated", "model": "sim"}]}],
    "store": {"url": "memory:"},
}
HEAD = {"HEAD"}
"""Starlette adds it to every GET."""


@pytest.fixture
def gateway():
    return Gateway(AsyncClient(CONFIG))


def served(gateway):
    found = {("POST", path) for path in gateway.hot}
    for route in gateway.routes:
        path = re.sub(r":\w+}", "}", route.path)
        found |= {(method, path) for method in route.methods - HEAD}
    return found


def test_it_is_valid():
    OpenAPIV31SpecValidator(json.loads(json.dumps(document()))).validate()


def test_every_route_is_described_and_every_description_is_served(gateway):
    described = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert described == served(gateway)
    assert len(described) == len(OPERATIONS)


def test_names_are_unique_and_every_schema_is_used():
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)
    text = json.dumps(document())
    for name in document()["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


async def test_it_is_served_as_it_is(gateway):
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/openapi.json", "headers": [], "query_string": b""}
    await gateway(scope, receive, send)
    assert sent[0]["status"] == 200
    assert json.loads(sent[1]["body"]) == document()
