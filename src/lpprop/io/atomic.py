"""Files that are whole or absent."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows, which does not let go of a file that a process has open
    fcntl = None  # type: ignore[assignment]

__all__ = ["atomic_write", "remove_abandoned"]

_PREFIX, _SUFFIX = ".lpprop-", ".tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when it is complete.

    Until then it has a hidden name in the same folder, and a lock that the system releases when
    this process ends. An error or Ctrl-C removes it, and leaves the file that stood at `path`
    before; what a kill leaves behind, `remove_abandoned` removes.
    """
    temporary, file = _create(path.parent)
    try:
        with file:
            yield file
            file.flush()
            if fcntl is not None:
                temporary.replace(path)  # before the lock goes with the handle
        if fcntl is None:
            temporary.replace(path)  # Windows renames no open file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _create(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        temporary = folder / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
        file = temporary.open("xb")
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, file
        file.close()  # `remove_abandoned` of another process was here before the lock


def remove_abandoned(folder: Path) -> None:
    """Remove the unfinished files in a folder whose process was killed; leave those of live ones.

    >>> remove_abandoned(Path("."))
    """
    for temporary in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with suppress(OSError):  # it is locked or open elsewhere, or gone
            if fcntl is None:
                temporary.unlink()
                continue
            with temporary.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink()
