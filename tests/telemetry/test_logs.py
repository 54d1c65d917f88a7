import json
import subprocess
import sys

import pytest

from penstock.telemetry import logs

LOGGING = """
import logging
from penstock.telemetry import logs
logs.configure(as_json={as_json}, level="{level}")
logging.getLogger("penstock.server").info("served %s", 5)
logging.getLogger("uvicorn.error").info("chatter")
logging.getLogger("uvicorn.error").warning("uvicorn warns")
logs.audit("key.revoke", key="key_1", by=None)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("penstock.server").exception("request %s failed", "req_1")
"""


def run(*, as_json: bool, level: str = "info"):
    code = LOGGING.format(as_json=as_json, level=level)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == ""
    return done.stderr


def test_json_lines_for_machines():
    rows = [json.loads(line) for line in run(as_json=True).splitlines()]
    assert [row["event"] for row in rows] == ["served 5", "uvicorn warns", "key.revoke", "request req_1 failed"]
    assert [row["level"] for row in rows] == ["info", "warning", "info", "error"]
    assert all(row["timestamp"].endswith("Z") for row in rows)
    assert rows[0]["logger"] == "penstock.server"
    assert rows[2]["key"] == "key_1"
    assert "by" not in rows[2]
    assert "ZeroDivisionError" in rows[3]["exception"]


def test_text_for_people_without_colours_in_a_file():
    text = run(as_json=False)
    assert "served 5" in text
    assert "chatter" not in text
    assert "ZeroDivisionError" in text
    assert "\x1b[" not in text


@pytest.mark.parametrize(
    ("level", "count"),
    [("debug", 4), ("warning", 3), ("error", 2)],
)
def test_levels_hold_for_everything_but_the_audit_trail(level, count):
    assert len(run(as_json=True, level=level).splitlines()) == count


def test_an_unknown_level_is_an_error():
    with pytest.raises(KeyError):
        logs.configure(as_json=False, level="loud")
