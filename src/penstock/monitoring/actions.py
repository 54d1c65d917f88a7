"""What an alert can do besides telling: change settings for as long as it lasts, or free memory once."""

from __future__ import annotations

import gc
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from penstock.config.presets import PRESETS, SETTINGS
from penstock.config.settings import Settings

COLLECT_GARBAGE, TIGHTEN_LEVEL, SERVE_STALE = "collect_garbage", "tighten_level", "serve_stale"

STALE_S = 86_400.0
"""How old stale answers may be that `serve_stale` gives when providers fail."""

_STRONGER: Mapping[str, str] = MappingProxyType({"low": "medium", "medium": "high", "high": "ultra"})


def apply(settings: Settings, sources: Mapping[str, str], actions: Collection[str]) -> Settings:
    """Return `settings` with what `actions` change.

    Args:
        settings: As they are configured.
        sources: Where each setting comes from; what was set explicitly is not changed by `tighten_level`.
        actions: Names of actions; those that change no settings are passed over.
    """
    changes: dict[str, Any] = {}
    if TIGHTEN_LEVEL in actions and settings.level in _STRONGER:
        level = _STRONGER[settings.level]
        changes["level"] = level
        for path, value in zip(SETTINGS, PRESETS[level], strict=True):
            if sources.get(path, "level").startswith("level"):
                changes[path] = value
    if SERVE_STALE in actions:
        changes["cache.exact.stale_if_error_s"] = max(settings.cache.exact.stale_if_error_s, STALE_S)
    if not changes:
        return settings
    document = settings.model_dump()
    for path, value in changes.items():
        *parents, name = path.split(".")
        place = document
        for parent in parents:
            place = place[parent]
        place[name] = value
    return Settings.model_validate(document)


def collect_garbage() -> None:
    """Free what reference cycles hold."""
    gc.collect()
