"""What each tenant may use a minute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket

_REMEMBERED = 4096
"""Tenants kept, the least recently used forgotten first: without keys their names come from clients."""


class TenantLimits(NamedTuple):
    """A tenant's limits a minute; None is no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class TenantAccount:
    """One tenant's two buckets. Each holds a minute's worth, so that much may be used at once after a pause.

    Attributes:
        requests: None without a limit.
        tokens: None without a limit.
    """

    __slots__ = ("requests", "tokens")

    def __init__(self, limits: TenantLimits) -> None:
        self.requests = _bucket(limits.requests_per_minute)
        self.tokens = _bucket(limits.tokens_per_minute)

    def quota(self, now: float) -> Quota:
        """What is left, for ``x-ratelimit-…`` headers."""
        requests, tokens = self.requests, self.tokens
        return Quota(
            requests_limit=None if requests is None else int(requests.capacity),
            requests_remaining=None if requests is None else max(int(requests.level(now)), 0),
            requests_reset_s=None if requests is None else requests.full_in_s(now),
            tokens_limit=None if tokens is None else int(tokens.capacity),
            tokens_remaining=None if tokens is None else max(int(tokens.level(now)), 0),
            tokens_reset_s=None if tokens is None else tokens.full_in_s(now),
        )


class Tenants:
    """The accounts of all tenants.

    Attributes:
        refused: Requests that were refused since the start.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._default = TenantLimits()
        self._named: Mapping[str, TenantLimits] = {}
        self._accounts: OrderedDict[str, tuple[TenantLimits, TenantAccount]] = OrderedDict()

    def put_in_force(self, default: TenantLimits, named: Mapping[str, TenantLimits]) -> None:
        """Put limits in force; what was used under the same limits before counts on."""
        self._default = default
        self._named = named

    def account(self, tenant: str) -> TenantAccount | None:
        """Return the account of `tenant`; None if it has no limits."""
        limits = self._named.get(tenant, self._default)
        known = self._accounts.get(tenant)
        if known is not None and known[0] is limits:
            self._accounts.move_to_end(tenant)
            return known[1]
        if limits == TenantLimits():
            return None
        account = known[1] if known is not None and known[0] == limits else TenantAccount(limits)
        self._accounts[tenant] = (limits, account)
        if len(self._accounts) > _REMEMBERED:
            self._accounts.popitem(last=False)
        return account


def _bucket(per_minute: int | None) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute)
