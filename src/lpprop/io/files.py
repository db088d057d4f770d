"""What all readers share: is the file there, is it damaged, and which files does a folder hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lpprop._core.errors import InputError

__all__ = ["list_folder", "refuse_damaged", "require_file"]


def require_file(path: Path, argument: str) -> None:
    """Refuse a path without a file, or with an empty one."""
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        raise InputError.of(
            argument, got=f"{path}, which {state}", expected="a file", fix="Check the path."
        )
    if path.stat().st_size == 0:
        raise InputError.of(
            argument, got=f"{path}, which is empty", expected="data", fix="Write it again."
        )


@contextmanager
def refuse_damaged(path: Path, argument: str, expected: str) -> Iterator[None]:
    """Require a file, and turn any error of the reader inside into one that names the file.

    Args:
        path: the file that is read inside.
        argument: what errors call it.
        expected: what an undamaged file is, for the message.

    Raises:
        InputError: a file that is missing or empty, or whatever went wrong inside.
    """
    require_file(path, argument)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise SyntaxError, struct.error, zlib.error and more
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
        raise InputError.of(
            argument,
            got=f"{path}, which cannot be read ({reason})",
            expected=expected,
            fix="It may be cut off, or of another format than its name says: write or download it "
            "again.",
        ) from error


def list_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files with one of the suffixes by name, hidden ones left out."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )
