"""Parts of canonical messages as Anthropic's content blocks."""

from __future__ import annotations

from typing import Any

from penstock.core.errors import InvalidRequest
from penstock.wire.chat_messages import Message, read_data_url, read_text, read_url


def content_blocks(message: Message) -> list[dict[str, Any]]:
    """A message's parts as blocks, without empty texts, which Anthropic refuses.

    Parts of types that OpenAI does not have are taken for Anthropic's own blocks and stay as they are.

    Raises:
        InvalidRequest: A part is malformed or Anthropic has nothing like it.
    """
    blocks = (_block(part) for part in message.parts())
    return [block for block in blocks if block.get("text") != ""]


def tool_result(message: Message) -> dict[str, Any]:
    """A tool message as a ``tool_result`` block; a single text as plain content.

    Raises:
        InvalidRequest: It does not say which call it answers.
    """
    if not message.tool_call_id:
        raise InvalidRequest("a tool message needs tool_call_id", param="messages")
    result: dict[str, Any] = {"type": "tool_result", "tool_use_id": message.tool_call_id}
    content = message.content if isinstance(message.content, str) else content_blocks(message)
    if content:
        result["content"] = content
    return result


def read_block_text(part: dict[str, Any]) -> dict[str, Any]:
    """A part of a system message as a text block.

    Raises:
        InvalidRequest: It is not text.
    """
    if part.get("type") != "text":
        raise InvalidRequest("Anthropic takes only text in system messages", param="messages")
    return _marked({"type": "text", "text": read_text(part)}, part)


def _block(part: dict[str, Any]) -> dict[str, Any]:
    match part.get("type"):
        case "text" | "refusal":
            block: dict[str, Any] = {"type": "text", "text": read_text(part)}
        case "image_url":
            block = {"type": "image", "source": _image_source(read_url(part))}
        case "file":
            block = _document(part.get("file"))
        case "input_audio":
            raise InvalidRequest("Anthropic takes no audio", param="messages")
        case str():
            return part
        case _:
            raise InvalidRequest("a content part needs a type", param="messages")
    return _marked(block, part)


def _marked(block: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Keep a ``cache_control`` mark, which clients of other gateways put on parts as well."""
    if part.get("cache_control") is not None:
        block["cache_control"] = part["cache_control"]
    return block


def _image_source(url: str) -> dict[str, Any]:
    inline = read_data_url(url)
    if inline is None:
        return {"type": "url", "url": url}
    media_type, data = inline
    return {"type": "base64", "media_type": media_type, "data": data}


def _document(file: object) -> dict[str, Any]:
    inline = None
    if isinstance(file, dict) and isinstance(file.get("file_data"), str):
        inline = read_data_url(file["file_data"])
    if inline is None:
        raise InvalidRequest(
            "Anthropic needs a file part's content: file.file_data as data:application/pdf;base64,...", param="messages"
        )
    media_type, data = inline
    block: dict[str, Any] = {
        "type": "document",
        "source": {"type": "base64", "media_type": media_type, "data": data},
    }
    if isinstance(file, dict) and isinstance(file.get("filename"), str):
        block["title"] = file["filename"]
    return block
