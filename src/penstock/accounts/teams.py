"""Making and changing teams, for those who may."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.abc import TeamRecord
from penstock.access.grants import check_team
from penstock.access.principal import Principal, organisation_of
from penstock.accounts.directory import Accounts
from penstock.accounts.terms import check_name, check_terms, invalid, whole_seconds
from penstock.core.errors import InvalidRequest
from penstock.telemetry.logs import audit

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,79})?")


class TeamTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a team is to be.

    Attributes:
        tenant: ``organisation/team``, or ``organisation`` for what holds for all its teams together.
        name: What people call it; by default as the tenant.
        models: Names and patterns of the models its keys may ask for; None is all.
        requests_per_minute: Of all its keys together; None is no limit.
        tokens_per_minute: Of all its keys together; None is no limit.
    """

    tenant: str
    name: str | None = None
    models: list[str] | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


class Teams:
    """The teams that `by` sees: those of its organisation, to root all there are."""

    def __init__(self, accounts: Accounts, by: Principal) -> None:
        self._accounts = accounts
        self._by = by

    async def list(self, organisation: str | None = None) -> Sequence[TeamRecord]:
        """Return them, oldest first; those of one organisation, or of all.

        Raises:
            StoreError: They could not be read.
        """
        await self._accounts.refresh()
        return [
            team
            for team in self._accounts.teams.values()
            if self._by.covers(team.tenant) and organisation in (None, organisation_of(team.tenant))
        ]

    async def get(self, tenant: str) -> TeamRecord:
        """Return one.

        Raises:
            InvalidRequest: There is none, or it is another organisation's (404).
        """
        await self._accounts.refresh()
        team = self._accounts.teams.get(tenant)
        if team is None or not self._by.covers(tenant):
            raise _missing(tenant)
        return team

    async def create(self, terms: TeamTerms) -> TeamRecord:
        """Make a team.

        Raises:
            InvalidRequest: Something is wrong (400), it is not the maker's to make (403), or it exists (409).
        """
        await self._accounts.refresh()
        if not _TENANT.fullmatch(terms.tenant):
            raise invalid("tenant", "organisation/team or organisation, of letters, digits, '_', '.' and '-'")
        check_team(self._by, terms.tenant)
        name = terms.tenant if terms.name is None else terms.name
        fields = {**msgspec.structs.asdict(terms), "name": name}
        team = _checked(TeamRecord(**fields, created_at=self._accounts.clock.wall()))
        if not await self._accounts.store.add_team(team):
            raise InvalidRequest(
                f"The team '{terms.tenant}' exists.", param="tenant", code="team_exists", status_code=409
            )
        await self._done("team.create", team)
        return team

    async def update(self, tenant: str, changes: Mapping[str, Any]) -> TeamRecord:
        """Change some of a team's terms; `archived` true makes its keys invalid, false valid again.

        Raises:
            InvalidRequest: As `get` and `create`.
        """
        old = await self.get(tenant)
        check_team(self._by, tenant)
        changed = dict(changes)
        archived = changed.pop("archived", None)
        if archived is not None:
            changed["archived_at"] = (old.archived_at or self._accounts.clock.wall()) if archived else None
        team = _checked(msgspec.structs.replace(old, **changed))
        if changed and not await self._accounts.store.change_team(tenant, changed):
            raise _missing(tenant)
        await self._done("team.update", team, fields=sorted(changes))
        return team

    async def _done(self, action: str, team: TeamRecord, **fields: object) -> None:
        audit(action, by=self._by.name, tenant=team.tenant, **fields)
        await self._accounts.refresh()


def describe_team(team: TeamRecord) -> dict[str, Any]:
    """Return what people may see of a team."""
    return {
        "object": "team", "tenant": team.tenant, "name": team.name, "models": team.models,
        "requests_per_minute": team.requests_per_minute, "tokens_per_minute": team.tokens_per_minute,
        "created_at": whole_seconds(team.created_at), "archived_at": whole_seconds(team.archived_at),
    }  # fmt: skip


def _checked(team: TeamRecord) -> TeamRecord:
    check_name(team.name)
    check_terms(team.models, team.requests_per_minute, team.tokens_per_minute)
    return team


def _missing(tenant: str) -> InvalidRequest:
    return InvalidRequest(f"There is no team '{tenant[:200]}'.", param="tenant", code="team_not_found", status_code=404)
