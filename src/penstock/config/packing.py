"""Settings as bytes, for another process of the same gateway: with their secrets, so for nobody else."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import SecretStr

from penstock.config.loader import Loaded
from penstock.config.settings import Settings


class _Packed(msgspec.Struct):
    settings: dict[str, Any]
    sources: dict[str, str]
    warnings: list[str]
    path: str | None


def pack(loaded: Loaded) -> bytes:
    """Return bytes of which `unpack` makes the same again, whatever files and the environment say by then."""
    settings = loaded.settings.model_dump(exclude_unset=True)
    return msgspec.json.encode(_Packed(settings, loaded.sources, loaded.warnings, loaded.path), enc_hook=_reveal)


def unpack(data: bytes) -> Loaded:
    """Return what was packed."""
    packed = msgspec.json.decode(data, type=_Packed)
    return Loaded(Settings.model_validate(packed.settings), packed.sources, packed.warnings, packed.path)


def _reveal(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    raise TypeError(f"settings of the type {type(value).__name__} cannot be packed")
