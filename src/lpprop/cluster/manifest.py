"""What a job has done: its settings, its finished shards with checksums, and unfinished attempts.

run.json               the settings and the input, which the same command must have again
plan.parquet           the shards, a row group each
finished.jsonl         finished shards of earlier runs
finished/000012.json   those since then, one file per shard, written by its worker
attempts/000012.json   shards in work, removed when they are finished
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from lpprop._core.doubts import Doubt
from lpprop._core.errors import InputError
from lpprop.cluster.stores import Store

__all__ = ["Attempt", "Finished", "Manifest", "shard_name"]

_RUN, _FINISHED, _SINCE, _ATTEMPTS = "run.json", "finished.jsonl", "finished", "attempts"
# How many small files are read at once, as each of an object store takes a while.
_READERS = 16


def shard_name(shard: int) -> str:
    """Return a shard's name, by which its files sort.

    >>> shard_name(12)
    '000012'
    """
    return f"{shard:06d}"


@dataclass(frozen=True)
class Finished:
    """A finished shard.

    Attributes:
        shard: its number.
        output: the file, or the folder of files, with the labels.
        bytes: its size; of a folder, that of all files together.
        sha256: its checksum; of a folder, that of the files' checksums in their order.
        images: how many images it has, those that failed too.
        errors: for each image that failed, its id, its path and the reason.
        seconds: how long it took.
        warnings: what was warned of.
    """

    shard: int
    output: str
    bytes: int
    sha256: str
    images: int
    errors: tuple[tuple[str, str, str], ...]
    seconds: float
    warnings: tuple[Doubt, ...] = ()


@dataclass
class Attempt:
    """A shard in work, as its next worker finds it if this one dies.

    Attributes:
        run: the run of the command; what another one left counts for nothing.
        number: 1 for the first one.
        at: the image in work, where that is noted: from the second attempt on.
        deaths: by image, how many workers have died at it.
    """

    run: str
    number: int = 1
    at: str | None = None
    deaths: dict[str, int] = field(default_factory=dict)


class Manifest:
    """The files of a job beside its outputs.

    Args:
        store: the job's folder.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def load_run(self) -> dict[str, Any] | None:
        """Return what the job of this folder is, None for a folder without a job."""
        try:
            return dict(json.loads(self.store.read(_RUN)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError.of(
                "--out",
                got=f"{self.store.root}, whose {_RUN} is damaged",
                expected="a job's folder, or an empty one",
                fix="Choose another folder, or pass --overwrite to start again.",
            ) from error

    def save_run(self, run: Mapping[str, Any]) -> None:
        """Write what the job is."""
        self.store.write(_RUN, (json.dumps(run, indent=2, default=str) + "\n").encode())

    def add(self, finished: Finished) -> None:
        """Write that a shard is finished, after its output."""
        name = shard_name(finished.shard)
        self.store.write(f"{_SINCE}/{name}.json", json.dumps(asdict(finished)).encode())

    def find(self, shard: int) -> Finished | None:
        """Return a shard that was finished in this run, None if it was not."""
        try:
            return _as_finished(self.store.read(f"{_SINCE}/{shard_name(shard)}.json"))
        except FileNotFoundError:
            return None

    def load(self) -> dict[int, Finished]:
        """Return the finished shards by number; a damaged line or file is that of no shard."""
        try:
            lines = self.store.read(_FINISHED).splitlines()
        except FileNotFoundError:
            lines = []
        names = [f"{_SINCE}/{name}" for name in self.store.sizes(_SINCE)]
        with ThreadPoolExecutor(_READERS) as pool:
            lines += pool.map(self.store.read, names)
        found = [_as_finished(line) for line in lines]
        return {one.shard: one for one in found if one is not None}

    def compact(self, finished: Mapping[int, Finished]) -> None:
        """Put the finished shards into one file, and remove the small ones."""
        lines = [json.dumps(asdict(finished[shard])) for shard in sorted(finished)]
        self.store.write(_FINISHED, "".join(f"{line}\n" for line in lines).encode())
        self._remove_all(_SINCE)

    def forget(self) -> None:
        """Remove what says that shards are finished or in work."""
        self.store.remove(_FINISHED)
        for folder in (_SINCE, _ATTEMPTS):
            self._remove_all(folder)

    def attempt(self, shard: int, run: str) -> Attempt:
        """Return the attempt at a shard that begins now, and note it."""
        name = f"{_ATTEMPTS}/{shard_name(shard)}.json"
        now = Attempt(run)
        try:
            before = Attempt(**json.loads(self.store.read(name)))
        except (FileNotFoundError, ValueError, TypeError):
            before = None
        if before is not None and before.run == run:
            now = Attempt(run, before.number + 1, deaths=dict(before.deaths))
            at = before.at or ""
            if before.number > 1:  # the first one notes no image
                now.deaths[at] = now.deaths.get(at, 0) + 1
        self.note(shard, now)
        return now

    def note(self, shard: int, attempt: Attempt) -> None:
        """Write where an attempt is."""
        name = f"{_ATTEMPTS}/{shard_name(shard)}.json"
        self.store.write(name, json.dumps(asdict(attempt)).encode())

    def end_attempt(self, shard: int) -> None:
        """Remove the note of an attempt."""
        self.store.remove(f"{_ATTEMPTS}/{shard_name(shard)}.json")

    def _remove_all(self, folder: str) -> None:
        names = [f"{folder}/{name}" for name in self.store.sizes(folder)]
        with ThreadPoolExecutor(_READERS) as pool:
            for _ in pool.map(self.store.remove, names):
                pass


def _as_finished(line: bytes) -> Finished | None:
    try:
        values = json.loads(line)
        errors = tuple((str(a), str(b), str(c)) for a, b, c in values.pop("errors"))
        doubts = tuple(Doubt(str(a), int(b), str(c)) for a, b, c in values.pop("warnings", ()))
        return Finished(**values, errors=errors, warnings=doubts)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
