"""What a cell of the matrix is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from penstock.testing import UpstreamReply

Moment = Literal["before headers", "before the first token", "in the middle", "after the last event"]
Kind = Literal["JSON", "stream"]
Place = Literal["only", "first", "last"]

KINDS: tuple[Kind, ...] = ("JSON", "stream")
PLACES: tuple[Place, ...] = ("only", "first", "last")
LIMITED_S = 7
"""`Retry-After` of the targets before the last one, which are rate limited."""
UNSAID_S = 1
"""`Retry-After` to clients when an upstream did not say any."""


class Outcome(NamedTuple):
    """What the client gets.

    Attributes:
        status: HTTP status. 200 with codes is a stream that ends with an error frame.
        codes: The error's code is one of them; none for a whole answer.
        retry_after: What `Retry-After` says in seconds, give or take one.
    """

    status: int = 200
    codes: tuple[str, ...] = ()
    retry_after: int | None = None

    def __str__(self) -> str:
        if not self.codes:
            return "answered"
        said = " or ".join(f"`{code}`" for code in self.codes)
        wait = "" if self.retry_after is None else f", retry after {self.retry_after} s"
        return f"frame {said}" if self.status == 200 else f"{self.status} {said}{wait}"


ANSWERED = Outcome()


class Fault(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        line: Of the specification of faults.
        name: What it is.
        moment: When.
        kind: What was asked for.
        alone: What comes of it when no other target could help.
        reply: What the upstream does; None when it is never reached.
        provider: Whose target fails; the stage's providers differ in address, time-outs and limits.
        elsewhere: Another target may do better, as long as nothing was forwarded.
        tries: How often the target may be tried.
        timeout_s: Total time for the request, if that is what ends it.
    """

    line: int
    name: str
    moment: Moment
    kind: Kind
    alone: Outcome
    reply: UpstreamReply | Callable[[], UpstreamReply] | None
    provider: str = "faulty"
    elsewhere: bool = True
    tries: tuple[int, ...] = (1, 2)
    timeout_s: float | None = None

    @property
    def stream(self) -> bool:
        """A stream was asked for."""
        return self.kind == "stream"


class Cell(NamedTuple):
    """A fault in its place; `id` is the model's name, the request's id and the row of the record."""

    id: str
    fault: Fault
    place: Place

    @property
    def targets(self) -> tuple[str, ...]:
        """The providers of the route, in order."""
        if self.place == "only":
            return (self.fault.provider,)
        if self.place == "first":
            return (self.fault.provider, "well-1", "well-2")
        return ("limited-1", "limited-2", self.fault.provider)

    @property
    def expected(self) -> Outcome:
        """What the client must get."""
        alone = self.fault.alone
        if alone.status == 200:
            return alone
        if self.place == "first" and self.fault.elsewhere:
            return ANSWERED
        if self.place == "last" and alone.retry_after is not None:
            return alone._replace(retry_after=min(alone.retry_after, LIMITED_S))
        return alone

    @property
    def answered_by(self) -> str | None:
        """The provider whose answer the client gets, whole or in part."""
        if self.fault.alone.status == 200:
            return self.fault.provider
        return "well-1" if self.expected == ANSWERED else None


def cross(faults: Sequence[Fault]) -> Iterator[Cell]:
    """Put each fault in each place."""
    for number, fault in enumerate(faults):
        for place in PLACES:
            yield Cell(f"fault-{number:03d}-{place}", fault, place)
