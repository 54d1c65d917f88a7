import http.client
import json
from urllib.parse import urlsplit

import pytest


def ask(url, method, path):
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request(method, path)
    reply = connection.getresponse()
    body = json.loads(reply.read())
    connection.close()
    return reply, body


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/embeddings", "POST"),
        ("GET", "/v1/completions", "POST"),
        ("PUT", "/v1/chat/completions", "GET, HEAD, POST"),
        ("PATCH", "/v1/chat/completions/some-id", "DELETE, GET, HEAD, POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
    ],
)
def test_another_method_is_told_which_are_allowed(shared_gateway, method, path, allowed):
    reply, body = ask(shared_gateway.url, method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert body["error"]["code"] == "method_not_allowed"
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nonsense", "/v1/chat/completions/", "/v1/models/", "/V1/models"])
def test_an_unknown_path_says_where_to_look(shared_gateway, path):
    reply, body = ask(shared_gateway.url, "GET", path)
    assert (reply.status, body["error"]["type"]) == (404, "not_found_error")
    assert body["error"]["code"] in ("not_found", "model_not_found")


def test_model_names_may_have_slashes(shared_gateway):
    reply, body = ask(shared_gateway.url, "GET", "/v1/models/sim/some/model")
    assert (reply.status, body["id"], body["owned_by"]) == (200, "sim/some/model", "sim")


def test_the_list_of_models_and_each_model_agree_on_the_owner(shared_gateway):
    _, listed = ask(shared_gateway.url, "GET", "/v1/models")
    assert listed["data"]
    for model in listed["data"]:
        _, alone = ask(shared_gateway.url, "GET", f"/v1/models/{model['id']}")
        assert (alone["id"], alone["owned_by"]) == (model["id"], model["owned_by"])


def test_metrics_show_what_is_under_way(shared_gateway):
    address = urlsplit(shared_gateway.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=10)
    connection.request("GET", "/metrics")
    page = connection.getresponse().read().decode()
    connection.close()
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['penstock_under_way{what="requests"}']) == 0
    assert float(lines['penstock_under_way{what="coalesced"}']) == 0
    assert float(lines['penstock_under_way{what="tasks"}']) > 0
    assert float(lines["penstock_client_connections"]) >= 1
    assert 0 <= float(lines["penstock_event_loop_lag_seconds"]) < 30
    assert float(lines["process_open_fds"]) > 3
