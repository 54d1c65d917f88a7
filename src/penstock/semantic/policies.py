"""What was learnt of matching, for each tenant and model: tenants never teach each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping

import msgspec

from penstock.abc import QuestionStore
from penstock.matching.policy import Policy

_OFTEN = 16
"""Labels after which what was learnt is kept."""
_MOST = 1000
"""Policies in memory, some kilobytes each: clients may make up names of models. The others are in the store."""

_log = logging.getLogger("penstock.cache")


class Policies:
    """All start from what was fitted on public data.

    Args:
        store: Keeps what was learnt.
        embedder: What the vectors are of; what was learnt of others does not hold.
        max_error: Wrong ÷ served at most.
        audit: Share of what is served that is checked.
    """

    def __init__(self, store: QuestionStore, embedder: str, max_error: float, audit: float) -> None:
        self._store = store
        self._embedder = embedder
        self._max_error = max_error
        self._audit = audit
        self._policies: dict[tuple[str, str], Policy] = {}
        self._stored: dict[str, bytes] = {}
        self._news: dict[tuple[str, str], int] = {}
        self._kept: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[tuple[tuple[str, str], Policy]]:
        return iter(self._policies.items())

    async def start(self) -> Mapping[str, bytes]:
        """Read what was learnt in earlier runs, and return all that is kept beside it.

        Raises:
            StoreError: It could not be read.
        """
        self._stored = dict(await self._store.learnt())
        return self._stored

    def configure(self, max_error: float, audit: float) -> None:
        """Keep another promise from now on."""
        self._max_error, self._audit = max_error, audit
        for policy in self._policies.values():
            policy.configure(max_error, audit)

    def of(self, tenant: str, model: str) -> Policy:
        """Return what decides for a tenant's questions to a model."""
        whose = (tenant, model)
        policy = self._policies.pop(whose, None) or self._make(tenant, model)
        self._policies[whose] = policy
        if len(self._policies) > _MOST:
            self._put_away(next(iter(self._policies)))
        return policy

    def learnt(self, tenant: str, model: str) -> None:
        """There was a label."""
        self._news[tenant, model] = self._news.get((tenant, model), 0) + 1
        if self._news[tenant, model] >= _OFTEN:
            self._keep(tenant, model)

    def save(self) -> None:
        """Keep all that is new."""
        for tenant, model in list(self._news):
            self._keep(tenant, model)

    def known(self) -> list[tuple[str, str]]:
        """Return the tenants and models that something was learnt of, in earlier runs too."""
        stored = []
        for name, state in self._stored.items():
            try:
                embedder, tenant, model = msgspec.json.decode(name, type=tuple[str, str, str])
            except msgspec.DecodeError:  # what else is kept there
                continue
            if embedder == self._embedder and state:
                stored.append((tenant, model))
        return sorted({*stored, *self._policies})

    def reset(self, where: Callable[[str, str], bool]) -> int:
        """Go back to what was shipped for the tenants and models of which `where` says so; return how many."""
        gone = [each for each in self.known() if where(*each)]
        for each in gone:
            self._policies.pop(each, None)
            self._news.pop(each, None)
            self._stored.pop(self._name(*each), None)
            self._store.keep(self._name(*each), b"")
        return len(gone)

    def _put_away(self, whose: tuple[str, str]) -> None:
        """Keep one in the store alone; one that has learnt nothing is made anew."""
        if whose in self._news:
            self._keep(*whose)
        state = self._policies.pop(whose)
        if whose in self._kept:
            self._stored[self._name(*whose)] = state.dump()

    def _keep(self, tenant: str, model: str) -> None:
        del self._news[tenant, model]
        self._kept.add((tenant, model))
        self._store.keep(self._name(tenant, model), self._policies[tenant, model].dump())

    def _make(self, tenant: str, model: str) -> Policy:
        state = self._stored.pop(self._name(tenant, model), b"")
        if state:
            try:
                policy = Policy.load(state, delta=self._max_error, audit=self._audit)
            except ValueError as error:
                _log.warning("what was learnt for %s is not used, it cannot be read: %s", model, error)
            else:
                self._kept.add((tenant, model))
                return policy
        return Policy.shipped(self._embedder, delta=self._max_error, audit=self._audit)

    def _name(self, tenant: str, model: str) -> str:
        return msgspec.json.encode([self._embedder, tenant, model]).decode()
