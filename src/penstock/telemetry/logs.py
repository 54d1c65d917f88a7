"""Set-up of logs: one line a happening, as text for people or JSON for machines.

Requests are not logged, they are recorded: see `penstock.layers.record`. The formatter is our own because the libraries
that have one bring 50 ms and 10 MB into every process.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

_AUDIT = "penstock.audit"
_CHATTY = ("alembic", "uvicorn")
"""Libraries that tell at level info what nobody has to act on."""
_FIELDS = "fields"
_COLOURS = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[31m"}
_PLAIN = "\x1b[0m"


def configure(*, as_json: bool, level: str = "info", worker: int | None = None) -> None:
    """Send all logs, Penstock's and the libraries', to stderr.

    Args:
        as_json: One JSON object a line instead of text.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        worker: Said in each line: which of several processes this is.

    Raises:
        KeyError: `level` is not one of these.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLine() if as_json else _TextLine(coloured=sys.stderr.isatty()))
    if worker is not None:
        handler.addFilter(_Worker(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.getLogger(_AUDIT).setLevel(logging.INFO)


def audit(action: str, **fields: object) -> None:
    """Log a change that somebody made, e.g. to a key; never with a secret.

    Args:
        action: What was done, e.g. ``key.revoke``.
        fields: To what, and by whom; None is left out.
    """
    known = {name: value for name, value in fields.items() if value is not None}
    logging.getLogger(_AUDIT).info("%s", action, extra={_FIELDS: known})


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _fields(record: logging.LogRecord) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(record, _FIELDS, {})
    return found


class _Worker(logging.Filter):
    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number

    def filter(self, record: logging.LogRecord) -> bool:
        setattr(record, _FIELDS, {**_fields(record), "worker": self._number})
        return True


class _JsonLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            **_fields(record),
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": _when(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


class _TextLine(logging.Formatter):
    def __init__(self, *, coloured: bool) -> None:
        super().__init__()
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        level = f"[{record.levelname.lower():<8}]"
        if self._coloured and record.levelno in _COLOURS:
            level = f"{_COLOURS[record.levelno]}{level}{_PLAIN}"
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_when(record)} {level} {record.getMessage()} [{record.name}]{fields}"
        traces = [self.formatException(record.exc_info)] if record.exc_info else []
        if record.stack_info:
            traces.append(record.stack_info)
        return "\n".join([line, *traces])
