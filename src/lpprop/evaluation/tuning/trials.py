"""The settings that were tried, with the counts of each image, a line of a file per setting.

    out/config.json     the configuration; a resumed search must have the same
    out/tuning.db       Optuna's study
    out/trials.jsonl    one JSON object per setting, appended when all images are labelled by it
    out/tuning.json, tuning.md      the result, written at the end

A line that is not whole is dropped, and its setting is tried again if it is asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from lpprop.io.atomic import atomic_write

__all__ = ["Trials", "Tried"]

KINDS = ("preset", "search", "worth")


@dataclass(frozen=True, eq=False)
class Tried:
    """A setting, and what it counted.

    Attributes:
        kind: "preset" as it is, a "search"'s suggestion, or the "worth" of an option.
        method: the preset's name.
        options: what differs from the preset, or from the options that suit the start.
        seconds: mean seconds per image.
        counts: of each image and class the part and the whole of the metric's ratio; None if it
            failed.
        number: the trial of Optuna's study that suggested it, if one did.
        failed: the reason why it failed.
        warnings: what it warned of.
    """

    kind: str
    method: str
    options: Mapping[str, Any]
    seconds: float
    counts: Int[np.ndarray, "images C 2"] | None
    number: int | None = None
    failed: str = ""
    warnings: Sequence[str] = ()

    @property
    def score(self) -> float:
        """The metric, pooled over all images; NaN if it failed."""
        return math.nan if self.counts is None else pooled(self.counts)

    @property
    def key(self) -> str:
        """What tells settings apart."""
        return json.dumps([self.method, self.options], sort_keys=True)


def pooled(counts: Int[np.ndarray, "images C 2"], images: Sequence[int] | None = None) -> float:
    """Pool the counts of images, all if None, and average the ratio over the classes that occur.

    >>> pooled(np.array([[[1, 2], [0, 0]], [[0, 2], [3, 3]]]))
    0.625
    """
    part, whole = counts[slice(None) if images is None else list(images)].sum(0).T
    there = whole > 0
    return float((part[there] / whole[there]).mean()) if there.any() else math.nan


class Trials:
    """All settings that were tried in a folder, in their order.

    Args:
        folder: the run's folder.
        shape: the number of images and of classes.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.path, self._shape = folder / "trials.jsonl", shape
        self.every: list[Tried] = []
        content = self.path.read_bytes() if self.path.is_file() else b""
        lines = content.splitlines(keepends=True)
        kept = [(line, tried) for line in lines if (tried := self._read(line)) is not None]
        self.every = [tried for _, tried in kept]
        self.broken = len(lines) - len(kept)
        if self.broken:
            with atomic_write(self.path) as file:
                file.write(b"".join(line for line, _ in kept))

    def find(self, method: str, options: Mapping[str, Any]) -> Tried | None:
        """Find a setting that was tried before and did not fail."""
        key = Tried("search", method, options, 0.0, None).key
        return next((x for x in self.every if x.counts is not None and x.key == key), None)

    def add(self, tried: Tried) -> None:
        """Append a setting; once this returns, a kill of this process does not lose it.

        Raises:
            OSError: the line could not be written in full, such as on a full disk.
        """
        line = self._write(tried)
        with self.path.open("ab", buffering=0) as file:
            while line:
                line = line[file.write(line) :]
        self.every.append(tried)

    def _write(self, tried: Tried) -> bytes:
        counts = tried.counts
        listed = None
        if counts is not None:
            where = np.argwhere(counts[..., 1] > 0)
            listed = np.column_stack([where, counts[tuple(where.T)]]).tolist()
        row = {**vars(tried), "counts": listed}
        return (json.dumps(row, separators=(",", ":")) + "\n").encode()

    def _read(self, line: bytes) -> Tried | None:
        """Read a line; None for one that is not whole, or of other images or classes."""
        if not line.endswith(b"\n"):
            return None
        try:
            row = json.loads(line)
            options = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in row.pop("options").items()
            }
            listed, counts = row.pop("counts"), None
            if listed is not None:
                table = np.array(listed, dtype=np.int64).reshape(-1, 4)
                counts = np.zeros((*self._shape, 2), dtype=np.int64)
                counts[table[:, 0], table[:, 1]] = table[:, 2:]
                if (counts[..., 0] > counts[..., 1]).any() or (table < 0).any():
                    return None
            tried = Tried(options=options, counts=counts, **row)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            return None
        return tried if tried.kind in KINDS else None
