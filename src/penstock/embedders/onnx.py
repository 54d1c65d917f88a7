"""Embeds texts with a model on this machine, in a thread beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from penstock.core.errors import PenstockError
from penstock.core.request import Request
from penstock.embedders.graph import Graph
from penstock.embedders.hub import download

_WAITING = 256
"""Texts that may wait for the thread; a question that would stand behind them is better sent than matched."""


class OnnxEmbedder:
    """Runs texts through a model, one after the other; those of a caller who has gone are left out.

    Vectors are dense, and the same for the same text whatever else is embedded at the time.
    """

    def __init__(self, graph: Graph) -> None:
        self.name = graph.name
        self.dimensions = graph.dimensions
        self._graph = graph
        self._closed = False
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, "penstock-embedder")

    @classmethod
    async def open(
        cls, path: str | None = None, model: str | None = None, *, threads: int = 1, max_tokens: int = 256
    ) -> Self:
        """Load a model without holding up the event loop.

        Args:
            path: A directory with its graph and ``tokenizer.json``.
            model: Without `path`, its name on the hub; it is downloaded once.
            threads: Processors it may keep busy.
            max_tokens: Of longer texts the rest is not read.

        Raises:
            ConfigError: A library or a file is missing, or the graph does not turn texts into vectors.
        """

        def load() -> Graph:
            place = Path(path).expanduser() if path is not None else download(model or "")
            return Graph(place, model or "", threads=threads, max_tokens=max_tokens)

        return cls(await asyncio.to_thread(load))

    async def embed(self, texts: Sequence[str], behalf: Request | None = None) -> Sequence[bytes]:
        """Return the vector of each text, empty for one without content; `behalf` has nothing to pay.

        Raises:
            PenstockError: ``embedder_busy``: too many wait already; ``embedder_closed``; ``embedder_failed``.
        """
        self._check()
        if self._waiting >= _WAITING:
            raise PenstockError(f"{self._waiting} texts wait to be embedded", code="embedder_busy")
        self._waiting += len(texts)
        try:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(self._thread, self._embed, text) for text in texts))
        finally:
            self._waiting -= len(texts)

    async def aclose(self) -> None:
        """End the thread; what waits for it fails, and what it is at is finished."""
        self._closed = True
        await asyncio.to_thread(self._thread.shutdown)

    def _check(self) -> None:
        if self._closed:
            raise PenstockError("the embedder is closed", code="embedder_closed")

    def _embed(self, text: str) -> bytes:
        self._check()
        try:
            return self._graph.embed(text)
        except Exception as error:  # the libraries' errors have no base but this
            raise PenstockError(f"a text could not be embedded: {error}", code="embedder_failed") from error
