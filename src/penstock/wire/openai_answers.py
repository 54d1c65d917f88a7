"""What OpenAI-compatible providers answer, when it comes whole; for streams see `penstock.wire.openai_stream`.

Only what Penstock needs is decoded; all of it is checked to be JSON, because the bytes go to the client as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.abc import ModelInfo
from penstock.core.canonical import read_usage
from penstock.core.errors import ProviderError
from penstock.core.request import Operation
from penstock.core.usage import Usage
from penstock.wire.openai_errors import find_error
from penstock.wire.upstream_errors import UNREADABLE, unusable


class _Finish(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _Answer(msgspec.Struct, gc=False):
    choices: list[_Finish] | None = None
    data: list[msgspec.Raw] | None = None
    usage: Any = None
    error: Any = None
    service_tier: Any = None


_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_any = msgspec.json.Decoder().decode


def parse_answer(body: bytes, provider: str = "", *, operation: Operation = "chat") -> tuple[Usage | None, str | None]:
    """Check a whole answer, and read its token counts and why its first choice ended.

    Args:
        body: The answer.
        provider: Name of the provider in the configuration, for errors.
        operation: What was asked: embeddings come as ``data`` and have no finish reason, the others as ``choices``.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the body.
    """
    try:
        if not body.isascii():
            body.decode()
        answer = _decode_answer(body)
    except UNREADABLE as error:
        raise unreadable("an answer", body, error, provider) from None
    field = "data" if operation == "embeddings" else "choices"
    if answer.error or getattr(answer, field) is None:
        raise find_error(_decode_any(body), provider) or unusable(f"an answer without {field}", provider)
    return read_counts(answer.usage, answer.service_tier), answer.choices[0].finish_reason if answer.choices else None


def parse_models(body: bytes, provider: str = "") -> list[ModelInfo]:
    """Read a list of models, which some servers send without the object around it.

    Raises:
        ProviderError: ``upstream_invalid``, or the error in the body.
    """
    try:
        document = _decode_any(body)
    except UNREADABLE as error:
        raise unreadable("a list of models", body, error, provider) from None
    rows = document.get("data") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise find_error(document, provider) or unusable("a list of models without data", provider)
    return [_model(row) for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]


def _model(row: dict[str, Any]) -> ModelInfo:
    created, owner = row.get("created"), row.get("owned_by")
    return ModelInfo(
        row["id"],
        int(created) if isinstance(created, int | float) else 0,
        owner if isinstance(owner, str) else "",
    )


def read_counts(raw: object, service_tier: object) -> Usage | None:
    """Counts that cannot be read are as good as none: the answer is still what was asked and paid for."""
    try:
        return read_usage(raw, service_tier) if isinstance(raw, dict) else None
    except (TypeError, ValueError, AttributeError):
        return None


def unreadable(what: str, data: bytes, error: Exception, provider: str) -> ProviderError:
    """Return the error in `data`, which cannot be read as `what`, or the one that says so because of `error`."""
    # An error may stand where the schema expects something else, as in Google's list with one object.
    try:
        document = _decode_any(data)
    except UNREADABLE:
        document = None
    reason = str(error).removeprefix("JSON is malformed: ")
    return find_error(document, provider) or unusable(f"{what} that cannot be read: {reason}", provider)
