"""Lead engines of a test, each in a folder of its own."""

import pytest
from tests.examples.engines import Engine


@pytest.fixture
def start(tmp_path):
    started = []

    def start(**environ):
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Engine(folder, **environ))
        return started[-1]

    yield start
    for engine in started:
        engine.stop()
