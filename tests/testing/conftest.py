"""The tools that use sockets must work on both event loops."""

import asyncio

import pytest
import uvloop

ON_SOCKETS = ("test_faultd.py", "test_faultproxy.py")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(config, item):
    loops = {"asyncio": asyncio.new_event_loop}
    return {**loops, "uvloop": uvloop.new_event_loop} if item.path.name in ON_SOCKETS else loops
