import asyncio
import time

from penstock.telemetry.lag import LoopLag


async def test_a_blocked_loop_is_seen():
    lag = LoopLag()
    lag.start()
    await asyncio.sleep(0.12)
    time.sleep(0.3)  # noqa: ASYNC251 what is to be seen
    await asyncio.sleep(0.02)
    assert 0.2 < lag.worst_s < 5
    lag.stop()
    worst = lag.worst_s
    time.sleep(0.4)  # noqa: ASYNC251 as above
    await asyncio.sleep(0.1)
    assert lag.worst_s == worst
