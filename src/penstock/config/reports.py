"""Settings of reports that are sent by themselves."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from penstock.config.section import Section

Weekday = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Group = Literal[
    "model", "tenant", "team", "organisation", "key", "provider", "operation", "name", "tag", "cache", "outcome"
]  # fmt: skip


def _time(value: str) -> str:
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value):
        raise ValueError('expected a time of the day such as "02:00"; in quotes, for YAML takes 12:30 for a number')
    return value


class ReportSettings(Section):
    """A report that is sent once a day or once a week."""

    name: str = Field(min_length=1, max_length=100, description="Unique; processes that share a store send it once.")
    every: Literal["day", "week"] = Field("day", description="How often, and how far it looks back.")
    at: Annotated[str, AfterValidator(_time)] = Field("02:00", description="When, in UTC.")
    weekday: Weekday = Field("monday", description="On which day, if once a week.")
    by: list[Group] = Field(["model", "tenant"], description="What it is split by.")
    tenant: str | None = Field(None, min_length=1, description="Whose calls; by default everybody's.")
    format: Literal["text", "html", "csv", "json"] = Field(
        "html", description="What is attached to a mail, whose text has the figures in any case."
    )
    sinks: list[str] = Field(min_length=1, description="Where it goes: names of `sinks`.")
