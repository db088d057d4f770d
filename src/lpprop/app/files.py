"""The files of each visit to the page, which go when it ends."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lpprop._core.errors import InputError
from lpprop.app.limits import Limits

__all__ = ["SessionFiles", "temporary_root"]

_PREFIX = "lpprop-app-"
# What a file counts at least, so that a million empty ones are too many as well.
_LEAST_BYTES = 2**16


class SessionFiles:
    """The folder from which files are served, and who each of them belongs to.

    Args:
        root: the folder; everything that an upload or a result writes lies in it.
        limits: how long a file is kept whose session has not ended, and how much fits in.
    """

    def __init__(self, root: Path, limits: Limits) -> None:
        self.root = root
        self.limits = limits
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()
        self._owners: dict[Path, set[str]] = {}
        self._kept: frozenset[Path] = frozenset()
        self._counted = (float("-inf"), 0)

    def write(self, session: str, name: str, write: Callable[[BinaryIO], object]) -> Path:
        """Write a file that goes when the session ends.

        Args:
            session: whose it is.
            name: what it is called when it is downloaded: no text of the user.
            write: what is called with the open file.

        Raises:
            InputError: the folder is full.
        """
        self.check_room()
        path = self._folder(session) / secrets.token_hex(8) / name
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            write(file)
        return path

    def adopt(self, session: str, path: Path) -> None:
        """Let an uploaded file go when the session ends, or the last one that has adopted it.

        The same file uploaded by two users is one file. A path that `holds` refuses is left alone.
        """
        if self.holds(path):
            with self._lock:
                self._owners.setdefault(path.resolve(), set()).add(session)

    def holds(self, path: Path) -> bool:
        """Tell whether a path lies in the root, also after links in it are followed."""
        return self.root.resolve() in path.resolve().parents

    def forget(self, session: str) -> None:
        """Delete all files of a session that has ended."""
        shutil.rmtree(self._folder(session), ignore_errors=True)
        with self._lock:
            for path in [path for path, owners in self._owners.items() if session in owners]:
                self._owners[path].discard(session)
                if not self._owners[path]:
                    del self._owners[path]
                    _delete(path)

    def keep_present(self) -> None:
        """Keep what is there now, such as the examples, as long as the page runs."""
        self._kept = frozenset(path for path, _ in self._walk())

    def sweep(self, now: float | None = None) -> None:
        """Delete files that are older than `limits.minutes`, whoever they belong to.

        Args:
            now: the time, as of `time.time`.
        """
        oldest = (time.time() if now is None else now) - 60 * self.limits.minutes
        for path, state in self._walk():
            if state.st_mtime < oldest and path not in self._kept:
                _delete(path)
        with self._lock:
            self._owners = {path: who for path, who in self._owners.items() if path.exists()}

    def check_room(self) -> None:
        """Refuse more files than fit in.

        Raises:
            InputError: the files of all sessions exceed `limits.disk_bytes`.
        """
        counted, total = self._counted
        if time.monotonic() - counted > 1:
            total = sum(max(_LEAST_BYTES, state.st_size) for _, state in self._walk())
            self._counted = time.monotonic(), total
        if total > self.limits.disk_bytes:
            raise InputError.of(
                "files",
                got="more than the machine keeps for its users",
                expected="room",
                fix="Try again in some minutes.",
            )

    def _folder(self, session: str) -> Path:
        """Return the folder of a session, whose name nobody guesses who knows the session's."""
        return self.root / hashlib.sha256(self._secret + session.encode()).hexdigest()

    def _walk(self) -> Iterator[tuple[Path, os.stat_result]]:
        # Not Path.rglob, which fails where a folder goes meanwhile.
        for folder, _, names in os.walk(self.root):
            for name in names:
                with suppress(OSError):  # gone meanwhile
                    yield Path(folder, name), Path(folder, name).lstat()


def _delete(path: Path) -> None:
    with suppress(OSError):  # somebody else was quicker, or the folder holds another file
        path.unlink()
        path.parent.rmdir()


@contextmanager
def temporary_root() -> Iterator[Path]:
    """Make a folder that goes at the end, together with those of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdigit() and not _is_alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{_PREFIX}{os.getpid()}-", ignore_cleanup_errors=True
    ) as folder_name:
        yield Path(folder_name).resolve()


def _is_alive(process: int) -> bool:
    if os.name == "nt":  # where signal 0 would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
