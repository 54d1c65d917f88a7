"""From the settings to an embedder."""

from __future__ import annotations

from penstock.abc import Embedder
from penstock.config.semantic import EmbedderSettings
from penstock.core.clock import Clock, SystemClock
from penstock.core.handler import Handler
from penstock.embedders.lexical import LexicalEmbedder
from penstock.embedders.onnx import OnnxEmbedder
from penstock.embedders.provider import ProviderEmbedder


async def open_embedder(settings: EmbedderSettings, ask: Handler, clock: Clock | None = None) -> Embedder:
    """Make the embedder `settings` name.

    Args:
        settings: Which one.
        ask: Answers a request through the whole pipeline; the embedder may outlive a configuration, so this must lead
            to the one in force.
        clock: Says when such a request began; by default the machine's.

    Raises:
        ConfigError: A library or a file is missing, or the model cannot be used.
    """
    if settings.kind == "onnx":
        return await OnnxEmbedder.open(
            settings.path, settings.model, threads=settings.threads, max_tokens=settings.max_tokens
        )
    if settings.kind == "provider" and settings.model is not None:
        return ProviderEmbedder(settings.model, ask, clock or SystemClock())
    return LexicalEmbedder()
