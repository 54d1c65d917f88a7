"""The API's description, OpenAPI 3.1, made of one table of operations."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import msgspec

import penstock
from penstock.accounts.budgets import BudgetTerms
from penstock.accounts.keys import KeyTerms
from penstock.accounts.teams import TeamTerms
from penstock.server.admin.cache import NDJSON, Clearing, Labelling
from penstock.server.admin.experiments import Stopping
from penstock.server.admin.keys import KeyChanges, Rotation
from penstock.server.admin.teams import TeamChanges
from penstock.server.admin.templates import Rendering, Rollback
from penstock.server.scores import Scoring


class Described(NamedTuple):
    """One operation: what `/openapi.json` says of a route."""

    method: str
    path: str
    name: str
    summary: str
    body: str | None = None
    answer: str | None = None
    query: tuple[str, ...] = ()
    media: str = "application/json"
    stream: bool = False
    status: int = 200


OPERATIONS = (
    Described("post", "/v1/chat/completions", "createChatCompletion", "Answer a conversation", "ChatRequest",
              "ChatCompletion", stream=True),
    Described("get", "/v1/chat/completions", "listChatCompletions", "List stored completions", None, "List",
              ("after", "limit", "order", "model")),
    Described("get", "/v1/chat/completions/{completion_id}", "getChatCompletion", "Get a stored completion", None,
              "ChatCompletion"),
    Described("post", "/v1/chat/completions/{completion_id}", "updateChatCompletion",
              "Replace a stored completion's metadata", "MetadataUpdate", "ChatCompletion"),
    Described("delete", "/v1/chat/completions/{completion_id}", "deleteChatCompletion", "Delete a stored completion",
              None, "Deleted"),
    Described("get", "/v1/chat/completions/{completion_id}/messages", "getChatCompletionMessages",
              "List the messages a stored completion answered", None, "List", ("after", "limit", "order")),
    Described("post", "/v1/completions", "createCompletion", "Continue a text (legacy)", "CompletionRequest",
              "Completion", stream=True),
    Described("post", "/v1/embeddings", "createEmbedding", "Turn texts into vectors", "EmbeddingRequest",
              "EmbeddingList"),
    Described("post", "/v1/scores", "createScore", "Say how good an answer was", "Scoring", "Any"),
    Described("get", "/v1/models", "listModels", "List models", None, "List"),
    Described("get", "/v1/models/{model}", "retrieveModel", "Describe a model", None, "Model"),
    Described("get", "/admin/whoami", "whoami", "Say what the key that is used may do", None, "Any"),
    Described("get", "/admin/keys", "listKeys", "List keys", None, "List", ("tenant",)),
    Described("post", "/admin/keys", "createKey", "Make a key; its text is in this answer only", "KeyTerms", "Key",
              status=201),
    Described("get", "/admin/keys/{key_id}", "getKey", "Get a key", None, "Key"),
    Described("post", "/admin/keys/{key_id}", "updateKey", "Change what is in the body", "KeyChanges", "Key"),
    Described("delete", "/admin/keys/{key_id}", "deleteKey", "Remove a key", None, "Deleted"),
    Described("post", "/admin/keys/{key_id}/rotate", "rotateKey", "Make a key that takes another's place", "Rotation",
              "Key", status=201),
    Described("post", "/admin/keys/{key_id}/revoke", "revokeKey", "End a key at once", None, "Key"),
    Described("get", "/admin/budgets", "listBudgets", "List budgets, with what is spent", None, "List", ("subject",)),
    Described("post", "/admin/budgets", "setBudget", "Make a budget, or change the one of the same scope, subject, "
              "period and unit", "BudgetTerms", "Budget"),
    Described("get", "/admin/budgets/{budget_id}", "getBudget", "Get a budget", None, "Budget"),
    Described("delete", "/admin/budgets/{budget_id}", "deleteBudget", "Remove a budget", None, "Deleted"),
    Described("get", "/admin/teams", "listTeams", "List teams", None, "List", ("organisation",)),
    Described("post", "/admin/teams", "createTeam", "Make a team", "TeamTerms", "Team", status=201),
    Described("get", "/admin/teams/{tenant}", "getTeam", "Get a team", None, "Team"),
    Described("post", "/admin/teams/{tenant}", "updateTeam", "Change what is in the body", "TeamChanges", "Team"),
    Described("get", "/admin/usage", "usage", "Report on the last days", None, "Any",
              ("days", "by", "tenant", "format", "recent")),
    Described("get", "/admin/usage/statistics", "statistics", "Counts since the start and the last reset", None, "Any",
              ("tenant",)),
    Described("post", "/admin/usage/statistics/reset", "resetStatistics", "Begin to count anew", None, "Any"),
    Described("get", "/admin/cache/stats", "cacheStats", "What is cached, and what is promised of answers by meaning",
              None, "Any", ("tenant",)),
    Described("get", "/admin/cache/entries", "listCacheEntries", "List answers, newest first", None, "List",
              ("tenant", "model", "tag", "contains", "limit")),
    Described("post", "/admin/cache/explain", "explainCache", "Say what would be done with a request", "Any", "Any",
              ("tenant",)),
    Described("post", "/admin/cache/clear", "clearCache", "Drop answers and their questions", "Clearing", "Any"),
    Described("post", "/admin/cache/cleanup", "cleanUpCache", "Drop what is of no use any more", None, "Any"),
    Described("post", "/admin/cache/optimize", "optimizeCache", "Build indexes anew, put the store in order", None,
              "Any"),
    Described("post", "/admin/cache/warm", "warmCache", "Take questions in, with or without their answers", NDJSON,
              None, ("tenant", "concurrency"), media=NDJSON),
    Described("get", "/admin/cache/export", "exportCache", "Write one tenant's answers and questions", None, None,
              ("tenant",), media=NDJSON),
    Described("post", "/admin/cache/import", "importCache", "Take in what was exported", NDJSON, "Any", ("tenant",)),
    Described("post", "/admin/cache/labels", "labelAnswer", "Say whether an answer by meaning was right", "Labelling",
              "Any"),
    Described("get", "/admin/cascades", "listCascades", "What cascades have learnt and saved", None, "List"),
    Described("get", "/admin/experiments", "listExperiments", "Where each experiment stands", None, "List"),
    Described("get", "/admin/experiments/{name}", "getExperiment", "What is known of an experiment", None, "Any"),
    Described("post", "/admin/experiments/{name}/stop", "stopExperiment", "End an experiment", "Stopping", "Any"),
    Described("post", "/admin/experiments/{name}/start", "startExperiment", "Let an experiment run",
              None, "Any"),
    Described("get", "/admin/templates", "listTemplates", "List prompts, with what they take", None, "List"),
    Described("post", "/admin/templates/reload", "reloadTemplates", "Read the files of prompts again", None, "Any"),
    Described("get", "/admin/templates/{name}", "getTemplate", "Show a prompt with its versions", None, "Any"),
    Described("post", "/admin/templates/{name}/render", "renderTemplate", "Say what a prompt would send", "Rendering",
              "Any"),
    Described("post", "/admin/templates/{name}/rollback", "rollbackTemplate",
              "Let a label stand for another version", "Rollback", "Any"),
    Described("get", "/admin/health", "health", "How well the process does, 0 to 100, and what holds it back", None,
              "Any"),
    Described("get", "/admin/alerts", "listAlerts", "Where each rule stands", None, "List"),
    Described("get", "/admin/alerts/history", "listAlertEvents", "The newest alerts, begun and over", None, "List",
              ("limit",)),
    Described("post", "/admin/sinks/{sink}/test", "testSink", "Send a test message", None, "Any"),
    Described("get", "/health/live", "live", "Whether the process answers", None, "Status"),
    Described("get", "/health/ready", "ready", "Whether requests are welcome; 503 is an error with a status", None,
              "Status"),
    Described("get", "/metrics", "metrics", "Metrics for Prometheus", None, None, media="text/plain"),
    Described("get", "/openapi.json", "openapi", "This document", None, "Any"),
)  # fmt: skip


def _object(required: tuple[str, ...] = (), /, **properties: Any) -> dict[str, Any]:  # noqa: ANN401 JSON Schema
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": True}


_TEXT, _NUMBER, _WHOLE, _FLAG = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
_OBJECTS = {"type": "array", "items": {"type": "object"}}
_CACHE = _object(**{"ttl": _NUMBER, "s-maxage": _NUMBER, "no-cache": _FLAG, "no-store": _FLAG, "namespace": _TEXT})
_COMMON = {
    "model": {**_TEXT, "description": "A configured name, provider/model, or prompt/NAME."},
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": _FLAG}},
    "cache": {**_CACHE, "description": "Caching of this request; not sent to the provider."},
}
_METADATA = {"type": ["object", "null"], "additionalProperties": _TEXT, "maxProperties": 16}

_PROMPT = {
    **_object(("id",), id=_TEXT, version=_TEXT, variables=_object()),
    "description": "A prompt to render before the messages; then these, and the model, may be left out.",
}

SCHEMAS: dict[str, Any] = {
    "ChatRequest": _object(
        **_COMMON,
        messages={"type": "array", "items": _object(("role",), role=_TEXT)},
        prompt=_PROMPT,
        store={"type": ["boolean", "null"], "description": "Keep the completion for the routes below."},
        metadata=_METADATA,
    ),
    "CompletionRequest": _object(("prompt",), **_COMMON, prompt={"type": ["string", "array", "object"]}),
    "EmbeddingRequest": _object(("model", "input"), **_COMMON, input={"type": ["string", "array"]}),
    "MetadataUpdate": _object(("metadata",), metadata=_METADATA),
    "ChatCompletion": _object(("id", "object", "choices"), id=_TEXT, object=_TEXT, choices=_OBJECTS, usage=_object()),
    "Completion": _object(("id", "object", "choices"), id=_TEXT, object=_TEXT, choices=_OBJECTS, usage=_object()),
    "EmbeddingList": _object(("object", "data"), object=_TEXT, data=_OBJECTS, usage=_object()),
    "Model": _object(("id", "object"), id=_TEXT, object=_TEXT, created=_WHOLE, owned_by=_TEXT),
    "Key": _object(
        ("id", "tenant", "role"),
        id=_TEXT,
        object=_TEXT,
        tenant=_TEXT,
        role=_TEXT,
        name=_TEXT,
        hint=_TEXT,
        status=_TEXT,
        key={**_TEXT, "description": "The key itself, only when it is made."},
    ),
    "Budget": _object(
        ("id", "scope", "subject"),
        object=_TEXT,
        id=_TEXT,
        scope=_TEXT,
        subject=_TEXT,
        period=_TEXT,
        unit=_TEXT,
        unpriced=_WHOLE,
    ),
    "Team": _object(("tenant",), object=_TEXT, tenant=_TEXT, name=_TEXT),
    **msgspec.json.schema_components(
        [
            BudgetTerms,
            Clearing,
            KeyTerms,
            KeyChanges,
            Labelling,
            Rendering,
            Rollback,
            Rotation,
            Scoring,
            Stopping,
            TeamTerms,
            TeamChanges,
        ],
        ref_template="#/components/schemas/{name}",
    )[1],
    "List": _object(("object", "data"), object=_TEXT, data=_OBJECTS, has_more=_FLAG),
    "Deleted": _object(("id", "deleted"), id=_TEXT, object=_TEXT, deleted=_FLAG),
    "Status": _object(("status",), status=_TEXT),
    "Any": {"type": "object"},
    "Error": _object(
        ("error",),
        error=_object(
            ("message", "type", "param", "code"),
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code={"type": ["string", "null"]},
        ),
    ),
}


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": penstock.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": SCHEMAS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
        "security": [{}, {"bearer": []}, {"header": []}],
    }


def _describe(operation: Described) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if operation.answer:
        content[operation.media] = {"schema": _reference(operation.answer)}
    elif operation.media != "application/json":
        content[operation.media] = {"schema": _TEXT}
    if operation.stream:
        content["text/event-stream"] = {}  # a schema would be taken for that of the events
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            str(operation.status): {"description": "The answer", "content": content},
            "default": {
                "description": "An error, in OpenAI's shape",
                "headers": {"x-request-id": {"required": True, "schema": _TEXT}},
                "content": {"application/json": {"schema": _reference("Error")}},
            },
        },
    }
    parameters = [
        {"name": part[1:-1], "in": "path", "required": True, "schema": _TEXT}
        for part in operation.path.split("/")
        if part.startswith("{")
    ] + [{"name": name, "in": "query", "schema": _TEXT} for name in operation.query]
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        lines = operation.body == NDJSON
        content = {NDJSON: {"schema": _TEXT}} if lines else {"application/json": {"schema": _reference(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
