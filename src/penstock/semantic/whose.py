"""Whose part of the caches is meant."""

from __future__ import annotations

from typing import NamedTuple


class Whose(NamedTuple):
    """Whose part of the caches is meant.

    Attributes:
        tenant: A tenant, with its teams if it is an organisation; None for everybody's.
        alone: Leave out the teams of an organisation of that name.
    """

    tenant: str | None = None
    alone: bool = False

    def covers(self, tenant: str) -> bool:
        """Whether `tenant`'s is meant."""
        if self.tenant is None or tenant == self.tenant:
            return True
        return not self.alone and tenant.startswith(f"{self.tenant}/")


EVERYBODY = Whose()
