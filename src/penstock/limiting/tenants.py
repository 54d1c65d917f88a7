"""What each tenant may use a minute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import NamedTuple

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket
from penstock.limiting.shared_bucket import SharedBucket
from penstock.shared_memory.table import Table, digest

_UNLIMITED = (None, None, None)
_FULL = float("inf")
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
        requests = () if self.requests is None else (self.requests,)
        tokens = () if self.tokens is None else (self.tokens,)
        return quota_of(Group(requests, tokens), now)


class Group(NamedTuple):
    """All buckets that a request is charged to: of its tenant, its key, its team and its organisation."""

    requests: tuple[Bucket, ...]
    tokens: tuple[Bucket, ...]


NOBODY = Group((), ())
_taken = tuple.__new__
"""Makes a named tuple of a tuple; its own constructor takes several times as long."""


class Taken(NamedTuple):
    """What became of a wish.

    Attributes:
        quota: What is left now: of each limit, where least is left.
        wait_s: Seconds until it could be granted, if nobody else takes any; 0 when it was.
        lacking: The bucket for which that is longest; None when it was granted.
    """

    quota: Quota
    wait_s: float = 0.0
    lacking: Bucket | None = None


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
        self._groups: dict[tuple[str, str], Group] = {}
        self._table: Table | None = None
        self._alone: AbstractContextManager[object] = Lock()  # which nobody waits for; a null context costs more

    def share(self, table: Table) -> None:
        """Count in `table`, with other processes; to be called before anything else."""
        self._table = self._alone = table

    def group(self, tenant: str, key_id: str) -> Group:
        """Return all buckets that a request is charged to."""
        group = self._groups.get((tenant, key_id))
        if group is not None:
            if tenant in self._accounts:
                self._accounts.move_to_end(tenant)
            return group
        accounts = self.accounts(tenant, key_id)
        group = Group(
            tuple(account.requests for account in accounts if account.requests is not None),
            tuple(account.tokens for account in accounts if account.tokens is not None),
        )
        if len(self._groups) >= _REMEMBERED:
            self._groups.clear()
        self._groups[tenant, key_id] = group
        return group

    def take(self, group: Group, tokens: float | None, now: float) -> Taken:
        """Charge a request and so many tokens, or nothing at all if there is not enough; None charges no tokens."""
        with self._alone:
            return _take(group, tokens, now)

    def missing(self, group: Group, tokens: float, now: float) -> Taken:
        """Say what `take` would say of so many tokens."""
        with self._alone:
            lacking = _lacking(group.tokens, [bucket.level(now) for bucket in group.tokens], tokens, now)
            return Taken(quota_of(group, now), 0.0 if lacking is None else lacking.wait_s(tokens, now), lacking)

    def settle(self, buckets: Sequence[Bucket], amount: float, now: float) -> None:
        """Charge `amount` to all of `buckets` whatever they have; give back when it is negative."""
        with self._alone:
            for bucket in buckets:
                bucket.charge(amount, now)

    def put_in_force(self, default: TenantLimits, named: Mapping[str, TenantLimits]) -> None:
        """Put limits in force; what was used under the same limits before counts on."""
        self._groups.clear()
        self._default = default
        self._named = named

    @property
    def owned(self) -> bool:
        """Whether a key, a team or an organisation has limits of its own."""
        return bool(self._keys or self._teams)

    def own(self, keys: Mapping[str, TenantLimits], teams: Mapping[str, TenantLimits]) -> None:
        """Put limits of single keys, by id, and of teams and organisations, by tenant, in force; as `put_in_force`."""
        self._groups.clear()
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
            self._groups.clear()
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


def _take(group: Group, tokens: float | None, now: float) -> Taken:
    requests, used = group
    request = _charge(requests, 1.0, now)
    token = _charge(used, tokens, now)
    if request[1] < 0.0 or (token[1] < 0.0 and tokens is not None):
        _charge(requests, -1.0, now)
        _charge(used, None if tokens is None else -tokens, now)
        refused = _refused(group, tokens, now)
        if refused is not None:
            return refused
        request, token = _charge(requests, 1.0, now), _charge(used, tokens, now)
    return _taken(Taken, (Quota(*_left(*request), *_left(*token)), 0.0, None))


def _charge(buckets: Sequence[Bucket], amount: float | None, now: float) -> tuple[Bucket | None, float]:
    """Take `amount` from all of `buckets`, or nothing if it is None; return one where least is left, and how much."""
    tightest, least = None, _FULL
    for bucket in buckets:
        level = bucket.level(now) if amount is None else bucket.charge(amount, now)
        if level < least:
            tightest, least = bucket, level
    return tightest, least


def _refused(group: Group, tokens: float | None, now: float) -> Taken | None:
    """Return what is said of a request for which a bucket has too little; None when that much is forgiven."""
    requests, used = group
    amount, lacking = 1.0, _lacking(requests, [bucket.level(now) for bucket in requests], 1.0, now)
    if lacking is None and tokens is not None:
        amount, lacking = tokens, _lacking(used, [bucket.level(now) for bucket in used], tokens, now)
    return None if lacking is None else Taken(quota_of(group, now), lacking.wait_s(amount, now), lacking)


def _lacking(buckets: Sequence[Bucket], levels: Sequence[float], amount: float, now: float) -> Bucket | None:
    """Return the bucket that `amount` must be waited for longest; None when it is in all of them."""
    found: Bucket | None = None
    for bucket, level in zip(buckets, levels, strict=True):
        if not bucket.has(amount, level) and (found is None or bucket.wait_s(amount, now) > found.wait_s(amount, now)):
            found = bucket
    return found


def quota_of(group: Group, now: float) -> Quota:
    """Return what is left of several accounts that are charged together: of each limit, where least is left."""
    requests, tokens = group
    return Quota(*_left(*_charge(requests, None, now)), *_left(*_charge(tokens, None, now)))


def _left(bucket: Bucket | None, level: float) -> tuple[int | None, int | None, float | None]:
    """Return the limit, what is left, and seconds until all is there again."""
    if bucket is None:
        return _UNLIMITED
    return int(bucket.capacity), int(level) if level > 0.0 else 0, bucket.until_full_s(level)


def _over(tenant: str) -> tuple[str, ...]:
    organisation, slash, _ = tenant.partition("/")
    return (tenant, organisation) if slash else (tenant,)
