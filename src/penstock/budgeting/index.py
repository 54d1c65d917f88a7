"""Which budgets a request falls under."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock.core.budget import Budget, Scope


class BudgetIndex:
    """Budgets by whom they are for."""

    def __init__(self, budgets: Iterable[Budget] = ()) -> None:
        self.budgets: dict[str, Budget] = {budget.id: budget for budget in budgets}
        self._by: dict[tuple[Scope, str], list[Budget]] = {}
        for budget in self.budgets.values():
            self._by.setdefault((budget.scope, budget.subject), []).append(budget)

    def __bool__(self) -> bool:
        return bool(self.budgets)

    def find(self, tenant: str, key_id: str) -> Sequence[Budget]:
        """Return all budgets that requests of a tenant by a key count for."""
        by = self._by
        found = [*by.get(("team", tenant), ()), *by.get(("organisation", tenant.partition("/")[0]), ())]
        return [*found, *by.get(("key", key_id), ())] if key_id else found
