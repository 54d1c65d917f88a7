"""Who asks, and what that one may do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from functools import lru_cache

import msgspec

_REMEMBERED = 512
"""Answers kept for each list of patterns; model names come from clients."""


class Role(IntEnum):
    """What a key may do; each role may do what those before it may."""

    VIEWER = 1
    """Read what its own tenant used."""
    USER = 2
    """Call models."""
    ADMIN = 3
    """Manage keys and teams of its organisation."""
    ROOT = 4
    """Everything; whoever configures the gateway. No key in the store has it."""

    @property
    def text(self) -> str:
        """The name in configurations and APIs, e.g. ``viewer``."""
        return self.name.lower()


GRANTABLE = {role.text: role for role in (Role.VIEWER, Role.USER, Role.ADMIN)}
"""Roles a key in the store may have, by name."""


class ModelRule:
    """Which models may be asked for: names, in which ``*`` stands for any text.

    Attributes:
        patterns: As they were given.
    """

    __slots__ = ("_compiled", "allows", "patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._compiled = [_compile(pattern) for pattern in self.patterns]
        self.allows = lru_cache(_REMEMBERED)(self._allows)

    def _allows(self, model: str) -> bool:
        return any(pattern.fullmatch(model) for pattern in self._compiled)

    def contains(self, other: Sequence[str]) -> bool:
        """Whether each of the other patterns allows nothing that one of these does not.

        A pattern read as a name has a ``*`` only where it stands for any text, which only a ``*`` matches; so one that
        matches it matches all that it matches.
        """
        return all(map(self._allows, other))


class Principal(msgspec.Struct, frozen=True, gc=False):
    """Whose request it is, by which key, and what that key may do.

    Attributes:
        tenant: ``organisation/team``, or a name without a team; nothing is shared between tenants.
        key_id: Which key, as in the store; empty for one of the configuration, and without keys.
        role: What it may do.
        models: Which models it may ask for, of each rule at least one pattern; none is no restriction.
        requests_per_minute: Requests it may make; None is no limit of its own.
        tokens_per_minute: Tokens it may use; None is no limit of its own.
        expires_at: When it ends, seconds since the epoch; None is never.
    """

    tenant: str
    key_id: str = ""
    role: Role = Role.USER
    models: tuple[ModelRule, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    expires_at: float | None = None

    @property
    def organisation(self) -> str:
        """The tenant without its team."""
        return organisation_of(self.tenant)

    @property
    def name(self) -> str:
        """How logs and records call it: the key's id, or ``root``, or the tenant of a configured key."""
        return self.key_id or ("root" if self.role is Role.ROOT else self.tenant)

    def covers(self, tenant: str) -> bool:
        """Whether what belongs to `tenant` is this one's to see: its own, an admin's organisation, to root all."""
        if self.role is Role.ROOT:
            return True
        if self.role is Role.ADMIN:
            return organisation_of(tenant) == self.organisation
        return tenant == self.tenant

    def may_ask(self, model: str) -> bool:
        """Whether it may ask for `model`, by the name the client uses."""
        return all(rule.allows(model) for rule in self.models)


def organisation_of(tenant: str) -> str:
    """Return the part of a tenant's name before the first slash."""
    return tenant.partition("/")[0]


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
