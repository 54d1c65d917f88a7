"""What each tenant may use a minute."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, final

from penstock.core.quota import Quota
from penstock.limiting.bucket import Bucket, Charged, charge_all, charge_each, give_back, look_at_all, look_at_each
from penstock.limiting.shared_bucket import SharedBucket
from penstock.shared_memory.table import Table, digest

_UNLIMITED = (None, None, None)
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
"""Of nobody who is limited."""


@final
class Lacking(NamedTuple):
    """Why nothing was taken.

    Attributes:
        quota: What is left now: of each limit, where least is left.
        wait_s: Seconds until it could be granted, if nobody else takes any.
        bucket: The one for which that is longest.
    """

    quota: Quota
    wait_s: float
    bucket: Bucket


_Charge = Callable[[Sequence[Bucket], float, float], Charged]
_Look = Callable[[Sequence[Bucket], float], Charged]
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

    def share(self, table: Table) -> None:
        """Count in `table`, with other processes; to be called before anything else."""
        self._table = table

    def group(self, tenant: str, key_id: str) -> Group:
        """Return all buckets that a request is charged to; `NOBODY` when there are none."""
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
        if group == NOBODY:
            group = NOBODY
        if len(self._groups) >= _REMEMBERED:
            self._groups.clear()
        self._groups[tenant, key_id] = group
        return group

    def take(self, group: Group, tokens: float | None, now: float) -> Quota | Lacking:
        """Charge a request and so many tokens; None charges no tokens.

        Returns:
            What is left then: of each limit, where least is left. `Lacking` with nothing charged if there is not
            enough.
        """
        if self._table is None:
            return _take(group, tokens, now, charge_all, look_at_all)
        with self._table:
            return _take(group, tokens, now, charge_each, look_at_each)

    def missing(self, group: Group, tokens: float, now: float) -> Lacking | None:
        """Say why `take` would not give so many tokens; None if it would."""
        if self._table is None:
            return _missing(group, tokens, now)
        with self._table:
            return _missing(group, tokens, now)

    def settle(self, buckets: Sequence[Bucket], amount: float, now: Callable[[], float]) -> None:
        """Charge `amount` to all of `buckets` whatever they have; give back when it is negative.

        `now` is called when the time matters.
        """
        if self._table is not None:
            with self._table:
                charge_each(buckets, amount, now())
        elif amount <= 0.0:
            give_back(buckets, -amount)
        else:
            charge_all(buckets, amount, now())

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


def _take(group: Group, tokens: float | None, now: float, charge: _Charge, look: _Look) -> Quota | Lacking:
    requests, used = group
    request = charge(requests, 1.0, now)
    token = look(used, now) if tokens is None else charge(used, tokens, now)
    if request[1] < 0.0 or (token[1] < 0.0 and tokens is not None):
        charge(requests, -1.0, now)
        if tokens is not None:
            charge(used, -tokens, now)
        refused = _refused(group, tokens, now)
        if refused is not None:
            return refused
        charge(requests, 1.0, now)  # so little is forgiven
        if tokens is not None:
            charge(used, tokens, now)
    return _quota(request, token)


def _refused(group: Group, tokens: float | None, now: float) -> Lacking | None:
    amount, lacking = 1.0, _lacking(group.requests, 1.0, now)
    if lacking is None and tokens is not None:
        amount, lacking = tokens, _lacking(group.tokens, tokens, now)
    return None if lacking is None else Lacking(quota_of(group, now), lacking.wait_s(amount, now), lacking)


def _missing(group: Group, tokens: float, now: float) -> Lacking | None:
    lacking = _lacking(group.tokens, tokens, now)
    return None if lacking is None else Lacking(quota_of(group, now), lacking.wait_s(tokens, now), lacking)


def _lacking(buckets: Sequence[Bucket], amount: float, now: float) -> Bucket | None:
    """Return the bucket that `amount` must be waited for longest; None when it is in all of them."""
    found: Bucket | None = None
    for bucket in buckets:
        if not bucket.has(amount, bucket.level(now)) and (
            found is None or bucket.wait_s(amount, now) > found.wait_s(amount, now)
        ):
            found = bucket
    return found


def quota_of(group: Group, now: float) -> Quota:
    """Return what is left of several accounts that are charged together: of each limit, where least is left."""
    requests, tokens = group
    return _quota(look_at_each(requests, now), look_at_each(tokens, now))


def _quota(requests: Charged, tokens: Charged) -> Quota:
    request, level = requests
    limit, left, reset_s = _UNLIMITED if request is None else request.left(level)
    token, level = tokens
    tokens_limit, tokens_left, tokens_reset_s = _UNLIMITED if token is None else token.left(level)
    return Quota(limit, left, reset_s, tokens_limit, tokens_left, tokens_reset_s)


def _over(tenant: str) -> tuple[str, ...]:
    organisation, slash, _ = tenant.partition("/")
    return (tenant, organisation) if slash else (tenant,)
