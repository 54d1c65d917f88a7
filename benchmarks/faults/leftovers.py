"""What a process holds, to be compared before and after."""

from __future__ import annotations

import asyncio
import gc
import os

from penstock.testing import UpstreamServer


async def held() -> dict[str, int]:
    """Count descriptors and tasks."""
    # An event loop opens a descriptor of its own for the first server it has.
    async with UpstreamServer() as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()
        await server.wait_for_close()
    gc.collect()
    return {"descriptor": len(os.listdir("/proc/self/fd")), "task": len(asyncio.all_tasks())}


async def left_over(before: dict[str, int]) -> list[str]:
    """Name each thing held now that was not held `before`."""
    now = await held()
    return [f"a {what}" for what, count in before.items() for _ in range(now[what] - count)]
