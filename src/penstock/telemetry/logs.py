"""Set-up of logs: one line a happening, as text for people or JSON for machines.

Requests are not logged, they are recorded: see `penstock.layers.record`.
"""

from __future__ import annotations

import logging
import sys

import structlog

_AUDIT = "penstock.audit"
_CHATTY = ("alembic", "uvicorn")
"""Libraries that tell at level info what nobody has to act on."""

_SHARED: list[structlog.typing.Processor] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(*, as_json: bool, level: str = "info") -> None:
    """Send all logs, Penstock's and the libraries', to stderr.

    Args:
        as_json: One JSON object a line instead of text.
        level: ``debug``, ``info``, ``warning`` or ``error``.

    Raises:
        KeyError: `level` is not one of these.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    logging.getLogger(_AUDIT).setLevel(logging.INFO)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )


def audit(action: str, **fields: object) -> None:
    """Log a change that somebody made, e.g. to a key; never with a secret.

    Args:
        action: What was done, e.g. ``key.revoke``.
        fields: To what, and by whom; None is left out.
    """
    known = {name: value for name, value in fields.items() if value is not None}
    structlog.wrap_logger(
        logging.getLogger(_AUDIT),
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).info(action, **known)
