"""What endpoints share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from lead_engine.services import Services


def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Running = Annotated[Services, Depends(_services)]
