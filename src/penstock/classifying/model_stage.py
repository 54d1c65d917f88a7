"""The stage that asks a model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Literal

from penstock.answers import Answer, Chunk
from penstock.classifying.answers import Form, Unusable
from penstock.classifying.results import Opinion, Partial, Verify, accept
from penstock.client import AsyncClient
from penstock.core.call import Call
from penstock.core.errors import InvalidRequest, ProviderError
from penstock.core.response import Response
from penstock.wire.partial_json import PartialJson

INSTRUCTIONS = "Classify the user's text. The score says how sure you are."
"""What a model is told by default, beside the form of its answer."""
_SCHEMA_REFUSED = (400, 404, 422)
_SCHEMA_WORDS = ("response_format", "json_schema")

Options = Mapping[str, Any] | Callable[[str], Mapping[str, Any]]


class ModelStage:
    """Asks a model for a label, a score and further fields, as JSON.

    Attributes:
        name: The stage's name.
        verify: What is decided about its opinion; None to accept it.
    """

    def __init__(
        self,
        model: str,
        *,
        name: str | None = None,
        verify: Verify | None = None,
        instructions: str = INSTRUCTIONS,
        prompt: str | None = None,
        fields: Mapping[str, Mapping[str, Any]] | None = None,
        structured: Literal["auto", "schema", "text"] = "auto",
        options: Options | None = None,
    ) -> None:
        """Ask `model`.

        Args:
            model: A configured name, or ``provider/model``.
            name: The stage's name; the model's by default.
            verify: Decides about its opinion, as `Gate` does; by default it is accepted.
            instructions: The system prompt; ``{labels}`` in it is replaced by the labels. What an answer has to look
                like is added to it.
            prompt: Name of a stored prompt to use in place of `instructions`, also ``NAME@VERSION``. It gets the
                variables ``text``, ``labels`` and ``form`` (what an answer has to look like).
            fields: What else this stage is asked for, in place of the classifier's `fields`.
            structured: ``schema`` sends the form as `response_format`, ``text`` asks for it in words only; ``auto``
                sends it until a provider refuses the field.
            options: Further fields of the request (``temperature``, ``max_tokens``, …) and of Penstock's, as for
                `AsyncClient.chat`; or what makes them of a text.
        """
        self.model = model
        self.name = name or model
        self.verify = verify or accept
        self.verified = verify is not None
        self._instructions = instructions
        self._prompt = prompt
        self._fields = fields
        self._structured = structured
        self._options = options

    def form(self, labels: tuple[str, ...], fields: Mapping[str, Mapping[str, Any]]) -> Form:
        """What its answers look like, in a classifier with these labels and fields."""
        return Form(labels, fields if self._fields is None else self._fields)

    async def look(self, talk: Talk, text: str, *, stream: bool) -> AsyncGenerator[Partial | Opinion, None]:
        """Ask for an opinion; with `stream` also for what there is of it before its end.

        Raises:
            ProviderError: No answer, or twice one that is not usable (``upstream_invalid``).
            PenstockError: As `AsyncClient.handle`.
        """
        asked = self._asked(talk.form, text)
        said = ""
        async with aclosing(self._answers(talk, asked, text, stream=stream)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Partial):
                    yield piece
                else:
                    said = piece
        try:
            opinion = talk.form.read(said)
        except Unusable as wrong:
            opinion = await self._repaired(talk, asked, text, said, wrong)
        yield opinion

    async def _repaired(self, talk: Talk, asked: dict[str, Any], text: str, said: str, wrong: Unusable) -> Opinion:
        """Ask once more, saying what was wrong."""
        talk.repaired = True
        correction = f"That answer cannot be used: {wrong}. {talk.form.described()}"
        messages = [
            *asked.get("messages", ()),
            {"role": "assistant", "content": said or "(nothing)"},
            {"role": "user", "content": correction},
        ]
        again = ""
        async for piece in self._answers(talk, {**asked, "messages": messages}, text, stream=False):
            again = piece if isinstance(piece, str) else again
        try:
            return talk.form.read(again)
        except Unusable as still:
            raise ProviderError(
                f"model '{self.model}' was asked twice and gave no usable answer: {wrong}; then: {still}",
                code="upstream_invalid",
                provider=talk.provider,
            ) from still

    async def _answers(
        self, talk: Talk, asked: dict[str, Any], text: str, *, stream: bool
    ) -> AsyncGenerator[Partial | str, None]:
        """Yield pieces of the answer if `stream`, and at last the whole of it."""
        if self._structured != "text":
            try:
                response = await self._send(
                    talk, asked | {"response_format": talk.form.response_format()}, text, stream=stream
                )
            except (InvalidRequest, ProviderError) as error:
                if self._structured == "schema" or not _refuses_schema(error):
                    raise
                self._structured = "text"
        if self._structured == "text":
            response = await self._send(talk, asked, text, stream=stream)
        try:
            if stream:
                async for piece in _streamed(response, self.name):
                    yield piece
            else:
                yield Answer(await response.read(), talk.calls[-1]).text
        finally:
            await response.aclose()

    async def _send(self, talk: Talk, payload: dict[str, Any], text: str, *, stream: bool) -> Response:
        options = self._options(text) if callable(self._options) else self._options or {}
        request = talk.client.request("chat", self.model, payload, stream=stream, **{**talk.options, **options})
        talk.calls.append(request.call)
        return await talk.client.handle(request)

    def _asked(self, form: Form, text: str) -> dict[str, Any]:
        labels = ", ".join(form.labels)
        if self._prompt is not None:
            name, _, version = self._prompt.partition("@")
            variables = {"text": text, "labels": labels, "form": form.described()}
            return {"prompt": {"id": name, "variables": variables} | ({"version": version} if version else {})}
        told = f"{self._instructions.replace('{labels}', labels)}\n{form.described()}"
        return {"messages": [{"role": "system", "content": told}, {"role": "user", "content": text}]}


class Talk:
    """One stage's calls about one text.

    Attributes:
        client: Whom to ask.
        form: What answers look like.
        options: Penstock's own fields of the requests.
        calls: The calls, in order.
        repaired: The first answer could not be used.
    """

    def __init__(self, client: AsyncClient, form: Form, options: Mapping[str, Any]) -> None:
        self.client = client
        self.form = form
        self.options = options
        self.calls: list[Call] = []
        self.repaired = False

    @property
    def sent(self) -> int:
        """How many calls went to a provider."""
        return sum(bool(call.attempts) for call in self.calls)

    @property
    def cached(self) -> bool:
        """Whether an answer came from a cache."""
        return any(Answer(b"", call).cached for call in self.calls)

    @property
    def request_id(self) -> str:
        """Id of the last call."""
        return self.calls[-1].id if self.calls else ""

    @property
    def prompt(self) -> str:
        """The stored prompt that was used, with its version."""
        return self.calls[-1].prompt if self.calls else ""

    @property
    def degraded(self) -> tuple[str, ...]:
        """Why the answers are not the best possible ones, each reason once."""
        return tuple(dict.fromkeys(reason for call in self.calls for reason in call.degraded))

    @property
    def provider(self) -> str:
        """Who was asked last."""
        attempts = self.calls[-1].attempts if self.calls else ()
        return attempts[-1].provider if attempts else ""

    @property
    def cost_usd(self) -> Decimal | None:
        """What the calls cost; None when a price is not known."""
        costs = [Answer(b"", call).cost_usd for call in self.calls]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


async def _streamed(response: Response, stage: str) -> AsyncGenerator[Partial | str, None]:
    parser: PartialJson | None = PartialJson(inside_text=True)
    parts: list[str] = []
    async for batch in response:
        new = "".join([Chunk(event).text for piece in batch for event in piece.singles()])
        parts.append(new)
        if parser is None or not new:
            continue
        try:
            parser.feed(new)
        except ValueError:
            parser = None  # the whole answer is read in its own way
            continue
        if isinstance(parser.value, dict):
            yield Partial(stage, parser.value, parser.fields)
    yield "".join(parts)


def _refuses_schema(error: InvalidRequest | ProviderError) -> bool:
    """Whether a provider does not know the field, or the model not the format."""
    said = f"{error.param} {error.message}"
    return error.status_code in _SCHEMA_REFUSED and any(word in said for word in _SCHEMA_WORDS)
