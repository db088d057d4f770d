"""Keep the machine code of kernels on disk, for the processes to come.

Whoever can write the files can run code as this user. So a folder or file that belongs to another
user, or that others can write to, is not used. Nothing here fails: without a file, LLVM compiles.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["find_folder", "read_object", "write_object"]

# More than a thousand kernels, of 1 to 12 KB each.
_MOST_BYTES = 16 * 2**20


def find_folder() -> Path:
    """Name the folder: `kernels` in `LPPROP_CACHE`, or in `lpprop` among the user's caches.

    Raises:
        OSError: there is none: the variable is empty, or relative, or there is no home folder. On
            Windows there never is, since Python does not tell there who may write to a file.
    """
    caches = "Library/Caches" if sys.platform == "darwin" else ".cache"
    try:
        default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / caches, "lpprop")
    except RuntimeError:
        default = Path()
    folder = Path(os.environ.get("LPPROP_CACHE", default))
    if not (folder.is_absolute() and hasattr(os, "geteuid")):
        raise FileNotFoundError("machine code is not kept on disk here")
    return folder / "kernels"


def read_object(key: str) -> bytes | None:
    """Return the object code that was written for a key, if it is there and undamaged."""
    try:
        with _open_folder() as folder, _open(key, "rb", folder) as file:
            _check_owner(file.fileno())
            content = file.read()
    except OSError:
        return None
    digest, code = content[:32], content[32:]
    return code if digest == _digest(key, code) else None


def write_object(key: str, code: bytes) -> None:
    """Keep the object code of a key, and remove the oldest files where there are too many."""
    # Other processes may write the same file: it takes its name only when it is complete.
    temporary = f".{secrets.token_hex(16)}"
    with suppress(OSError), _open_folder() as folder:
        try:
            with _open(temporary, "xb", folder) as file:
                file.write(_digest(key, code) + code)
            os.replace(temporary, key, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise
        _remove_oldest(folder)


@contextmanager
def _open_folder() -> Iterator[int]:
    """Open the folder, made where it is missing. What is checked is what is used: a descriptor."""
    path = find_folder()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _check_owner(folder)
        yield folder
    finally:
        os.close(folder)


def _open(name: str, mode: str, folder: int) -> Any:
    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=folder)

    return open(name, mode, opener=opener)


def _check_owner(descriptor: int) -> None:
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise PermissionError("not this user's, or others can write to it")


def _digest(key: str, code: bytes) -> bytes:
    return hashlib.sha256(key.encode() + code).digest()


def _remove_oldest(folder: int) -> None:
    with os.scandir(folder) as entries:
        files = sorted((e.stat().st_mtime_ns, e.stat().st_size, e.name) for e in entries)
    held = sum(size for _, size, _ in files)
    while held > _MOST_BYTES:
        _, size, name = files.pop(0)
        os.unlink(name, dir_fd=folder)
        held -= size
