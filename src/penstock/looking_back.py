"""What programs may ask of a store's past, also while a server writes it: suggestions, the history of alerts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from penstock.config.settings import Settings
from penstock.core.alert import AlertEvent
from penstock.insight.suggesting import Suggestions, suggest
from penstock.shared import make_pricer


def suggestions(
    settings: Settings, *, days: float, most: int = 200_000, said: Callable[[str], None] = lambda _: None
) -> Suggestions:
    """Replay the newest calls of the ledger under other settings.

    Args:
        settings: What is in force; names the store.
        days: How far back to look.
        most: How many calls to look at.
        said: Told of each replay before it begins.

    Raises:
        ConfigError: There is no ledger that could be read.
        StoreError: It cannot be read.
    """
    from penstock.stores.sql.facts import read_facts, unlisted_hits  # noqa: PLC0415 - SQLAlchemy, which not every command needs

    said("reading the ledger")
    facts = read_facts(settings.store.url, days=days, most=most)
    found = suggest(facts, settings, make_pricer(settings).cost, said)
    return msgspec.structs.replace(found, unlisted=unlisted_hits(settings.store.url, found.since)) if facts else found


def alert_history(url: str, limit: int) -> Sequence[AlertEvent]:
    """Return the newest alerts, begun and over, newest first.

    Raises:
        ConfigError: There is no history that could be read.
        StoreError: It cannot be read.
    """
    from penstock.stores.sql.alerts import read_events  # noqa: PLC0415 - as above

    return read_events(url, limit)
