"""Places at which a test can kill the process, to see what survives.

    PENSTOCK_FAILPOINT=spool-append.after:3 penstock serve

kills the process (``SIGKILL``) when `spool-append` has been done for the third time. Each place is a function, with the
points ``before`` and ``after`` it and, where only part of it can happen, ``during``. Read once, when the functions are
defined: without the variable they are what they would be without failpoints.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar, cast

VARIABLE = "PENSTOCK_FAILPOINT"
POINTS: dict[str, tuple[str, ...]] = {}
"""The points there are, by the name of their place."""

F = TypeVar("F", bound=Callable[..., Any])


def failpoint(
    place: str, *, during: Callable[..., object] | None = None, environ: Mapping[str, str] = os.environ
) -> Callable[[F], F]:
    """Make a function a place to be killed at.

    Args:
        place: Its name.
        during: Does a part of what the function does.
        environ: Where it is looked up whether the place is meant.
    """
    POINTS[place] = ("before", "after") if during is None else ("before", "during", "after")

    def arm(function: F) -> F:
        meant, _, count = environ.get(VARIABLE, "").partition(":")
        name, _, point = meant.partition(".")
        if name != place:
            return function
        passes = iter(range(int(count or 1) - 1, -1, -1))

        @wraps(function)
        def armed(*args: object, **kwargs: object) -> object:
            last = next(passes, 0) == 0
            if last and point == "after":
                function(*args, **kwargs)
            elif last and point == "during" and during is not None:
                during(*args, **kwargs)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return cast(F, armed)

    return arm
