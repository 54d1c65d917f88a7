"""Where the processes of a gateway meet: a directory of their own, in memory if possible."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_IN_MEMORY = "/dev/shm"
"""Where Linux keeps files that are on no disk."""
_PREFIX = "penstock-"


@contextmanager
def meeting_place() -> Iterator[str]:
    """Make the directory, which only this user may enter; it is removed afterwards.

    What gateways left that were killed as a whole is removed too.
    """
    # A disk would be written to with all that workers count. Whoever says where temporary files go has a reason.
    in_memory = "TMPDIR" not in os.environ and os.access(_IN_MEMORY, os.W_OK)
    parent = _IN_MEMORY if in_memory else tempfile.gettempdir()
    for left in Path(parent).glob(f"{_PREFIX}*"):
        if _left(left):
            shutil.rmtree(left, ignore_errors=True)
    directory = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _left(directory: Path) -> bool:
    """Whether it has sockets, of this user's, and nobody listens at any; one that is being made has none yet."""
    try:
        if directory.is_symlink() or directory.lstat().st_uid != os.geteuid():
            return False
        sockets = list(directory.glob("*.sock"))
    except OSError:
        return False
    return bool(sockets) and not any(map(_answers, sockets))


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # who knows
    return True
