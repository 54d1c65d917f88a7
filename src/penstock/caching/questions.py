"""The questions whose answers are in the cache: in memory by partition, in the store for the next start."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from random import Random
from typing import Generic, Protocol, TypeVar

import msgspec

from penstock.abc import Question, QuestionStore, Vector
from penstock.caching.eviction import GreedyDual, Slot

_ID_NOISE = 10
"""Bits of a question's number that tell apart processes which ask in the same microsecond."""


class Partition(Protocol):
    """What finds the nearest of its questions; `penstock.matching.partition.Partition`."""

    def __len__(self) -> int: ...

    def add(self, text: str, vector: Vector, answer: Hashable, *, entry: int) -> int:
        """Add a question under the number `entry`; `answer` is shared by those with the same answer."""

    def remove(self, entry: int) -> None:
        """Forget a question."""


P = TypeVar("P", bound=Partition)


class Questions(Generic[P]):
    """Bounded by number; what leaves first is as `penstock.caching.eviction` says.

    A question leaves with its answer, for it is of no use without. Those of earlier runs stay in the store until their
    partition is asked of again.

    Args:
        store: Keeps them.
        new_partition: Makes an empty one.
        max_questions: The most that are in memory.
        on_leave: Told the number of each question that leaves.
        random: Where chance comes from.
    """

    def __init__(
        self,
        store: QuestionStore,
        new_partition: Callable[[], P],
        max_questions: int,
        on_leave: Callable[[Question], None] = lambda _question: None,
        random: Random | None = None,
    ) -> None:
        self._store = store
        self._new_partition = new_partition
        self._on_leave = on_leave
        self._partitions: dict[bytes, P] = {}
        self._known: dict[int, tuple[Question, Slot]] = {}
        self._of_key: dict[bytes, list[int]] = {}
        self._room = GreedyDual(max_questions, max_questions)
        self._elsewhere: dict[bytes, int] = {}
        self._random = random or Random()
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._known)

    def __iter__(self) -> Iterator[Question]:
        return (question for question, _ in self._known.values())

    @property
    def partitions(self) -> int:
        """How many there are in memory."""
        return len(self._partitions)

    async def start(self) -> None:
        """Learn which partitions the store has.

        Raises:
            StoreError: It cannot say.
        """
        self._elsewhere = dict(await self._store.partitions())

    @property
    def elsewhere(self) -> bool:
        """Whether there are questions in the store that are not in memory."""
        return bool(self._elsewhere)

    def stored(self, partition: bytes) -> int:
        """Return how many questions of `partition` are in the store only, until `load`."""
        return self._elsewhere.get(partition, 0)

    async def load(self, partition: bytes) -> list[Question]:
        """Take `partition`'s questions out of the store; to be told of with `put`, or dropped with `drop`.

        Raises:
            StoreError: They could not be read.
        """
        found = list(await self._store.load(partition)) if self._elsewhere.get(partition) else []
        self._elsewhere.pop(partition, None)
        return found

    def new_id(self, now: float) -> int:
        """Return a number for a question asked at `now`, seconds since the epoch; later ones are larger."""
        self._last_id = max(self._last_id + 1, (int(now * 1e6) << _ID_NOISE) | self._random.getrandbits(_ID_NOISE))
        return self._last_id

    def partition(self, digest: bytes) -> P | None:
        """Return a partition that is in memory, or None."""
        return self._partitions.get(digest)

    def get(self, entry: int) -> Question | None:
        """Return a question that is in memory, or None."""
        known = self._known.get(entry)
        return None if known is None else known[0]

    def of_key(self, key: bytes) -> list[Question]:
        """Return the questions whose answer is under `key`."""
        return [self._known[each][0] for each in self._of_key.get(key, ())]

    def put(self, question: Question, vector: Vector, *, stored: bool = False) -> None:
        """Remember `question`, unless it is known; in the store too, unless it is `stored` there as it is."""
        if question.id in self._known:
            return
        for slot in self._room.make_room(1):
            self._leave(self._known[int.from_bytes(slot)][0])
        home = self._partitions.get(question.partition)
        if home is None:
            home = self._partitions[question.partition] = self._new_partition()
        home.add(question.text, vector, question.group, entry=question.id)
        if not stored:
            self._store.put(question)
        # The index has the vector, in its own form.
        slight = msgspec.structs.replace(question, vector=b"") if question.vector else question
        self._known[question.id] = (slight, self._room.add(question.id.to_bytes(8), 1, 1.0))
        self._of_key.setdefault(question.key, []).append(question.id)

    def touch(self, entry: int) -> None:
        """It was of use."""
        known = self._known.get(entry)
        if known is not None:
            known[1].touch()

    def judged(self, entry: int, *, right: bool) -> None:
        """Its answer was compared with that to another question."""
        known = self._known.get(entry)
        if known is None:
            return
        question, slot = known
        changed = {"right": question.right + 1} if right else {"wrong": question.wrong + 1}
        question = msgspec.structs.replace(question, **changed)
        self._known[entry] = (question, slot)
        self._store.judge(question.id, question.right, question.wrong)

    def drop(self, ids: Iterable[int]) -> None:
        """Forget questions, those too that are in the store only."""
        gone = list(ids)
        for each in gone:
            known = self._known.get(each)
            if known is not None:
                self._room.remove(known[1])
                self._leave(known[0], stored=False)
        self._store.delete(gone)

    async def put_aside(self, partition: bytes) -> bool:
        """Let go of a partition, which is read anew when it is asked of; False when the store does not have it all.

        Raises:
            StoreError: The store could not be read.
        """
        stored = [each.id for each in await self._store.load(partition)]
        home = self._partitions.get(partition)
        mine = [self._known[each][0] for each in stored if each in self._known]
        if home is None or len(mine) < len(home):
            return False
        for question in mine:
            self._room.remove(self._known.pop(question.id)[1])
            self._forget_key(question)
        del self._partitions[partition]
        self._elsewhere[partition] = len(stored)
        return True

    def drop_key(self, key: bytes) -> None:
        """Forget the questions whose answer, under `key`, is gone."""
        if key in self._of_key:
            self.drop(list(self._of_key[key]))

    def _leave(self, question: Question, *, stored: bool = True) -> None:
        del self._known[question.id]
        self._forget_key(question)
        home = self._partitions[question.partition]
        home.remove(question.id)
        if not len(home):
            del self._partitions[question.partition]
        if stored:
            self._store.delete((question.id,))
        self._on_leave(question)

    def _forget_key(self, question: Question) -> None:
        ids = self._of_key[question.key]
        ids.remove(question.id)
        if not ids:
            del self._of_key[question.key]
