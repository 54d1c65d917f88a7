"""How long Ollama lets prompts be: it drops what is longer without a word, so this must not be guessed too high."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from penstock.wire.upstream_errors import UNREADABLE, unusable

DEFAULT_WINDOW = 4096
"""What Ollama's servers give a model for which nobody says more, on the smallest machines."""

_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)


class _Show(msgspec.Struct):
    parameters: str = ""
    model_info: dict[str, Any] = {}


class _Loaded(msgspec.Struct):
    name: str = ""
    model: str = ""
    context_length: int | None = None


class _Ps(msgspec.Struct):
    models: list[_Loaded] | None = None


_decode_show = msgspec.json.Decoder(_Show).decode
_decode_ps = msgspec.json.Decoder(_Ps).decode


def decode_window(data: bytes, provider: str) -> tuple[int | None, int]:
    """Read an answer of ``/api/show``.

    Returns:
        The window that the model's file asks for, None when it asks for none; and the one that can be counted on then.

    Raises:
        ProviderError: The body is no description of a model.
    """
    try:
        body = _decode_show(data)
    except UNREADABLE as error:
        raise unusable(f"a description of a model that cannot be read ({error})", provider) from None
    asked = _NUM_CTX.search(body.parameters)
    lengths = [
        value for name, value in body.model_info.items() if name.endswith(".context_length") and type(value) is int
    ]
    return None if asked is None else int(asked[1]), min([DEFAULT_WINDOW, *lengths])


def decode_loaded(data: bytes, model: str, provider: str) -> int | None:
    """Read from an answer of ``/api/ps`` the window `model` was loaded with; None when it is not loaded.

    Raises:
        ProviderError: The body is no list of models.
    """
    try:
        models = _decode_ps(data).models or []
    except UNREADABLE as error:
        raise unusable(f"a list of models that cannot be read ({error})", provider) from None
    names = (model, f"{model}:latest")
    return next((each.context_length for each in models if each.name in names or each.model in names), None)
