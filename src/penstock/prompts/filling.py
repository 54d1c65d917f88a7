"""Putting what a prompt says into a request."""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.core.errors import InvalidRequest
from penstock.core.prompt import PROMPT_MODEL
from penstock.core.request import Request
from penstock.prompts.collection import PromptSet
from penstock.prompts.compiling import Ready, Rendered

TAG = "prompt:"
"""Before ``NAME@VERSION`` in the tags of a request, by which answers can be cleared and costs reported."""
STOOD_IN = "prompt-built-in"
"""What `Call.degraded` says when a built-in prompt was used because its file is missing or broken."""

_replace = msgspec.structs.replace


def fill(request: Request, prompts: PromptSet) -> Request:
    """Return `request` with the prompt it names rendered into it; unchanged if it names none.

    The prompt's messages come first, then the client's. The client's model and parameters win over the prompt's.

    Raises:
        InvalidRequest: There is no such prompt or version, a variable is wrong, the template fails, or the prompt is
            not of the kind that is asked for.
    """
    reference = request.prompt
    if reference is None:
        return request
    prompt = prompts.find(reference.id)
    version = prompt.find(reference.version)
    rendered = version.render(reference.variables)
    request.call.prompt = rendered.tag
    if prompt.definition.built_in and STOOD_IN not in request.call.degraded:
        request.call.degraded.append(STOOD_IN)
    return _replace(
        request,
        model=model_for(request.model, version),
        payload=_payload(request, rendered),
        tags=(*request.tags, TAG + rendered.tag),
        prompt=None,
    )


def model_for(model: str, version: Ready) -> str:
    """Return the model to ask: `model`, or the version's if that is ``prompt/NAME``.

    Raises:
        InvalidRequest: The version names none.
    """
    if not model.startswith(PROMPT_MODEL):
        return model
    if version.definition.model is None:
        raise InvalidRequest(
            f"The prompt {version.tag} names no model: say which is to answer it.",
            param="model",
            code="missing_required_parameter",
        )
    return version.definition.model


def _payload(request: Request, rendered: Rendered) -> dict[str, Any]:
    payload = {**rendered.parameters, **request.payload}
    if request.operation == "completions":
        if rendered.text is None:
            raise InvalidRequest(
                f"The prompt {rendered.tag} is made of messages: ask for a chat completion.",
                param="prompt.id",
                code="invalid_value",
            )
        payload["prompt"] = rendered.text
        return payload
    said = rendered.messages if rendered.messages is not None else [{"role": "user", "content": rendered.text}]
    payload["messages"] = [*said, *(request.payload.get("messages") or ())]
    return payload
