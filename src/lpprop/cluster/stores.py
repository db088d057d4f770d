"""Where files are: on this machine's file systems, or in an object store, behind one interface."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop.io.atomic import atomic_write

__all__ = [
    "Store", "as_local", "is_folder", "is_url", "join", "list_files", "locate", "open_file",
    "read_file",
]  # fmt: skip


def is_url(place: str) -> bool:
    """Tell whether a place is that of an object store, such as s3://bucket/images.

    >>> is_url("s3://bucket/a"), is_url("/data/a")
    (True, False)
    """
    return "://" in place


def locate(place: str) -> str:
    """Return a place as each process finds it: a path from the root, or the URL as it is."""
    return place.rstrip("/") if is_url(place) else str(Path(place).absolute())


def join(place: str, *names: str) -> str:
    """Return the place of something within a folder, whose names may hold any characters.

    >>> join("s3://bucket/", "a", "b.png")
    's3://bucket/a/b.png'
    """
    return "/".join([place.rstrip("/") or "/", *names]).replace("//", "/", place == "/")


class Store:
    """A folder, local or in an object store, in which files are whole or absent.

    Args:
        root: a path, or a URL that pyarrow or fsspec knows: s3://, gs://, hdfs://, file://, ...

    Attributes:
        root: the path, absolute, or the URL.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store(folder)
    ...     store.write("a/b.txt", b"12")
    ...     store.read("a/b.txt"), store.sizes("a")
    (b'12', {'b.txt': 2})
    """

    def __init__(self, root: str) -> None:
        self.root = locate(root)

    @property
    def is_local(self) -> bool:
        """Whether the folder is one of this machine's file systems."""
        return not is_url(self.root)

    def path(self, name: str) -> str:
        """Return the place of a file in the folder."""
        return join(self.root, name)

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be read.
        """
        return read_file(self.path(name))

    def write(self, name: str, content: bytes) -> None:
        """Write a file, whole or not at all, in place of the one that is there.

        Raises:
            OSError: it cannot be written; nothing is left behind.
        """
        if self.is_local:
            path = Path(self.root, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(content)
            return
        files, path_there = _find(self.path(name))
        if "s3" not in files.type_name and "gcs" not in files.type_name:
            files.create_dir(path_there.rpartition("/")[0], recursive=True)
        # An object takes its name when the stream is closed: it is whole or absent.
        with files.open_output_stream(path_there) as stream:
            stream.write(content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        files, path = _find(self.path(name))
        with suppress(FileNotFoundError):
            files.delete_file(path)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """List the files in a folder with their bytes, hidden ones left out; {} if it is absent."""
        return {
            name: size
            for name, size in list_files(join(self.root, folder) if folder else self.root)
            if not name.rpartition("/")[2].startswith(".")
        }


def list_files(place: str, *, recursive: bool = False) -> list[tuple[str, int]]:
    """List the files of a folder, by their path within it, with their bytes, in order."""
    from pyarrow.fs import FileSelector, FileType

    files, path = _find(place)
    found = files.get_file_info(FileSelector(path, allow_not_found=True, recursive=recursive))
    start = len(path.rstrip("/")) + 1
    return sorted((one.path[start:], one.size) for one in found if one.type == FileType.File)


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder."""
    from pyarrow.fs import FileType

    files, path = _find(place)
    return bool(files.get_file_info(path).type == FileType.Directory)


def read_file(place: str) -> bytes:
    """Return the content of a file anywhere."""
    if not is_url(place):
        return Path(place).read_bytes()
    with open_file(place) as file:
        return file.read()


@contextmanager
def open_file(place: str) -> Iterator[BinaryIO]:
    """Open a file anywhere, to be read from its begin to its end."""
    if not is_url(place):
        with Path(place).open("rb") as file:
            yield file
        return
    files, path = _find(place)
    with files.open_input_stream(path) as stream:
        yield cast(BinaryIO, stream)


@contextmanager
def as_local(place: str, content: bytes | None = None) -> Iterator[Path]:
    """Give a file a path on this machine within the block: its own, or that of a copy.

    Args:
        place: where it is.
        content: what is in it, where that has been read already.
    """
    if content is None and not is_url(place):
        yield Path(place)
        return
    handle, name = tempfile.mkstemp(suffix=Path(place).suffix)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(read_file(place) if content is None else content)
        yield Path(name)
    finally:
        Path(name).unlink()


def _find(place: str) -> tuple[Any, str]:
    """Return the file system of a place, and the path there."""
    if not is_url(place):
        return _file_system("")[0], place
    scheme, _, rest = place.partition("://")
    host, _, path = rest.partition("/")
    files, base = _file_system(f"{scheme}://{host}")
    return files, f"{base.rstrip('/')}/{path}"


@lru_cache(maxsize=64)
def _file_system(root: str) -> tuple[Any, str]:
    """Return the file system of a host or bucket, and the path of its root; each is made once."""
    with import_hint("files on a cluster need the extra ray: pip install 'lpprop[ray]'"):
        from pyarrow import ArrowInvalid, fs
    if not root:
        return fs.LocalFileSystem(), ""
    try:
        files, base = fs.FileSystem.from_uri(f"{root}/")
        return files, str(base)
    except ArrowInvalid:  # not one of pyarrow's own
        import fsspec

        try:
            files, base = fsspec.core.url_to_fs(f"{root}/")
        except (ValueError, ImportError) as error:
            raise InputError.of(
                "place",
                got=f"{root} ({error})",
                expected="a path, or a URL that pyarrow or fsspec knows, such as s3://bucket/images",
                fix="Install the package that the message names, or mount it as a folder.",
            ) from error
        return fs.PyFileSystem(fs.FSSpecHandler(files)), base
