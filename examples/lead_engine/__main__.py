"""Run the application: `python -m lead_engine`; `--settings` prints the table of the README."""

from __future__ import annotations

import logging
import sys

import uvicorn

from lead_engine.app import create_app
from lead_engine.settings import SettingsError, read, table
from penstock import ConfigError


def main() -> int:
    """Serve until stopped."""
    if "--settings" in sys.argv:
        print(table())
        return 0
    try:
        settings = read()
        logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level=settings.log_level.lower())
    except (SettingsError, ConfigError) as error:
        print(f"lead_engine: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
