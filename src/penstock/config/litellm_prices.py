"""LiteLLM's prices a token, from ``litellm_params`` or ``model_info``, as Penstock's prices a million."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from types import MappingProxyType

from penstock.config.provenance import Node

KINDS = MappingProxyType({
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "input_audio",
    "output_cost_per_audio_token": "output_audio",
})  # fmt: skip
"""LiteLLM's names of prices, and the kinds of tokens they are for."""


def read_prices(section: Node | None) -> Iterator[tuple[str, Node, float | None]]:
    """Yield LiteLLM's name, where it is, and USD a million tokens of the prices in a section; None for no amount."""
    entries = section.value if section is not None and isinstance(section.value, dict) else {}
    for name in KINDS:
        if name in entries:
            yield name, entries[name], _amount(entries[name])


def _amount(node: Node) -> float | None:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float | str):
        return None
    try:
        amount = Decimal(str(node.value)).scaleb(6)
    except InvalidOperation:
        return None
    return float(amount) if amount.is_finite() and amount >= 0 else None
