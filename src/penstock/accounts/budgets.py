"""Making, changing and looking at budgets, for those who may."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from penstock.abc import BudgetStore, KeyRecord
from penstock.access.principal import Principal, Role
from penstock.accounts.terms import invalid
from penstock.budgeting.periods import end_of, start_of
from penstock.config.budgets import MOST_TOKENS, MOST_USD, amount_of
from penstock.core.budget import Budget, BudgetState, Period, Scope, Unit
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest
from penstock.core.money import to_usd
from penstock.telemetry.logs import audit

_MOST_SHARES = 20


class BudgetTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a budget is to be; one of the same scope, subject, period and unit is changed.

    Attributes:
        scope: ``organisation``, ``team`` or ``key``.
        subject: An organisation, a tenant (``organisation/team``), or a key's id.
        amount: US dollars or tokens.
        period: ``day``, ``month`` or ``total``.
        unit: ``usd`` or ``tokens``.
        soft: Shares of the amount at which an event is raised.
        allow_unpriced: Allow models without a price; what they cost is not counted.
    """

    scope: Scope
    subject: str
    amount: Decimal
    period: Period = "month"
    unit: Unit = "usd"
    soft: list[float] = []
    allow_unpriced: bool = False


class Budgets:
    """The budgets that `by` sees: its tenant's and its organisation's, an admin all of its organisation, root all."""

    def __init__(
        self,
        store: BudgetStore,
        by: Principal,
        clock: Clock,
        keys: Mapping[str, KeyRecord],
        configured: Callable[[], Sequence[Budget]],
    ) -> None:
        """`keys` are by their ids; `configured` returns the budgets of the configuration."""
        self._store = store
        self._by = by
        self._clock = clock
        self._keys = keys
        self._configured = configured

    async def list(self, subject: str | None = None) -> Sequence[dict[str, Any]]:
        """Return them with what is spent, oldest first; those of one subject, or of all.

        Raises:
            StoreError: They could not be read.
        """
        found = [each for each in await self._all() if subject in (None, each.subject) and self._sees(each)]
        return [await self._described(each) for each in found]

    async def get(self, budget_id: str) -> dict[str, Any]:
        """Return one.

        Raises:
            InvalidRequest: There is none, or it is another's (404).
        """
        return await self._described(await self._find(budget_id))

    async def set(self, terms: BudgetTerms) -> dict[str, Any]:
        """Make a budget, or change the one of the same scope, subject, period and unit, which keeps what was spent.

        Raises:
            InvalidRequest: Something is wrong (400), or it is not this one's to set (403).
        """
        budget = self._checked(terms)
        self._check_owner(budget)
        for old in await self._store.load():
            if _slot(old) == _slot(budget):
                budget = msgspec.structs.replace(budget, id=old.id, created_at=old.created_at)
        await self._store.put(budget)
        audit("budget.set", by=self._by.name, budget_id=budget.id, scope=budget.scope, subject=budget.subject,
              period=budget.period, unit=budget.unit, amount=str(_amount(budget, budget.amount)))  # fmt: skip
        return await self._described(budget)

    async def delete(self, budget_id: str) -> None:
        """Remove a budget, and what is known of its spending.

        Raises:
            InvalidRequest: As `get`; it is not this one's to remove (403), or is the configuration's (409).
        """
        budget = await self._find(budget_id)
        self._check_owner(budget)
        if budget.configured:
            raise InvalidRequest(
                "This budget comes from the configuration; change it there.", code="budget_configured", status_code=409
            )
        await self._store.delete(budget_id)
        audit("budget.delete", by=self._by.name, budget_id=budget_id, scope=budget.scope, subject=budget.subject)

    async def _all(self) -> Sequence[Budget]:
        return [*self._configured(), *await self._store.load()]

    async def _find(self, budget_id: str) -> Budget:
        for budget in await self._all():
            if budget.id == budget_id and self._sees(budget):
                return budget
        raise InvalidRequest(
            f"There is no budget '{budget_id[:200]}'.", param="budget_id", code="budget_not_found", status_code=404
        )

    async def _described(self, budget: Budget) -> dict[str, Any]:
        state = await self._store.state(budget.id, start_of(budget.period, self._clock.wall()))
        return describe_budget(budget, state)

    def _tenant(self, budget: Budget) -> str | None:
        """Return whose a budget is; None for an organisation's, and for a key's that is not there."""
        if budget.scope == "key":
            key = self._keys.get(budget.subject)
            return None if key is None else key.tenant
        return budget.subject if budget.scope == "team" else None

    def _sees(self, budget: Budget) -> bool:
        tenant = self._tenant(budget)
        if tenant is not None:
            return self._by.covers(tenant)
        return self._by.role is Role.ROOT or (
            budget.scope == "organisation" and budget.subject == self._by.organisation
        )

    def _check_owner(self, budget: Budget) -> None:
        """Organisations' budgets are root's to set, the others also an admin's of the organisation."""
        tenant = self._tenant(budget)
        if self._by.role is Role.ROOT:
            if budget.scope == "key" and tenant is None and not budget.configured:
                raise InvalidRequest(
                    f"There is no key '{budget.subject[:100]}'.", param="subject", code="key_not_found", status_code=404
                )
        elif self._by.role < Role.ADMIN or tenant is None or not self._by.covers(tenant):
            raise InvalidRequest(
                f"This key may not set budgets of {budget.scope} '{budget.subject[:200]}'.",
                param="subject", code="forbidden", status_code=403,
            )  # fmt: skip

    def _checked(self, terms: BudgetTerms) -> Budget:
        most = MOST_USD if terms.unit == "usd" else MOST_TOKENS
        if not terms.amount.is_finite() or not 0 < terms.amount <= most:
            raise invalid("amount", f"more than 0, at most {most}")
        if terms.unit == "tokens" and terms.amount % 1:
            raise invalid("amount", "a whole number of tokens")
        if not 0 < len(terms.subject) <= 200 or not terms.subject.isprintable():
            raise invalid("subject", "1 to 200 printable characters")
        if len(terms.soft) > _MOST_SHARES or not all(0 < share <= 1 for share in terms.soft):
            raise invalid("soft", f"at most {_MOST_SHARES} shares above 0, at most 1")
        amount = amount_of(terms.unit, terms.amount)
        if not amount:
            raise invalid("amount", "at least a picodollar")
        return Budget(
            f"bud_{secrets.token_hex(8)}", terms.scope, terms.subject, terms.period, terms.unit, amount,
            tuple(sorted(set(terms.soft))), terms.allow_unpriced, self._clock.wall(),
        )  # fmt: skip


def describe_budget(budget: Budget, state: BudgetState) -> dict[str, Any]:
    """Return what people see of a budget; dollars are text, so that no digit is lost."""
    ends = end_of(budget.period, state.start)
    return {
        "object": "budget", "id": budget.id, "scope": budget.scope, "subject": budget.subject,
        "period": budget.period, "unit": budget.unit, "amount": _amount(budget, budget.amount),
        "spent": _amount(budget, state.spent), "held": _amount(budget, state.held),
        "remaining": _amount(budget, max(budget.amount - state.spent - state.held, 0)), "unpriced": state.unpriced,
        "soft": list(budget.soft), "allow_unpriced": budget.allow_unpriced,
        "resets_at": None if ends == float("inf") else int(ends),
        "source": "configuration" if budget.configured else "store",
        "created_at": None if budget.configured else int(budget.created_at),
    }  # fmt: skip


def _amount(budget: Budget, amount: int) -> int | str:
    return amount if budget.unit == "tokens" else f"{to_usd(amount).normalize():f}"


def _slot(budget: Budget) -> tuple[str, str, str, str]:
    return budget.scope, budget.subject, budget.period, budget.unit
