"""What limits promise: providers are never given more, tenants never get more, and nobody is sent away for good."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from penstock.config.providers import ProviderLimitSettings
from penstock.config.settings import Settings, TenantLimitSettings
from penstock.testing.simulation.asked import OFF
from penstock.testing.simulation.provider import Sent
from penstock.testing.simulation.settings import TENANTS
from penstock.testing.simulation.world import World

_MINUTE_S = 60.0
_LIMITED = "rate_limit_exceeded"


def bounds(world: World) -> Iterator[str]:
    """Say which limit was exceeded, and who was refused without a word about when to come back."""
    for name in world.providers:
        most = _loosest([_of_provider(settings, name) for settings in world.in_force()])
        journal = sorted((sent for sent in world.journal if sent.provider == name), key=lambda sent: sent.started)
        yield from _at_provider(name, most, journal)
    for tenant in TENANTS:
        yield from _of_tenant(world, tenant)
    for asked in world.asked:
        if asked.result == _LIMITED and not (asked.retry_after and asked.retry_after > 0):
            yield f"{asked.request.call.id} was refused without Retry-After: {asked.retry_after}"


def _at_provider(name: str, most: ProviderLimitSettings, journal: Sequence[Sent]) -> Iterator[str]:
    if most.max_concurrency is not None:
        yield from (
            f"{name} had {sent.beside} requests at once, of {most.max_concurrency}, with {sent.serial} of {sent.call}"
            for sent in journal
            if sent.beside > most.max_concurrency
        )
    minute: deque[Sent] = deque()
    for sent in journal:
        minute.append(sent)
        while minute[0].started <= sent.started - _MINUTE_S:
            minute.popleft()
        if most.requests_per_minute is not None and len(minute) > most.requests_per_minute:
            yield f"{name} got {len(minute)} requests in a minute, of {most.requests_per_minute}, with {sent.serial}"
        tokens = sum(each.tokens for each in minute)
        if most.tokens_per_minute is not None and tokens > most.tokens_per_minute:
            yield f"{name} got {tokens} tokens in a minute, of {most.tokens_per_minute}, with {sent.serial}"


def _of_tenant(world: World, tenant: str) -> Iterator[str]:
    """Requests of a tenant never exceed what a bucket that fills in a minute lets through."""
    now = _for_tenant(world.settings, tenant)
    most = now.requests_per_minute
    if most is None or now != _for_tenant(world.plan.settings, tenant):  # who gets other limits begins anew
        return
    level, at = float(most), 0.0
    for asked in sorted(world.asked, key=lambda asked: asked.began):
        if asked.request.tenant != tenant or asked.over_limit or asked.result == OFF:
            continue
        if asked.result in ("cancelled", "left") and asked.request.call.quota is None:  # before it was let in
            continue
        level = min(level + (asked.began - at) * most / _MINUTE_S, most) - 1
        at = asked.began
        if level < -0.001:
            yield f"{tenant} got more than its {most} requests a minute with {asked.request.call.id}"


def _loosest(limits: Sequence[ProviderLimitSettings]) -> ProviderLimitSettings:
    def loosest(field: str) -> int | None:
        values: list[int | None] = [getattr(each, field) for each in limits]
        known = [value for value in values if value is not None]
        return max(known) if len(known) == len(values) else None

    return ProviderLimitSettings(
        requests_per_minute=loosest("requests_per_minute"),
        tokens_per_minute=loosest("tokens_per_minute"),
        max_concurrency=loosest("max_concurrency"),
    )


def _of_provider(settings: Settings, name: str) -> ProviderLimitSettings:
    return next(provider.limits for provider in settings.providers if provider.name == name)


def _for_tenant(settings: Settings, tenant: str) -> TenantLimitSettings:
    return settings.limits.tenants.get(tenant, settings.limits.per_tenant)
