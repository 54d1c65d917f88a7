"""What one key may give to another: nothing it has not got itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from penstock.abc import KeyRecord
from penstock.access.principal import GRANTABLE, Principal, Role
from penstock.core.errors import InvalidRequest

_LIMITS = ("requests_per_minute", "tokens_per_minute")


class Excess(NamedTuple):
    """What a key would have that its grantor has not."""

    field: str
    reason: str


def inherited(by: Principal, key: KeyRecord) -> KeyRecord:
    """Return `key` with the grantor's own restrictions where it names none."""
    own: dict[str, object] = {name: getattr(by, name) for name in (*_LIMITS, "expires_at")}
    if by.models:
        own["models"] = list(min(by.models, key=lambda rule: _breadth(by, rule.patterns)).patterns)
    return msgspec.structs.replace(
        key, **{name: value for name, value in own.items() if getattr(key, name) is None and value is not None}
    )


def excess(by: Principal, key: KeyRecord) -> Excess | None:
    """Return what of `key` is more than `by` has; None when nothing is."""
    if GRANTABLE[key.role] > by.role:
        return Excess("role", f"the role '{key.role}' is more than its own '{by.role.text}'")
    if by.models and (key.models is None or _breadth(by, key.models)):
        return Excess("models", "they are more models than it may use itself")
    for name in _LIMITS:
        mine, its = getattr(by, name), getattr(key, name)
        if mine is not None and (its is None or its > mine):
            return Excess(name, f"it is more than its own {mine}")
    if by.expires_at is not None and (key.expires_at is None or key.expires_at > by.expires_at):
        return Excess("expires_at", "it is later than its own end")
    return None


def check_grant(by: Principal, key: KeyRecord) -> None:
    """Refuse what `by` may not give.

    Raises:
        InvalidRequest: 403, ``grant_exceeded``; `param` says what.
    """
    found = excess(by, key)
    if found is not None:
        raise InvalidRequest(
            f"This key cannot give that: {found.reason}.", param=found.field, code="grant_exceeded", status_code=403
        )


def check_team(by: Principal, tenant: str) -> None:
    """Refuse changes to what restricts `by` itself, and to organisations.

    Raises:
        InvalidRequest: 403, ``grant_exceeded``.
    """
    if by.role is Role.ROOT:
        return
    if not by.covers(tenant) or "/" not in tenant:
        reason = "teams of its own organisation are all it may make and change"
    elif tenant == by.tenant:
        reason = "it cannot change what restricts itself"
    else:
        return
    raise InvalidRequest(f"This key cannot do that: {reason}.", param="tenant", code="grant_exceeded", status_code=403)


def _breadth(by: Principal, models: Sequence[str]) -> int:
    """Count the rules of `by` that do not contain `models`."""
    return sum(not rule.contains(models) for rule in by.models)
