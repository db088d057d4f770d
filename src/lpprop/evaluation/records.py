"""A run on disk: its configuration, and a line for each image that is done.

    out/config.json             the configuration; a resumed run must have the same
    out/<predictor>.jsonl       one JSON object per image, appended when it is done
    out/results.json, .md       the report, written at the end

A line that is not whole, or that cannot be of this run, is dropped, and its image is done again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_integer
from lpprop.evaluation.datasets.layout import no_folder
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.io.atomic import atomic_write

__all__ = [
    "CONFIG",
    "Records",
    "empty_metrics",
    "load_config",
    "load_records",
    "lock",
    "merge_config",
    "write_json",
]

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
        described, names = config["dataset"], config["dataset"]["class_names"]
        check_integer("samples", described["samples"])
        if not all(isinstance(text, str) for text in (described["name"], *names)):
            raise TypeError("names that are no words")
        predictors = config["predictors"].values()
        if not predictors or not all(isinstance(one, dict) for one in predictors):
            raise TypeError("no predictors with a description")
        empty_metrics(config)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError.of(
            "out",
            got=f"{path}, which is damaged ({error})",
            expected="the configuration of a run",
            fix="Choose another folder.",
        ) from error
    return dict(config)


def empty_metrics(config: Mapping[str, Any]) -> SegmentationMetrics:
    """Return metrics without counts, with the settings of a run."""
    return SegmentationMetrics(len(config["dataset"]["class_names"]), **config["metrics"])


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
        config: the run's configuration.

    Attributes:
        done: the records by the index of their image.
        broken: number of lines that were not whole, or that cannot be of this run.
    """

    def __init__(self, folder: Path | None, predictor: str, config: Mapping[str, Any]) -> None:
        name = quote(predictor, safe=" +=,()", errors="surrogatepass")
        self.path = None if folder is None else folder / f"{name}.jsonl"
        self.done: dict[int, dict[str, Any]] = {}
        self.broken = 0
        self._run = _hash_run(predictor, config)
        settings, samples = empty_metrics(config).settings, config["dataset"]["samples"]
        whole: list[bytes] = []
        content = b"" if self.path is None or not self.path.is_file() else self.path.read_bytes()
        for line in content.splitlines(keepends=True):
            record = _parse(line, settings, samples)
            if record is None or record.get("run") != self._run:
                self.broken += 1
                continue
            whole.append(line)
            self.done[record["index"]] = record
        self._mended = b"".join(whole) if self.broken else None
        self._tidy = len(whole) == len(self.done)

    def in_order(self, limit: int | None = None) -> list[dict[str, Any]]:
        """List the records by the index of their image; with a limit those below it."""
        indices = sorted(index for index in self.done if limit is None or index < limit)
        return [self.done[index] for index in indices]

    def drop(self, index: int) -> None:
        """Drop the record of an image; its line stays in the file until `tidy`."""
        if self.done.pop(index, None) is not None:
            self._tidy = False

    def add(self, record: dict[str, Any]) -> None:
        """Append a record; once this returns, a kill of this process does not lose it.

        Raises:
            OSError: the line could not be written in full, such as on a full disk.
        """
        record = {**record, "run": self._run}
        if self.path is not None:
            if self._mended is not None:
                _replace(self.path, self._mended)
                self._mended = None
            # One unbuffered write per line, so that lines are never interleaved. A disk that is
            # full takes a part of it; the write of the rest then says so.
            with self.path.open("ab", buffering=0) as file:
                rest = _line(record)
                while rest:
                    rest = rest[file.write(rest) :]
        self.done[record["index"]] = record

    def tidy(self) -> None:
        """Leave the file with the records alone, without lines that are broken or were dropped."""
        if self.path is not None and not (self._tidy and self._mended is None):
            _replace(self.path, b"".join(map(_line, self.in_order())))


def load_records(folder: Path | None, config: Mapping[str, Any]) -> dict[str, Records]:
    """Load the records of all predictors of a run, and warn of lines that were dropped."""
    records = {name: Records(folder, name, config) for name in config["predictors"]}
    for one in records.values():
        if one.broken:
            warn(
                f"broken {one.path}",
                f"out: {one.broken} {'line' if one.broken == 1 else 'lines'} of {one.path} are cut "
                "off, damaged or of another run: left out, and their images are done again.",
            )
    return records


def _hash_run(predictor: str, config: Mapping[str, Any]) -> str:
    """Hash what the records of a predictor depend on, so that those of another run are told."""
    shared = {part: config[part] for part in config if part not in ("predictors", *_MAY_DIFFER)}
    whole = [predictor, config["predictors"][predictor], shared]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, separators=(",", ":")) + "\n").encode()


def _replace(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _parse(line: bytes, settings: Mapping[str, Any], samples: int) -> dict[str, Any] | None:
    """Read a line; return None for one that is not whole, or that cannot be of this run."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
        index, seconds, files = record["index"], record["seconds"], record["files"]
        texts = [record["image"], *record["warnings"], *files["image"], *files["labels"]]
        usable = (
            type(index) is int
            and 0 <= index < samples
            and type(seconds) in (int, float)
            and 0 <= seconds < math.inf
            and isinstance(record["warnings"], list)
            and (len(files["image"]), len(files["labels"])) == (2, 2)
            and all(isinstance(text, str) for text in texts)
        )
        usable &= SegmentationMetrics.from_dict(record["metrics"]).settings == settings
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return dict(record) if usable else None


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while one is at work there.

    The operating system releases the lock when the process ends, however it ends. On Windows, which
    has no such lock, none is taken.

    Raises:
        InputError: another run is at work, or the path is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise no_folder("out", folder)
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
