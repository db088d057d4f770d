"""What a job tells at its end: a summary, the images that failed, and doubts about the others."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lpprop._core.errors import warn
from lpprop.cluster.manifest import Finished

__all__ = ["Doubts", "Summary", "list_errors", "warn_of_doubts"]


@dataclass(frozen=True)
class Summary:
    """What a call has done.

    Attributes:
        images: images that this call has worked on, those that failed too.
        failed: those of them that failed.
        skipped: images that were done already.
        failed_before: those of them that failed.
        seconds: how long the call took.
        stopped: why it could not go on; "" if all shards are finished.
        out: the job's folder.
    """

    images: int
    failed: int
    skipped: int
    failed_before: int
    seconds: float
    stopped: str
    out: str


def list_errors(finished: Mapping[int, Finished]) -> bytes:
    """Return a table of the images that failed."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["id", "path", "reason"])
    for shard in sorted(finished):
        writer.writerows(finished[shard].errors)
    return file.getvalue().encode("utf-8", "backslashreplace")


class Doubts:
    """Count warnings by what they say; those that differ in numbers alone count as one.

    >>> doubts = Doubts()
    >>> doubts.add("logits: got 3 x 4", first="a.jpg")
    >>> doubts.add("logits: got 5 x 7", first="b.jpg")
    >>> doubts.listed()
    (('logits: got 3 x 4', 2, 'a.jpg'),)
    """

    def __init__(self) -> None:
        self._counts: dict[str, tuple[str, int, str]] = {}

    def add(self, message: str, images: int = 1, *, first: str) -> None:
        """Count a warning of so many images, of which `first` is one."""
        key = re.sub(r"\d+", "#", message)
        known = self._counts.get(key, (message, 0, first))
        self._counts[key] = (known[0], known[1] + images, known[2])

    def listed(self) -> tuple[tuple[str, int, str], ...]:
        """Return the first message of each kind, its number of images, and the first of them."""
        return tuple(self._counts.values())

    def warn(self) -> None:
        """Warn of each kind once."""
        for message, images, first in self.listed():
            others = f" and {images - 1:,} more" if images > 1 else ""
            warn(message, f"{first}{others}: {message}")


def warn_of_doubts(finished: Mapping[int, Finished]) -> None:
    """Warn of what workers have warned of; in their processes nobody would see it."""
    doubts = Doubts()
    for shard in sorted(finished):
        for message, images, first in finished[shard].warnings:
            doubts.add(message, images, first=first)
    doubts.warn()
