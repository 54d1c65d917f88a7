"""What each tenant may use a minute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket
from penstock.limiting.shared_bucket import SharedBucket
from penstock.shared_memory.table import Table, digest

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

    def __init__(self, limits: TenantLimits, bucket: Callable[[str, int], Bucket]) -> None:
        """`bucket` makes what counts one of the two, by its name and limit."""
        requests, tokens = limits
        self.requests = None if requests is None else bucket("requests", requests)
        self.tokens = None if tokens is None else bucket("tokens", tokens)

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


def tightest(accounts: Sequence[TenantAccount], now: float) -> Quota:
    """Return what is left of several accounts that are charged together: of each limit, where least is left."""
    quotas = [account.quota(now) for account in accounts]
    if len(quotas) == 1:
        return quotas[0]
    requests = [quota for quota in quotas if quota.requests_remaining is not None]
    tokens = [quota for quota in quotas if quota.tokens_remaining is not None]
    by_requests = min(requests, key=lambda quota: quota.requests_remaining or 0, default=Quota())
    by_tokens = min(tokens, key=lambda quota: quota.tokens_remaining or 0, default=Quota())
    return Quota(
        requests_limit=by_requests.requests_limit,
        requests_remaining=by_requests.requests_remaining,
        requests_reset_s=by_requests.requests_reset_s,
        tokens_limit=by_tokens.tokens_limit,
        tokens_remaining=by_tokens.tokens_remaining,
        tokens_reset_s=by_tokens.tokens_reset_s,
    )


_Owned = dict[str, tuple[TenantLimits, TenantAccount]]


class Tenants:
    """The accounts of all tenants by the settings, and those that teams, organisations and keys have of their own.

    Attributes:
        refused: Requests that were refused since the start.
    """

    def __init__(self) -> None:
        self.refused = 0
        self._keys: _Owned = {}
        self._teams: _Owned = {}
        self._default = TenantLimits()
        self._named: Mapping[str, TenantLimits] = {}
        self._accounts: OrderedDict[str, tuple[TenantLimits, TenantAccount]] = OrderedDict()
        self._table: Table | None = None
        self._alone: AbstractContextManager[None] = nullcontext()

    def share(self, table: Table) -> None:
        """Count in `table`, with other processes; to be called before anything else."""
        self._table = self._alone = table

    def take(self, now: float, *demands: tuple[Sequence[Bucket], float]) -> tuple[float, Bucket | None]:
        """Charge each amount to its buckets, or nothing at all if one has not so much.

        Returns:
            0 and None when it was charged; otherwise how long must be waited for the first amount that is not there,
            and for which of its buckets longest.
        """
        with self._alone:
            for buckets, amount in demands:
                longest = longest_wait(buckets, amount, now)
                if longest[1] is not None:
                    return longest
            for buckets, amount in demands:
                for bucket in buckets:
                    bucket.charge(amount, now)
        return 0.0, None

    def settle(self, buckets: Sequence[Bucket], amount: float, now: float) -> None:
        """Charge `amount` to all of `buckets` whatever they have; give back when it is negative."""
        with self._alone:
            for bucket in buckets:
                bucket.charge(amount, now)

    def put_in_force(self, default: TenantLimits, named: Mapping[str, TenantLimits]) -> None:
        """Put limits in force; what was used under the same limits before counts on."""
        self._default = default
        self._named = named

    @property
    def owned(self) -> bool:
        """Whether a key, a team or an organisation has limits of its own."""
        return bool(self._keys or self._teams)

    def own(self, keys: Mapping[str, TenantLimits], teams: Mapping[str, TenantLimits]) -> None:
        """Put limits of single keys, by id, and of teams and organisations, by tenant, in force; as `put_in_force`."""
        self._keys = self._kept("key", self._keys, keys)
        self._teams = self._kept("team", self._teams, teams)

    def accounts(self, tenant: str, key_id: str) -> list[TenantAccount]:
        """Return all accounts that a request is charged to."""
        account = self.account(tenant)
        found = [] if account is None else [account]
        if key_id in self._keys:
            found.append(self._keys[key_id][1])
        if self._teams:
            found += [self._teams[name][1] for name in _over(tenant) if name in self._teams]
        return found

    def account(self, tenant: str) -> TenantAccount | None:
        """Return the account of `tenant` by the settings; None if they do not limit it."""
        limits = self._named.get(tenant, self._default)
        known = self._accounts.get(tenant)
        if known is not None and known[0] is limits:
            self._accounts.move_to_end(tenant)
            return known[1]
        if limits == TenantLimits():
            return None
        account = known[1] if known is not None and known[0] == limits else self._open("tenant", tenant, limits)
        self._accounts[tenant] = (limits, account)
        if len(self._accounts) > _REMEMBERED:
            self._accounts.popitem(last=False)
        return account

    def _open(self, kind: str, name: str, limits: TenantLimits) -> TenantAccount:
        def bucket(what: str, per_minute: int) -> Bucket:
            if self._table is None:
                return Bucket(per_minute)
            # With the limit in its name, so that what is used under other limits does not count.
            return SharedBucket(per_minute, self._table, digest(kind, name, what, str(per_minute)))

        return TenantAccount(limits, bucket)

    def _kept(self, kind: str, accounts: _Owned, limits: Mapping[str, TenantLimits]) -> _Owned:
        return {
            name: accounts[name]
            if name in accounts and accounts[name][0] == each
            else (each, self._open(kind, name, each))
            for name, each in limits.items()
            if each != TenantLimits()
        }


def longest_wait(buckets: Sequence[Bucket], amount: float, now: float) -> tuple[float, Bucket | None]:
    """Return how long must be waited for `amount` from all buckets, and for which of them longest."""
    longest: tuple[float, Bucket | None] = (0.0, None)
    for bucket in buckets:
        wait = bucket.wait_s(amount, now)
        if wait > longest[0]:
            longest = (wait, bucket)
    return longest


def _over(tenant: str) -> tuple[str, ...]:
    organisation, slash, _ = tenant.partition("/")
    return (tenant, organisation) if slash else (tenant,)
