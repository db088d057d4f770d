"""A run on disk: its configuration, and a line for each image that is done.

    out/config.json             the configuration; a resumed run must have the same
    out/<predictor>.jsonl       one JSON object per image, appended when it is done
    out/results.json, .md       the report, written at the end

A line that was cut off when the run was killed is dropped, and its image is done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lpprop._core.errors import InputError
from lpprop.io.atomic import atomic_write

__all__ = ["CONFIG", "Records", "load_config", "lock", "merge_config", "write_json"]

CONFIG = "config.json"

#: Keys that may differ when a run is resumed.
_MAY_DIFFER = ("run",)


def load_config(folder: Path) -> dict[str, Any] | None:
    """Read the configuration of the run in a folder, if there is one.

    Raises:
        InputError: a file that is not a configuration.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config["predictors"], dict):
            raise TypeError("no predictors")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError.of(
            "out",
            got=f"{path}, which is damaged ({error})",
            expected="the configuration of a run",
            fix="Choose another folder.",
        ) from error
    return dict(config)


def merge_config(folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a run's configuration with that of the run in its folder.

    New predictors are added. Everything that both configurations have must be equal.

    Raises:
        InputError: another configuration; the message has the first difference.
    """
    old, new = load_config(folder), json.loads(json.dumps(config, default=str))
    if old is None:
        return dict(new)
    shared = [name for name in new["predictors"] if name in old["predictors"]]
    parts = {part for part in (*old, *new) if part not in ("predictors", *_MAY_DIFFER)}
    pairs = [
        *((part, old.get(part), new.get(part)) for part in sorted(parts)),
        *((name, old["predictors"][name], new["predictors"][name]) for name in shared),
    ]
    for where, was, is_now in (found for pair in pairs for found in _find_differences(*pair)):
        raise InputError.of(
            "out",
            got=f"{folder}, which holds a run with {where} = {_shorten(was)}",
            expected=f"{_shorten(is_now)}, as in this run",
            fix="Choose another folder, or remove this one to start again.",
        )
    return {**new, "predictors": old["predictors"] | new["predictors"]}


def _find_differences(where: str, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the places where two JSON values differ, with both values there."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _find_differences(f"{where}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield where, old, new


def _shorten(value: Any) -> str:
    text = " ".join(str(json.dumps(value)).split())
    return text if len(text) <= 300 else f"{text[:297]}..."


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(value, indent=2) + "\n").encode())


class Records:
    """The records of one predictor, one line of its file per image.

    Args:
        folder: the run's folder; None keeps the records in memory only.
        predictor: the predictor's name.

    Attributes:
        done: the records by the index of their image.
    """

    def __init__(self, folder: Path | None, predictor: str) -> None:
        self.path = None if folder is None else folder / f"{quote(predictor, safe=' +=,()')}.jsonl"
        self.done: dict[int, dict[str, Any]] = {}
        whole: list[bytes] = []
        content = b"" if self.path is None or not self.path.is_file() else self.path.read_bytes()
        for line in content.splitlines(keepends=True):
            record = _parse(line)
            if record is not None:
                whole.append(line)
                self.done[record["index"]] = record
        self._mended = None if b"".join(whole) == content else b"".join(whole)

    def in_order(self, limit: int | None = None) -> list[dict[str, Any]]:
        """List the records by the index of their image; with a limit those below it."""
        indices = sorted(index for index in self.done if limit is None or index < limit)
        return [self.done[index] for index in indices]

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; once this returns, a kill of this process does not lose it."""
        self.done[record["index"]] = record
        if self.path is None:
            return
        if self._mended is not None:
            with atomic_write(self.path) as file:
                file.write(self._mended)
            self._mended = None
        # One unbuffered write per line, so that lines are never interleaved.
        with self.path.open("ab", buffering=0) as file:
            file.write((json.dumps(record, separators=(",", ":")) + "\n").encode())


def _parse(line: bytes) -> dict[str, Any] | None:
    """Read a line; return None for a line that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
        return record if {"index", "image", "seconds", "metrics"} <= record.keys() else None
    except (ValueError, AttributeError):
        return None


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while one is at work there.

    The operating system releases the lock when the process ends, however it ends. On Windows, which
    has no such lock, none is taken.

    Raises:
        InputError: another run is at work.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InputError.of(
            "out",
            got=f"{folder}, in which another run is at work",
            expected="a folder that no other run uses",
            fix="Wait until the other run has ended, or choose another folder.",
        ) from None
    finally:
        os.close(handle)
