"""Places to wait, for all providers together."""

from __future__ import annotations

from collections.abc import Callable


class Waiting:
    """Counts who waits, of at most `most`.

    A tenant may take a place only while it has fewer than there are free ones (Choudhury and Hahne, "Dynamic Queue
    Length Thresholds", 1998): one alone takes half of them, and there always is one for somebody else.

    Attributes:
        most: Places there are.
        elsewhere: Counts those that others have, who share them.
    """

    __slots__ = ("_by_tenant", "_count", "elsewhere", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self.elsewhere: Callable[[], int] = int
        self._count = 0
        self._by_tenant: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def room(self, tenant: str) -> bool:
        """Whether one more of `tenant` may wait."""
        return self._by_tenant.get(tenant, 0) < self.most - self._count - self.elsewhere()

    def add(self, tenant: str) -> None:
        """One more waits."""
        self._count += 1
        self._by_tenant[tenant] = self._by_tenant.get(tenant, 0) + 1

    def remove(self, tenant: str) -> None:
        """One of them does not any more."""
        self._count -= 1
        left = self._by_tenant[tenant] - 1
        if left:
            self._by_tenant[tenant] = left
        else:
            del self._by_tenant[tenant]
