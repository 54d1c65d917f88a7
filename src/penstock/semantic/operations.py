"""Operating the caches: looking into them, explaining, clearing, filling and carrying them. The admin API is this."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from penstock.abc import Question
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.entries import Entry
from penstock.core.errors import InvalidRequest
from penstock.semantic import carrying
from penstock.semantic.explaining import explain
from penstock.semantic.reports import (
    AnswerReport,
    CacheReport,
    Explanation,
    Imported,
    ModelReport,
    Optimized,
    QuestionReport,
    Removed,
    Warmed,
)
from penstock.semantic.tools import Tools
from penstock.semantic.warming import Item, Make, Warming, request_of
from penstock.semantic.whose import EVERYBODY, Whose

_AT_ONCE = 2000
"""Answers that are looked at without letting others go on."""

T = TypeVar("T", Entry, Question)


class CacheOperations:
    """What can be done with the caches of a running pipeline; made anew for each use."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def stats(self, whose: Whose = EVERYBODY) -> CacheReport:
        """Count what there is, and say what can be promised of answers given by meaning."""
        answers, memory = self._answers, self._tools.memory
        models: dict[tuple[str, str], ModelReport] = {}

        def of(tenant: str, model: str) -> ModelReport:
            found = models.get((tenant, model))
            if found is None:
                found = models[tenant, model] = ModelReport(tenant, model)
            return found

        size = 0
        async for entry in _covered(answers, whose):
            of(entry.tenant, entry.model).answers += 1
            size += entry.held.size if entry.held is not None else 0
        if memory is not None:
            async for question in _covered(memory.questions, whose):
                of(question.tenant, question.model).questions += 1
            for tenant, model in memory.policies.known():
                if whose.covers(tenant):
                    of(tenant, model).certificate = memory.policies.of(tenant, model).certificate()._asdict()
        rows = [models[place] for place in sorted(models)]
        report = CacheReport(sum(row.answers for row in rows), size, sum(row.questions for row in rows), rows)
        if whose.tenant is None:
            entries = {"entries": len(answers), "memory_bytes": answers.memory_bytes}
            report.exact = msgspec.structs.replace(answers.stats, **entries)
            report.semantic = None if memory is None else memory.figures()
        return report

    async def inspect(
        self,
        whose: Whose = EVERYBODY,
        *,
        model: str | None = None,
        tag: str | None = None,
        contains: str | None = None,
        limit: int = 100,
    ) -> list[AnswerReport]:
        """List answers, the newest first.

        Args:
            whose: Whose.
            model: Only those of this model name.
            tag: Only those of requests with this tag.
            contains: Only those with a question that has this text in it, in capitals or not.
            limit: How many at most.

        Raises:
            StoreError: The store cannot be read.
        """
        questions: dict[bytes, list[Question]] = {}
        if self._tools.memory is not None:
            async for question in self._tools.memory.known(whose.tenant):
                if whose.covers(question.tenant):
                    questions.setdefault(question.key, []).append(question)
        wanted = None if contains is None else contains.casefold()
        found: list[Entry] = []
        async for entry in _covered(self._answers, whose):
            if model not in (None, entry.model) or not (tag is None or tag in entry.tags):
                continue
            if wanted is None or any(wanted in each.text.casefold() for each in questions.get(entry.key, ())):
                found.append(entry)
        found.sort(key=lambda entry: -entry.stored_at)
        return [_report(entry, questions.get(entry.key, ())) for entry in found[:limit]]

    async def explain(self, item: Mapping[str, Any], *, make: Make | None = None) -> Explanation:
        """Say what would be done with a request; nothing is given, counted or learnt.

        Args:
            item: The request's body, as `warm` takes it.
            make: Makes the request; by default of the client's tenant.

        Raises:
            InvalidRequest: The request is wrong.
            PenstockError: The question cannot be embedded now.
        """
        tools = self._tools
        request = tools.route(request_of(dict(item), make or tools.make))
        return await explain(request, tools.settings, self._answers, tools.memory, tools.clock.wall())

    async def clear(
        self,
        whose: Whose = EVERYBODY,
        *,
        model: str | None = None,
        tag: str | None = None,
        learnt: bool = False,
    ) -> Removed:
        """Drop answers, with the questions they answer.

        Args:
            whose: Whose.
            model: Only those of this model name.
            tag: Only those of requests with this tag; a version of a prompt is the tag ``prompt:NAME@VERSION``.
            learnt: Forget what was learnt of matching by meaning, too; not together with `tag`.

        Raises:
            InvalidRequest: `learnt` and `tag` are both given.
            StoreError: The store cannot be read.
        """
        if learnt and tag is not None:
            raise InvalidRequest(
                "What was learnt is of a model, not of a tag: leave out `tag`, or `learnt`.",
                param="learnt",
                code="invalid_value",
            )

        def meant(entry: Entry) -> bool:
            return whose.covers(entry.tenant) and model in (None, entry.model) and (tag is None or tag in entry.tags)

        removed = Removed(answers=await self._answers.clear_gently(meant))
        memory = self._tools.memory
        if memory is not None:
            removed.questions = await memory.tidy(self._answers.known, whose.tenant)
            if learnt:
                removed.learnt = memory.policies.reset(
                    lambda tenant, name: whose.covers(tenant) and model in (None, name)
                )
        return removed

    async def cleanup(self) -> Removed:
        """Drop what is too old to be given to anybody, and questions without an answer; everybody's.

        Raises:
            StoreError: The store cannot be read.
        """
        removed = Removed(answers=self._answers.tidy())
        if self._tools.memory is not None:
            removed.questions = await self._tools.memory.tidy(self._answers.known)
        return removed

    async def optimize(self) -> Optimized:
        """Build the indexes of questions anew when they are next asked of, and put the store's file in order.

        Raises:
            StoreError: The store cannot be read or written.
        """
        free = await self._tools.compact()
        memory = self._tools.memory
        return Optimized(0 if memory is None else await memory.put_in_order(), free)

    def warm(
        self, items: Iterable[Item], *, concurrency: int = 4, make: Make | None = None
    ) -> AsyncGenerator[Warmed, None]:
        """Take questions in, with their answers or to be asked; yields what came of each.

        Args:
            items: Bodies of chat requests, as mappings or JSON, in which ``question`` may stand for ``messages``; with
                ``answer`` (a text or a chat completion) that is stored and nobody is asked; ``tags`` and ``cache`` are
                those of requests.
            concurrency: How many are asked at once.
            make: Makes requests, and refuses those that may not be made; by default of the client's tenant.
        """
        tools = self._tools
        warming = Warming(tools.settings, self._answers, tools.memory, tools.route, tools.ask, tools.clock)
        return warming.run(items, make or tools.make, concurrency)

    def export(self, tenant: str) -> AsyncGenerator[bytes, None]:
        """Write one tenant's answers and questions as lines of JSON, for `load`."""
        return carrying.write(self._answers, self._tools.memory, tenant, self._tools.clock)

    async def load(self, lines: Iterable[bytes], tenant: str) -> Imported:
        """Take in what `export` wrote. The file is trusted: whoever writes it decides what is answered.

        Args:
            lines: The file.
            tenant: Whose cache it is.

        Raises:
            InvalidRequest: A line is something else, or of another tenant's cache. What was before it is taken in.
            PenstockError: A question cannot be embedded now.
        """
        request = self._tools.make("chat", "-", {"messages": [{"role": "user", "content": ""}]}, tenant=tenant)
        return await carrying.read(lines, request, self._answers, self._tools.memory)

    async def label(self, request_id: str, *, right: bool, tenant: str) -> None:
        """Say whether an answer that was given by meaning was right; a right one is an exact hit from then on.

        Args:
            request_id: The request, as ``x-request-id`` has it.
            right: Whether the answer fitted.
            tenant: Whose request it was.

        Raises:
            InvalidRequest: No answer was given by meaning to such a request, or not lately, or it was labelled (404).
        """
        learner = self._tools.learner
        if learner is None or not await learner.told(tenant, request_id, right=right):
            raise InvalidRequest(
                f"There is no request {request_id[:100]!r} of {tenant!r} that was answered by meaning in the last "
                "seven days and is not labelled yet.",
                param="request_id",
                code="not_found",
                status_code=404,
            )

    @property
    def _answers(self) -> AnswerCache:
        if self._tools.answers is None:
            raise InvalidRequest(
                "There is no cache: cache.exact.enabled is false in the configuration.",
                code="not_found",
                status_code=404,
            )
        return self._tools.answers


async def _covered(things: Iterable[T], whose: Whose) -> AsyncGenerator[T, None]:
    """Yield those of `things` that are meant, and let others go on now and then."""
    for number, each in enumerate(list(things)):
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)
        if whose.covers(each.tenant):
            yield each


def _report(entry: Entry, questions: Sequence[Question]) -> AnswerReport:
    usage = entry.usage
    return AnswerReport(
        key=entry.key.hex(),
        tenant=entry.tenant,
        model=entry.model,
        stored_at=entry.stored_at,
        fresh_until=entry.fresh_until,
        input_tokens=None if usage is None else usage.input_tokens,
        output_tokens=None if usage is None else usage.output_tokens,
        saved_usd=entry.saved_usd,
        bytes=None if entry.held is None else entry.held.size,
        tags=entry.tags,
        questions=[QuestionReport(each.text, each.asked_at, each.right, each.wrong, each.tags) for each in questions],
    )
