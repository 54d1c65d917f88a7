"""Texts into classes, in stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Literal

from penstock.classifying.model_stage import ModelStage, Talk
from penstock.classifying.results import Classification, Decision, Opinion, Partial, Progress, Step, Verify
from penstock.classifying.rules import Rules
from penstock.client import AsyncClient
from penstock.core.errors import ConfigError, ProviderError
from penstock.core.money import to_usd
from penstock.core.spending import IN_FORCE
from penstock.core.tasks import TaskGroup
from penstock.gathering import spending_of

Stage = Rules | ModelStage
_DECISIONS = ("accept", "drop", "pass")


class Classifier:
    """Asks one stage after the other until one's word is accepted, or the text is dropped.

    What the last stage says is accepted even if it would be passed on. A stage whose model fails passes the text on;
    if it is the last one, the text has no label.

    Attributes:
        labels: The classes.
        dropped: The label of texts that were dropped.
    """

    def __init__(
        self,
        client: AsyncClient,
        *,
        stages: Sequence[Stage],
        labels: Sequence[str],
        dropped: str = "not relevant",
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> None:
        """Classify with the models of `client`.

        Args:
            client: Whom the model stages ask.
            stages: In order, the cheapest first.
            labels: The classes; a stage that says `dropped` drops the text, so it may be one of them.
            dropped: The label of texts that were dropped.
            fields: JSON Schemas of what else models are asked for, by name.
            options: Penstock's own fields of all requests, as for `AsyncClient.chat`: ``tenant``, ``tags``,
                ``timeout_s``, ``priority``, …

        Raises:
            ConfigError: The stages or the labels cannot be used.
        """
        self.labels = tuple(labels)
        self.dropped = dropped
        self._client = client
        self._stages = tuple(stages)
        self._fields = dict(fields or {})
        self._options = options
        _check(self._stages, self.labels, dropped, self._fields)

    async def classify(self, text: str) -> Classification:
        """Classify one text.

        Raises:
            ProviderError: No model answered, or what the last one said cannot be used (``upstream_invalid``).
            PenstockError: As `AsyncClient.handle`.
        """
        found = await self._classified(text)
        if found.error is not None:
            raise found.error
        return found

    async def stream(self, text: str) -> AsyncGenerator[Partial | Classification, None]:
        """Classify one text; yield what models have said so far, and at last the classification.

        Raises:
            PenstockError: As `classify`.
        """
        async with aclosing(self._look(text, stream=True)) as looking:
            async for each in looking:
                if isinstance(each, Classification) and each.error is not None:
                    raise each.error
                yield each

    async def classify_many(
        self,
        texts: Sequence[str],
        *,
        concurrency: int = 8,
        timeout_s: float | None = None,
        budget_usd: Decimal | int | str | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> list[Classification]:
        """Classify texts; the results are in their order, and one that failed has its `error`.

        Texts that occur more than once are asked for once, if the cache keeps the answers: repetitions come last.

        Args:
            texts: What to classify.
            concurrency: How many at once.
            timeout_s: Seconds for all together; what is not done by then has `DeadlineExceeded` as its error.
            budget_usd: US dollars for all together, as for `penstock.gather`: what does not fit has `BudgetExceeded`.
            on_progress: Called after each text; must return quickly.

        Raises:
            ValueError: An argument makes no sense.
        """
        if concurrency < 1:
            raise ValueError(f"concurrency: expected 1 or more, not {concurrency}")
        spending = spending_of(self._client.clock, timeout_s, budget_usd)
        found: list[Classification | None] = [None] * len(texts)
        waiting, tasks = _new_first(texts), TaskGroup()
        done = failed = 0

        async def work() -> None:
            nonlocal done, failed
            for place in waiting:
                found[place] = result = await self._classified(texts[place])
                done += 1
                failed += result.error is not None
                if on_progress is not None:
                    cost = None if spending.unpriced else to_usd(spending.spent_pusd)
                    on_progress(Progress(done, len(texts), failed, cost))

        token = IN_FORCE.set(spending)
        try:
            workers = [tasks.spawn(work(), name="classify") for _ in range(min(concurrency, len(texts)))]
        finally:
            IN_FORCE.reset(token)
        try:
            await asyncio.gather(*workers)
        finally:
            await tasks.aclose()
        return [each for each in found if each is not None]

    async def _classified(self, text: str) -> Classification:
        found = None
        async for each in self._look(text, stream=False):
            found = each
        if not isinstance(found, Classification):
            raise AssertionError("a classification ends every look")
        return found

    async def _look(self, text: str, *, stream: bool) -> AsyncGenerator[Partial | Classification, None]:
        clock, steps = self._client.clock, list[Step]()
        began, step = clock.monotonic(), Step("", "pass")
        for stage in self._stages:
            if isinstance(stage, Rules):
                step = self._rule(stage, text)
            else:
                async with aclosing(self._ask(stage, text, stream=stream)) as asking:
                    async for each in asking:
                        if isinstance(each, Step):
                            step = each
                        else:
                            yield each
            steps.append(step)
            if step.decision in ("accept", "drop") or _ends(step.error):
                break
        yield self._end(steps, clock.monotonic() - began)

    def _rule(self, stage: Rules, text: str) -> Step:
        try:
            opinion = stage.look(text)
            if opinion is None:
                return Step(stage.name, "pass")
            if opinion.label not in (*self.labels, self.dropped):
                raise ConfigError(f"'{opinion.label}' is none of the labels", key=f"stages.{stage.name}")
            return Step(stage.name, self._decided(stage.verify, opinion), opinion)
        except Exception as error:  # noqa: BLE001 - the application's own may raise anything; it fails this text
            return Step(stage.name, "failed", error=error)

    async def _ask(self, stage: ModelStage, text: str, *, stream: bool) -> AsyncGenerator[Partial | Step, None]:
        talk = Talk(self._client, stage.form(self.labels, self._fields), self._options)
        opinion: Opinion | None = None
        decision: Decision | Literal["failed"] = "failed"
        failure: Exception | None = None
        try:
            async with aclosing(stage.look(talk, text, stream=stream)) as looking:
                async for each in looking:
                    if isinstance(each, Opinion):
                        opinion = each
                    else:
                        yield each
            if opinion is not None:
                decision = self._decided(stage.verify, opinion)
        except Exception as error:  # noqa: BLE001 - it is the result for this text
            opinion, failure = None, error
        yield Step(
            stage.name,
            decision,
            opinion,
            model_calls=talk.sent,
            cached=talk.cached,
            repaired=talk.repaired,
            cost_usd=talk.cost_usd,
            error=failure,
            request_id=talk.request_id,
            prompt=talk.prompt,
            degraded=talk.degraded,
        )

    def _decided(self, verify: Verify, opinion: Opinion) -> Decision:
        if opinion.label == self.dropped:
            return "drop"
        decision = verify(opinion)
        if decision not in _DECISIONS:
            raise ConfigError(f"verify must return accept, drop or pass, not {decision!r}")
        return decision

    def _end(self, steps: Sequence[Step], seconds: float) -> Classification:
        """Take the last opinion, whatever was decided about it, unless a stage failed after it."""
        step = next((each for each in reversed(steps) if each.opinion is not None or each.error is not None), None)
        if step is None or step.opinion is None:
            silent = ProviderError("no stage has said anything of this text", code="upstream_invalid")
            error = silent if step is None else step.error
            return Classification(None, steps=tuple(steps), seconds=seconds, error=error)
        opinion, dropped = step.opinion, step.decision == "drop"
        label = self.dropped if dropped else opinion.label
        return Classification(label, opinion.score, step.stage, opinion.fields, dropped, tuple(steps), seconds)


def _ends(error: Exception | None) -> bool:
    """Whether asking another stage is out of the question: only a model that failed can be made up for."""
    return error is not None and not isinstance(error, ProviderError)


def _new_first(texts: Sequence[str]) -> Iterator[int]:
    """Places of texts, those of repetitions last: by then the first answer is in the cache, and nobody waits for it."""
    seen: set[str] = set()
    again = []
    for place, text in enumerate(texts):
        if text in seen:
            again.append(place)
        else:
            seen.add(text)
            yield place
    yield from again


def _check(
    stages: Sequence[Stage], labels: Sequence[str], dropped: str, fields: Mapping[str, Mapping[str, Any]]
) -> None:
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise ConfigError("expected at least one label, none of them empty", key="labels")
    if len({label.strip().casefold() for label in labels}) < len(labels):
        raise ConfigError("expected labels that differ in more than capitals", key="labels")
    if taken := {"label", "score"} & set(fields):
        raise ConfigError(f"'{min(taken)}' is always asked for; give the field another name", key="fields")
    if not stages:
        raise ConfigError("expected at least one stage", key="stages")
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ConfigError("expected stages of different names", key="stages")
    known = {*labels, dropped}
    for number, stage in enumerate(stages):
        if isinstance(stage, Rules):
            if unknown := sorted(stage.labels - known):
                raise ConfigError(f"'{unknown[0]}' is none of the labels", key=f"stages[{number}]")
        elif not stage.verified and number < len(stages) - 1:
            raise ConfigError(
                f"'{stage.name}' accepts everything, so that '{names[number + 1]}' is never asked: give it a Gate",
                key=f"stages[{number}].verify",
            )
