"""What a worker of the cluster does with a shard: read, segment or refine, write, report."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lpprop._core.doubts import gather_doubts
from lpprop._core.errors import InputError, collect_warnings
from lpprop.batch.base import BatchMap
from lpprop.cluster.manifest import Attempt, Finished, Manifest
from lpprop.cluster.outputs import Labelled, encode, write_shard
from lpprop.cluster.samples import Sample, read_rows, read_tar
from lpprop.cluster.stores import Store, open_file

__all__ = ["Job", "ShardWorker"]

# How many workers may die at an image until it is taken for the cause. A machine that is lost at
# the same moment is none.
_DEATHS = 2


@dataclass(frozen=True)
class Job:
    """What every worker is given.

    Attributes:
        mapper: a `lpprop.batch.Segment` or `Refine`, whose result has labels.
        out: the job's folder.
        format: of the outputs.
        run: names this run of the command.
    """

    mapper: BatchMap
    out: str
    format: str
    run: str


class ShardWorker:
    """Work on shards, one per call; the models are loaded once.

    What would hinder every shard, such as a full disk, ends the work of this worker: it gives back
    the shards that follow.

    A shard that is finished already is reported and not done again, so that a call may be repeated
    at any time. A worker that dies, with its machine or by an image that makes its process crash,
    leaves a note of its attempt. The next attempt notes each image before it begins with it, and an
    image at which two workers have died is recorded as failed.

    Args:
        job: the job.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.manifest = Manifest(Store(job.out))
        self._plan: Any = None
        self._stopped = ""

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Work on the shards of a batch.

        Args:
            batch: numbers of shards in the column "shard".

        Returns:
            For each its number; how many images it has and how many failed; and why it could not be
            finished, "" if it is.
        """
        reports = [self._report(int(shard)) for shard in batch["shard"]]
        return {name: [one[name] for one in reports] for name in reports[0]}

    def _report(self, shard: int) -> dict[str, Any]:
        finished = None
        try:
            if not self._stopped:
                finished = self.manifest.find(shard) or self.work(shard)
        except InputError as error:  # no models or no device to work with
            self._stopped = str(error)
        except Exception as error:  # such as a full disk: it would be so for every other shard
            self._stopped = f"{type(error).__name__}: {error}"
        images, errors = (0, 0) if finished is None else (finished.images, len(finished.errors))
        return {"shard": shard, "images": images, "errors": errors, "stopped": self._stopped}

    def work(self, shard: int) -> Finished:
        """Work on a shard, write its output, and then that it is finished.

        Raises:
            InputError: models or a device that cannot be had.
            OSError: files that cannot be written.
            RuntimeError: workers die again and again before the first image.
        """
        start = time.monotonic()
        attempt = self.manifest.attempt(shard, self.job.run)
        if attempt.deaths.get("", 0) >= _DEATHS:
            raise RuntimeError(
                "worker processes died before their first image, while they loaded the models or "
                "read the shard (out of memory?)"
            )
        warned: list[tuple[str, list[str]]] = []
        results = list(self._label(shard, attempt, warned))
        output, size, sha256 = write_shard(self.manifest.store, shard, self.job.format, results)
        finished = Finished(
            shard, output, size, sha256, len(results),
            tuple((one.id, one.path, one.error) for one in results if one.error),
            time.monotonic() - start,
            tuple(gather_doubts(warned)),
        )  # fmt: skip
        self.manifest.add(finished)
        self.manifest.end_attempt(shard)
        return finished

    def _label(
        self, shard: int, attempt: Attempt, warned: list[tuple[str, list[str]]]
    ) -> Iterator[Labelled]:
        self.job.mapper.load()
        seen: set[str] = set()
        for sample in self._read(shard):
            if isinstance(sample, Labelled):
                yield sample
            elif sample.id in seen:
                yield _failed(sample, "its name comes twice in the tar")
            elif attempt.deaths.get(sample.id, 0) >= _DEATHS:
                yield _failed(sample, f"{_DEATHS} worker processes died while they worked on it")
            else:
                if attempt.number > 1:
                    attempt.at = sample.id
                    self.manifest.note(shard, attempt)
                with collect_warnings(shown=False) as messages:
                    labelled = self._label_one(sample)
                warned.append((sample.id, messages))
                yield labelled
            seen.add(sample.id)

    def _label_one(self, sample: Sample) -> Labelled:
        mapper = self.job.mapper
        try:
            item = sample.load()
        except (OSError, ValueError, MemoryError) as error:  # of this image, whatever it is
            known = isinstance(error, InputError)
            return _failed(sample, str(error) if known else f"{type(error).__name__}: {error}")
        for name in mapper.required:
            if name not in item:
                return _failed(sample, f"it has no {name}")
        done = mapper.process(item)
        if done["error"]:
            return _failed(sample, done["error"])
        labels = done["labels"]
        return Labelled(sample.id, sample.path, encode(labels), labels.shape, "")

    def _read(self, shard: int) -> Iterator[Sample | Labelled]:
        """Yield the images of a shard; a tar that is damaged ends with an error."""
        rows = self._rows(shard)
        if "tar" not in rows[0]:
            yield from read_rows(rows)
            return
        (row,) = rows
        try:
            yield from read_tar(row["tar"], self.job.mapper.inputs)
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            reason = f"the tar cannot be read to its end ({type(error).__name__}: {error})"
            yield Labelled(row["id"], row["tar"], b"", (0, 0), reason)

    def _rows(self, shard: int) -> list[dict[str, Any]]:
        """Return the rows of a shard from the plan, of which a row group is read and no more."""
        import pyarrow.parquet

        if self._plan is None:
            place = self.manifest.store.path("plan.parquet")
            if self.manifest.store.is_local:
                self._plan = pyarrow.parquet.ParquetFile(place)
            else:
                with open_file(place) as file:
                    self._plan = pyarrow.parquet.ParquetFile(io.BytesIO(file.read()))
        rows: list[dict[str, Any]] = self._plan.read_row_group(shard).to_pylist()
        return rows


def _failed(sample: Sample, reason: str) -> Labelled:
    text = " ".join(reason.split())
    return Labelled(sample.id, sample.path, b"", (0, 0), text[:500])
