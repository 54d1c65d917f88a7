"""Classifying with results that instances share: looked for before models are asked, and kept afterwards."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from decimal import Decimal
from hashlib import sha256

import msgspec

from lead_engine.prompts import CLASSIFY, PREFILTER
from lead_engine.settings import Settings
from lead_engine.shared_results import SharedResults
from lead_engine.stages import CATEGORIES, DROPPED, FIELDS, NOISE
from penstock import AsyncClient, Classification, Classifier, PenstockError
from penstock.classifying.results import Partial, Step

_VERSION = 1
"""Raised whenever the meaning of keys or results changes."""
_GROUPS = ("Models", "Context", "Stages")
"""Settings that decide a result, but for these:"""
_UNDECIDING = frozenset(
    {
        "openai_api_key", "dossier_temperature", "dossier_max_tokens", "request_timeout_seconds", "max_retries",
        "model_concurrency_limit", "warm_models_on_start", "simulated_small_seconds", "simulated_large_seconds",
        "simulated_tokens_per_second",
    }
)  # fmt: skip
_HARMLESS = frozenset({"prompt-built-in"})
"""Not the best possible answer, but under a key of its own, since keys have what prompts say."""

_encode = msgspec.json.Encoder(order="deterministic").encode
_replace = msgspec.structs.replace


class SharedClassifier:
    """A `Classifier` whose finished results other instances have too, as far as all that decides them is the same."""

    def __init__(self, inner: Classifier, client: AsyncClient, settings: Settings, results: SharedResults) -> None:
        self._inner = inner
        self._client = client
        self._results = results
        self._prompts = {CLASSIFY: settings.prompt_version} | ({PREFILTER: None} if settings.enable_multi_stage else {})
        deciding = {
            name
            for name, field in Settings.model_fields.items()
            if field.title in _GROUPS and name not in _UNDECIDING
        }  # fmt: skip
        chosen = settings.model_dump(mode="json", include=deciding)
        self._terms = _encode((_VERSION, chosen, CATEGORIES, DROPPED, FIELDS, NOISE))

    async def classify(self, text: str) -> Classification:
        """As `Classifier.classify`."""
        began, key = time.perf_counter(), self._key(text)
        (known,) = await self._results.get([key])
        if known is not None:
            return _replace(known, seconds=time.perf_counter() - began)
        found = await self._inner.classify(text)
        await self._keep([text], [key], [found])
        return found

    async def stream(self, text: str) -> AsyncGenerator[Partial | Classification, None]:
        """As `Classifier.stream`; what is known comes at once, without parts."""
        began, key = time.perf_counter(), self._key(text)
        (known,) = await self._results.get([key])
        if known is not None:
            yield _replace(known, seconds=time.perf_counter() - began)
            return
        async with aclosing(self._inner.stream(text)) as pieces:
            async for each in pieces:
                if isinstance(each, Classification):
                    await self._keep([text], [key], [each])
                yield each

    async def classify_many(
        self, texts: Sequence[str], *, concurrency: int, timeout_s: float | None = None,
        budget_usd: Decimal | None = None,
    ) -> list[Classification]:  # fmt: skip
        """As `Classifier.classify_many`; what is known neither takes time nor costs anything."""
        began, keys = time.perf_counter(), [self._key(text) for text in texts]
        known = await self._results.get(keys)
        seconds = time.perf_counter() - began
        missing = [place for place, each in enumerate(known) if each is None]
        asked = [texts[place] for place in missing]
        found = await self._inner.classify_many(
            asked, concurrency=concurrency, timeout_s=timeout_s, budget_usd=budget_usd
        )
        await self._keep(asked, [keys[place] for place in missing], found)
        fresh = iter(found)
        return [next(fresh) if each is None else _replace(each, seconds=seconds) for each in known]

    def _key(self, text: str) -> str | None:
        """A digest of all that decides the result; None when there is no prompt to ask with."""
        variables = {"text": text, "labels": ", ".join(CATEGORIES), "form": "form"}
        try:
            said = [self._client.prompts.render(name, variables, version) for name, version in self._prompts.items()]
        except PenstockError:
            return None
        return sha256(_encode((self._terms, text, said))).hexdigest()

    async def _keep(self, texts: Sequence[str], keys: Sequence[str | None], found: Sequence[Classification]) -> None:
        """Keep what models have just said in full, unless prompts have changed meanwhile."""
        complete = {
            key: _shared(each)
            for text, key, each in zip(texts, keys, found, strict=True)
            if key is not None and _complete(each) and self._key(text) == key
        }
        await self._results.put(complete)


def _complete(found: Classification) -> bool:
    """Whether all of it is new and as good as can be; what a cache gave is older than it would seem."""
    return bool(found.error is None and found.model_calls) and not any(
        step.error or step.cached or set(step.degraded) - _HARMLESS for step in found.steps
    )


def _shared(found: Classification) -> Classification:
    """A result as others get it: from a cache, without calls and cost."""
    steps = tuple(_as_cached(step) for step in found.steps)
    return _replace(found, steps=steps)


def _as_cached(step: Step) -> Step:
    return _replace(step, model_calls=0, cached=step.model_calls > 0, cost_usd=Decimal(0))
