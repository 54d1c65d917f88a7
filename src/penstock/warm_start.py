"""Taking frequent questions into the cache when a process starts."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from penstock.config.caches import WarmSettings
from penstock.core.errors import ConfigError
from penstock.semantic.operations import CacheOperations
from penstock.semantic.warming import Make

_MOST_TOLD = 10
"""Lines of a file whose failures are told one by one."""

_log = logging.getLogger("penstock.cache")


class Frequent(NamedTuple):
    """A list of questions.

    Attributes:
        terms: What to do with it.
        lines: The questions.
    """

    terms: WarmSettings
    lines: Sequence[bytes]


async def read_lists(settings: Sequence[WarmSettings]) -> list[Frequent]:
    """Read the files.

    Raises:
        ConfigError: One cannot be read.
    """
    found: list[Frequent] = []
    for number, terms in enumerate(settings):
        try:
            text = await asyncio.to_thread(_read, terms.file)
        except OSError as error:
            raise ConfigError(
                f"{terms.file} cannot be read: {error.strerror}", key=f"cache.warm[{number}].file"
            ) from error
        found.append(Frequent(terms, [line for line in text.split(b"\n") if line.strip()]))
    return found


async def warm_start(lists: Sequence[Frequent], caches: CacheOperations, make: Make) -> None:
    """Take the questions in; what fails is logged, and is no reason not to start."""
    for terms, lines in lists:
        counts: Counter[str] = Counter()
        ours = partial(make, tenant=terms.tenant)
        async for each in caches.warm(lines, concurrency=terms.concurrency, make=ours):
            counts[each.outcome] += 1
            if each.outcome == "failed" and counts["failed"] <= _MOST_TOLD:
                _log.warning("%s, question %d is not taken in: %s", terms.file, each.line, each.message)
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
        _log.info("%s: %s", terms.file, told or "no questions")


def _read(file: str) -> bytes:
    return Path(file).expanduser().read_bytes()
