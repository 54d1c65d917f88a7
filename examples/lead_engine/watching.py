"""Prompts are read again when their files change."""

from __future__ import annotations

import asyncio
import logging

from penstock import AsyncClient, ConfigError, StoreError

log = logging.getLogger("lead_engine")
EVERY_S = 1.0
"""How often it is looked."""


async def watch_templates(client: AsyncClient) -> None:
    """Look until cancelled; files that cannot be used change nothing, and are tried again when they change."""
    seen: object = None
    tried: object = None
    while True:
        await asyncio.sleep(EVERY_S)
        before, seen = seen, await asyncio.to_thread(client.prompts.changed)
        if seen is None or seen != before or seen == tried:
            continue  # what is still being written is left alone
        tried = seen
        try:
            done = await client.prompts.refresh()
        except (ConfigError, StoreError) as error:
            log.error("Templates are not reloaded: %s", error)
        else:
            log.info("Templates reloaded: %d, changed %s", done.prompts, ", ".join(done.changed) or "none")
