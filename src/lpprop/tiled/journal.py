"""Finished tiles on the disk, and a journal of them, so that a run that was ended continues.

Beside the result `out.tif` stands the folder `.out.tif.part`, with the numbers of each kind of
result as they come, and `journal.jsonl`: in its first line what the run is, then one line per
finished tile with a checksum of its numbers. A line is written after the numbers. So whatever ends
a run, each tile in the journal is either whole, or its checksum tells that it is not.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lpprop._core.errors import InputError
from lpprop.tiled.tiles import Box

try:
    import fcntl
except ImportError:  # Windows has other locks, and lets nobody delete what is open
    fcntl = None  # type: ignore[assignment]

__all__ = ["Journal", "Layer", "differences", "part_folder", "remove_part"]


class Layer(NamedTuple):
    """One kind of result: numbers (bands, H, W)."""

    bands: int
    dtype: str


def part_folder(out: Path) -> Path:
    """Return the folder in which the tiles of a result wait until all are there."""
    return out.parent / f".{out.name}.part"


def remove_part(out: Path) -> None:
    """Remove the folder of a result's tiles; renamed first, so that a kill leaves no half of it."""
    gone = out.parent / f".{out.name}.gone"
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(FileNotFoundError):
        part_folder(out).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


class Journal:
    """The tiles of one run.

    Args:
        folder: where they are kept; made if missing.
        name: of this journal within the folder.
        run: what the run is, in values that JSON has: a run that differs cannot continue it.
        size: (H, W) of the results.
        cores: the box of each tile.
        layers: the kinds of results by name.
        overwrite: whether to drop the tiles of a run that differs, instead of refusing.

    Raises:
        InputError: the folder holds another run's tiles, or another process writes to it.
        OSError: the folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        run: Mapping[str, Any],
        size: tuple[int, int],
        cores: Sequence[Box],
        layers: Mapping[str, Layer],
        *,
        overwrite: bool = False,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.size, self.cores, self.layers = folder, size, cores, layers
        self._data: dict[str, BinaryIO] = {}
        self._file = (folder / f"{name}.jsonl").open("ab+")
        try:
            self._begin(name, json.loads(json.dumps(run, default=str)), overwrite)
        except BaseException:
            self.close()
            raise

    def _begin(self, name: str, run: Mapping[str, Any], overwrite: bool) -> None:
        """Lock and read the journal, and open the files of numbers."""
        self._lock()
        lines = self._load()
        changed = list(differences(lines[0], run)) if lines else []
        if changed and not overwrite:
            raise InputError.of(
                "out",
                got=f"{self.folder}, whose tiles were made otherwise ({'; '.join(changed[:3])})",
                expected="none, or tiles of the same inputs and options",
                fix="Pass overwrite=True to begin anew, or what was passed before.",
            )
        if changed or not lines:
            lines = []
            self._file.truncate(0)
            self._add(run)
        height, width = self.size
        for key, layer in self.layers.items():
            path = self.folder / f"{name}_{key}.raw"
            self._data[key] = path.open("r+b" if path.exists() else "w+b")
            self._data[key].truncate(layer.bands * height * width * self._dtype(key).itemsize)
        self.done = {line["tile"] for line in lines[1:] if self._is_whole(line)}

    def __enter__(self) -> Journal:
        """Return the journal."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def close(self) -> None:
        """Close the files, which releases the lock."""
        for file in (*self._data.values(), self._file):
            with suppress(OSError):  # what is not on the disk fails at the write already
                file.close()

    def write(self, tile: int, results: Mapping[str, NDArray[Any]]) -> None:
        """Keep the results (bands, y, x) of a tile's core, and enter it into the journal."""
        check = 0
        for key in self.layers:
            numbers = np.ascontiguousarray(results[key], self._dtype(key))
            for place, row in zip(
                self._rows(key, self.cores[tile]), _rows_of(numbers), strict=True
            ):
                self._data[key].seek(place)
                self._data[key].write(row)
                check = zlib.crc32(row, check)
            self._data[key].flush()
        self._add({"tile": tile, "crc": check})
        self.done.add(tile)

    def read(self, key: str, box: Box, band: int | None = None) -> NDArray[Any]:
        """Read the numbers (bands, y, x) of a box, of all bands or of one."""
        dtype, data, parts = self._dtype(key), self._data[key], []
        for place in self._rows(key, box, band):
            data.seek(place)
            parts.append(data.read((box.right - box.left) * dtype.itemsize))
        return np.frombuffer(b"".join(parts), dtype).reshape(-1, *box.size)

    def _dtype(self, key: str) -> np.dtype[Any]:
        return np.dtype(self.layers[key].dtype)

    def _rows(self, key: str, box: Box, band: int | None = None) -> Iterator[int]:
        """Yield where each row of a box begins, band by band."""
        height, width = self.size
        for chosen in range(self.layers[key].bands) if band is None else [band]:
            for y in range(box.top, box.bottom):
                yield ((chosen * height + y) * width + box.left) * self._dtype(key).itemsize

    def _is_whole(self, line: Mapping[str, Any]) -> bool:
        check = 0
        for key in self.layers:
            for row in _rows_of(self.read(key, self.cores[line["tile"]])):
                check = zlib.crc32(row, check)
        return bool(check == line["crc"])

    def _add(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()

    def _load(self) -> list[dict[str, Any]]:
        """Read the lines; whatever follows one that is cut off or malformed is dropped."""
        self._file.seek(0)
        lines: list[dict[str, Any]] = []
        end = 0
        for text in self._file:
            try:
                line = json.loads(text)
                whole = text.endswith(b"\n") and isinstance(line, dict)
                known = not lines or 0 <= line["tile"] < len(self.cores)
            except (ValueError, KeyError, TypeError):
                break
            if not (whole and known):
                break
            lines.append(line)
            end += len(text)
        self._file.truncate(end)
        self._file.seek(0, os.SEEK_END)
        return lines

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError.of(
                "out",
                got=f"{self.folder}, to which another process writes",
                expected="one process per result",
                fix="Wait until it ends, or choose another name.",
            ) from None
        except OSError:  # a file system without locks
            pass


def _rows_of(numbers: NDArray[Any]) -> Iterator[bytes]:
    for row in numbers.reshape(-1, numbers.shape[-1]):
        yield row.tobytes()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield in words how two descriptions of a run differ; paths and times of files do not count.

    >>> list(differences({"tile": 512, "image": {"sha256": "a"}}, {"tile": 256, "image": None}))
    ['tile was 512 and is 256', "image was {'sha256': 'a'} and is None"]
    """
    for name in dict.fromkeys([*new, *old]):
        before, now = old.get(name), new.get(name)
        if before == now or name in ("path", "mtime_ns"):
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            yield from differences(before, now, name)
        elif name in ("sha256", "size"):
            yield f"the content of {within} has changed"
            return
        else:
            yield f"{name}{f' of {within}' * bool(within)} was {before} and is {now}"
