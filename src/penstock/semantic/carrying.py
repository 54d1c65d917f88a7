"""Carrying one tenant's cache from one place to another: its answers and questions, as lines of JSON.

Keys and partitions are digests in which the tenant and what its model names lead to take part, so a cache is of use to
the same tenant under the same configuration of models only. They cannot be checked, for what they are digests of is not
kept; whoever imports trusts the file as if it were the store.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

import msgspec

from penstock.abc import Question, StoredAnswer
from penstock.caching.answer_cache import AnswerCache
from penstock.caching.asking import Asked
from penstock.core.clock import Clock
from penstock.core.errors import InvalidRequest
from penstock.core.request import Request
from penstock.semantic.memory import Memory
from penstock.semantic.reports import Imported

FORMAT, VERSION = "penstock-cache", 1
_DIGEST = 32


class Head(msgspec.Struct, forbid_unknown_fields=True):
    """The first line.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`.
        tenant: Whose cache it is.
        exported_at: When, in seconds since the epoch.
    """

    format: str
    version: int
    tenant: str
    exported_at: float


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    partition: str
    group: str
    right: float = 0.0
    wrong: float = 0.0


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """An answer, with the questions it answers; digests are in hexadecimal."""

    key: str
    model: str
    form: str
    data: str
    stored_at: float
    fresh_until: float
    cost_pusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str | None = None
    tags: tuple[str, ...] = ()
    questions: list[_Asked] = []


_head = msgspec.json.Decoder(Head)
_line = msgspec.json.Decoder(_Line)
_write = msgspec.json.Encoder().encode


async def write(answers: AnswerCache, memory: Memory | None, tenant: str, clock: Clock) -> AsyncGenerator[bytes, None]:
    """Write `tenant`'s cache, a line at a time.

    Raises:
        StoreError: It could not be read.
    """
    yield _write(Head(FORMAT, VERSION, tenant, clock.wall())) + b"\n"
    questions: dict[bytes, list[Question]] = {}
    if memory is not None:
        async for question in memory.known(tenant):
            if question.tenant == tenant:
                questions.setdefault(question.key, []).append(question)
    for entry in [each for each in answers if each.tenant == tenant]:
        answer = await answers.copy(entry)
        if answer is not None and answer.tenant == tenant:
            yield _write(_to_line(answer, questions.get(answer.key, ()))) + b"\n"


async def read(lines: Iterable[bytes], request: Request, answers: AnswerCache, memory: Memory | None) -> Imported:
    """Take in what `write` wrote; vectors are made anew, with the embedder in force here.

    Args:
        lines: The file.
        request: Made for the tenant whose cache it is; what vectors cost is on its account.
        answers: Where to.
        memory: Where the questions go; None while matching by meaning is off for all.

    Raises:
        InvalidRequest: A line is something else, or of another tenant's cache. What was before it is taken in.
        PenstockError: A question cannot be embedded now.
    """
    rest = iter(lines)
    _check(next(rest, b""), request.tenant)
    done = Imported()
    for number, line in enumerate(rest, 2):
        try:
            read = _line.decode(line)
            answer = _to_answer(read, request.tenant)
            known = answers.find(answer.key)
            if known is not None and known.tenant != request.tenant:
                raise ValueError("its key is another tenant's")
            new = answers.restore(answer)
        except (msgspec.MsgspecError, ValueError) as error:
            raise InvalidRequest(f"Line {number} cannot be used: {error}.", code="invalid_value") from error
        done.answers += new
        done.skipped += not new
        if memory is None or not (new or known):
            continue
        like = msgspec.structs.replace(request, model=answer.model, tags=answer.tags)
        for each in read.questions:
            place = Asked(_digest(each.partition), each.text)
            group = _digest(each.group)
            done.questions += await memory.add(like, place, answer.key, group, right=each.right, wrong=each.wrong)
    return done


def _check(line: bytes, tenant: str) -> None:
    try:
        head = _head.decode(line)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(
            "The first line is not that of an exported cache; see `penstock cache export`.", code="invalid_value"
        ) from error
    if head.format != FORMAT or head.version != VERSION:
        raise InvalidRequest(
            f"This is {head.format[:40]} of version {head.version}; expected {FORMAT} of version {VERSION}.",
            code="invalid_value",
        )
    if head.tenant != tenant:
        raise InvalidRequest(
            f"This is the cache of {head.tenant[:200]!r}, not of {tenant!r}: keys are digests in which the tenant "
            "takes part, so it would be of no use here.",
            param="tenant",
            code="invalid_value",
        )


def _to_line(answer: StoredAnswer, questions: Iterable[Question]) -> _Line:
    return _Line(
        key=answer.key.hex(),
        model=answer.model,
        form=answer.form,
        data=answer.data.decode(),
        stored_at=answer.stored_at,
        fresh_until=answer.fresh_until,
        cost_pusd=answer.cost_pusd,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        finish_reason=answer.finish_reason,
        tags=answer.tags,
        questions=[
            _Asked(each.text, each.partition.hex(), each.group.hex(), each.right, each.wrong) for each in questions
        ],
    )


def _to_answer(line: _Line, tenant: str) -> StoredAnswer:
    if line.form not in ("json", "events"):
        raise ValueError("form must be json or events")
    return StoredAnswer(
        key=_digest(line.key),
        tenant=tenant,
        form=line.form,
        data=line.data.encode(),
        stored_at=line.stored_at,
        fresh_until=line.fresh_until,
        cost_pusd=line.cost_pusd,
        input_tokens=line.input_tokens,
        output_tokens=line.output_tokens,
        finish_reason=line.finish_reason,
        model=line.model,
        tags=line.tags,
    )


def _digest(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != _DIGEST:
        raise ValueError("a digest must have 64 hexadecimal digits")
    return digest
