"""What a job tells at its end: a summary, the images that failed, and doubts about the others."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from lpprop._core.doubts import join_doubts
from lpprop._core.errors import warn
from lpprop.cluster.manifest import Finished

__all__ = ["Summary", "list_errors", "warn_of_doubts"]


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


def warn_of_doubts(finished: Mapping[int, Finished]) -> None:
    """Warn of what workers have warned of; in their processes nobody would see it."""
    for doubt in join_doubts(
        doubt for shard in sorted(finished) for doubt in finished[shard].warnings
    ):
        others = f" and {doubt.images - 1:,} more" if doubt.images > 1 else ""
        warn(doubt.message, f"{doubt.first}{others}: {doubt.message}")
