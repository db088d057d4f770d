"""What all readers share: is a file there, damaged or changed, and which files a folder holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lpprop._core.errors import InputError

__all__ = [
    "describe_source",
    "fingerprint",
    "is_unchanged",
    "list_folder",
    "refuse_damaged",
    "require_file",
]


def require_file(path: Path, argument: str, expected: str = "a file") -> None:
    """Refuse a path without a file, or with an empty one."""
    if not path.is_file():
        state = "is not a file" if path.exists() else "does not exist"
        if not path.parent.exists():
            state += f", since there is no folder {path.parent}"
        raise InputError.of(
            argument, got=f"{path}, which {state}", expected=expected, fix="Check the path."
        )
    if path.stat().st_size == 0:
        raise InputError.of(
            argument, got=f"{path}, which is empty", expected="data", fix="Write it again."
        )


@contextmanager
def refuse_damaged(source: Path | bytes, argument: str, expected: str) -> Iterator[None]:
    """Require a file, and turn any error of the reader inside into one that names the file.

    Args:
        source: the file that is read inside, or its content.
        argument: what errors call it.
        expected: what an undamaged file is, for the message.

    Raises:
        InputError: a file that is missing or empty, or whatever went wrong inside.
    """
    if isinstance(source, Path):
        require_file(source, argument)
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # decoders raise SyntaxError, struct.error, zlib.error and more
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = re.sub(r"<[\w.]+ object at 0x\w+>", "its content", reason)[:150]
        raise InputError.of(
            argument,
            got=f"{describe_source(source)}, which cannot be read ({reason})",
            expected=expected,
            fix="It may be cut off, or of another format than its name says: write or download it "
            "again.",
        ) from error


def describe_source(source: Path | bytes) -> str:
    """Say what is read: a file by its path, or how many bytes.

    >>> describe_source(Path("a.png")), describe_source(b"12")
    ('a.png', 'a file of 2 bytes')
    """
    return str(source) if isinstance(source, Path) else f"a file of {len(source)} bytes"


def fingerprint(path: Path) -> dict[str, Any]:
    """Describe a file's content, so that `is_unchanged` can tell later whether it is still that."""
    state = path.stat()
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "path": str(path.resolve()), "size": state.st_size, "mtime_ns": state.st_mtime_ns,
        "sha256": content,
    }  # fmt: skip


def is_unchanged(path: Path, before: Mapping[str, Any]) -> bool:
    """Tell whether a file has the content of a fingerprint.

    The same file with the same size and time is taken for unchanged; otherwise the content decides.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     a, b = Path(folder, "a"), Path(folder, "b")
    ...     _ = a.write_text("0"), b.write_text("0")
    ...     is_unchanged(b, fingerprint(a))
    True
    """
    state = path.stat()
    if state.st_size != before["size"]:
        return False
    same_place = str(path.resolve()) == before["path"]
    if same_place and state.st_mtime_ns == before["mtime_ns"]:
        return True
    return bool(fingerprint(path)["sha256"] == before["sha256"])


def list_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files with one of the suffixes by name, hidden ones left out."""
    return sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.is_file()
    )
