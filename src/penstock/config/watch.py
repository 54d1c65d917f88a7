"""Noticing that a file has changed."""

from __future__ import annotations

import os
from typing import NamedTuple, Self


class FileStamp(NamedTuple):
    """What changes when a file is written or replaced.

    Attributes:
        modified_ns: Time of the last change, nanoseconds since the epoch.
        inode: Number of the file on its device; a new one when it was replaced, or a symbolic link points elsewhere.
        size: Bytes.
    """

    modified_ns: int
    inode: int
    size: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        """Stamp the file at `path`; None when there is none, as between the two steps of some editors' saving."""
        try:
            status = os.stat(path)
        except OSError:
            return None
        return cls(status.st_mtime_ns, status.st_ino, status.st_size)


def changed(path: str, seen: FileStamp | None) -> FileStamp | None:
    """The file's new stamp if it differs from the one last `seen`; None when it does not, or there is no file."""
    now = FileStamp.of(path)
    return now if now != seen else None


def stamps(directory: str) -> dict[str, FileStamp]:
    """Stamp the files in `directory`, by name, but those that begin with a dot; nothing if there is none."""
    try:
        names = sorted(name for name in os.listdir(directory) if not name.startswith("."))
    except OSError:
        return {}
    found = ((name, FileStamp.of(os.path.join(directory, name))) for name in names)
    return {name: stamp for name, stamp in found if stamp is not None}
