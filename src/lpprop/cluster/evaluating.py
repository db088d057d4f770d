"""The images of an evaluation, shared among the workers of a cluster."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop._core.optional import import_cv2
from lpprop._core.progress import hide_progress
from lpprop.cluster.ray_data import ClusterError, Workers, connect, map_units
from lpprop.evaluation.task import Job, Outcome, Task
from lpprop.evaluation.workers import WorkerError

__all__ = ["RayPool"]

# How often the image of a worker that died is given to another one.
_RETRIES = 2


class RayPool:
    """Share the images of `lpprop.evaluation.evaluate` among the workers of a cluster of Ray.

        evaluate(dataset, predictors, out, pool=RayPool(workers=8, gpus_per_worker=1))

    All machines need the data set's files under the same paths. Counts are integers: the report is
    that of one process.

    Args:
        workers: how many; as many as fit if None.
        gpus_per_worker: 0 for CPUs alone.
        address: of the cluster; None for RAY_ADDRESS, or else this machine.

    Raises:
        InputError: what no cluster could give; when it is called, also a cluster that does not
            answer, more workers than fit, or a task that cannot be sent.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        gpus_per_worker: float = 0.0,
        address: str | None = None,
    ) -> None:
        self.workers = Workers(address, workers, gpus_per_worker)
        self.workers.check()

    def __call__(self, task: Task, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        """Yield the outcomes of each job, in any order."""
        if not jobs:
            return
        try:
            payload = pickle.dumps(task)
        except Exception as error:  # objects may raise anything when they are pickled
            raise InputError.of(
                "predictors",
                got=f"an object that cannot be sent to a worker ({error})",
                expected="objects that pickle",
                fix="Define functions and classes in a module, without lambdas.",
            ) from error
        with connect(self.workers):
            units = {"job": [pickle.dumps(job) for job in jobs]}
            left = dict(zip(units["job"], jobs, strict=True))
            rows = map_units(_Worker, [payload], units, self.workers, max_task_retries=_RETRIES)
            with contextlib.closing(rows):
                try:
                    for row in rows:
                        left.pop(row["job"])
                        yield pickle.loads(row["outcomes"])
                except ClusterError as error:
                    reason = (
                        f"a worker died {_RETRIES + 1} times, or all of them are lost ({error})"
                    )
                    raise WorkerError(next(iter(left.values())), reason) from error


class _Worker:
    """Work on jobs, one per call, as a process of the evaluation does."""

    def __init__(self, payload: bytes) -> None:
        torch.set_num_threads(1)
        hide_progress()
        with contextlib.suppress(ImportError):
            import_cv2().setNumThreads(1)
        self.task = pickle.loads(payload)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        jobs = [bytes(one) for one in batch["job"]]
        outcomes = [pickle.dumps(self.task(pickle.loads(job))) for job in jobs]
        return {"job": jobs, "outcomes": outcomes}
