"""Which model names clients may use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from penstock.abc import ModelInfo, Provider
from penstock.core.errors import PenstockError, ProviderError
from penstock.core.prompt import PROMPT_MODEL
from penstock.prompts.collection import PromptSet
from penstock.routing.table import RouteTable

_PATIENCE_S = 3.0


async def list_models(routes: RouteTable, providers: Mapping[str, Provider], prompts: PromptSet) -> list[ModelInfo]:
    """List the configured names, then prompts that name a model, then what providers that answer in time offer."""
    named = [PROMPT_MODEL + name for name, prompt in prompts.prompts.items() if prompt.model]
    listed = {name: ModelInfo(id=name, owned_by="penstock") for name in (*routes.names, *named)}
    offers = await asyncio.gather(*(_offer(provider) for provider in providers.values()))
    for provider, offer in zip(providers, offers, strict=True):
        for info in offer:
            name = info.id if _reaches(routes, info.id, provider) else f"{provider}/{info.id}"
            listed.setdefault(name, msgspec.structs.replace(info, id=name, owned_by=provider))
    return list(listed.values())


async def _offer(provider: Provider) -> Sequence[ModelInfo]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await provider.models()
    except (ProviderError, TimeoutError):
        return ()


def _reaches(routes: RouteTable, model: str, provider: str) -> bool:
    """Whether the bare name leads to this provider's model."""
    try:
        targets = routes.resolve(model).targets
    except PenstockError:
        return False
    return any(target.provider == provider and target.model == model for target in targets)
