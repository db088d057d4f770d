"""The runner: a data set and predictors in, a table of metrics out; killed, it continues.

report = evaluate(load_dataset("voc20", root), {"LPOSS+": predictor}, Path("runs/voc20"))
print(report.to_markdown())
"""

from __future__ import annotations

import contextlib
import platform
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lpprop._core.optional import import_cv2
from lpprop.checks import check_choice, check_integer
from lpprop.errors import InputError
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.predictors import Predictor, describe
from lpprop.evaluation.records import CONFIG, Records, locked, merged_config, write_json
from lpprop.evaluation.report import Report
from lpprop.evaluation.task import Failure, Job, Outcome, Samples, Task, about
from lpprop.evaluation.workers import WorkerError, in_processes

__all__ = ["EvaluationError", "evaluate"]


class EvaluationError(RuntimeError):
    """A predictor failed; the message names the image and the predictor."""


def evaluate(
    dataset: Samples,
    predictors: Mapping[str, Predictor],
    out: Path | None = None,
    *,
    limit: int | None = None,
    processes: int = 1,
    ignore_index: int = IGNORED,
    dilation_ratio: float = 0.02,
    on_error: str = "stop",
    progress: bool | None = None,
) -> Report:
    """Label every image by every predictor, and count.

    Each image's counts go to `out` as soon as they are there. A run that was ended, by whatever, is
    continued by the same call: images that are done are not done again. So is a run with a larger
    `limit`, or with further predictors. A folder that holds another configuration (data set,
    metrics, versions of lpprop, torch, NumPy, OpenCV and Python, or a predictor of that name that
    describes itself otherwise) is refused.

    All counts are integers, so that neither the number of processes nor an interruption changes a
    digit, as long as a predictor labels an image the same way each time. Arithmetic may depend on
    the number of threads: each of several processes has one, a single process those of torch.

    Args:
        dataset: a sequence of samples with `name`, `image` (PIL) and `gt` (H, W), which has a
            `name` and `classes`, as `lpprop.evaluation.datasets` makes them.
        predictors: by name, callables that take a sample and return labels (H, W), integers, or
            scores (C, H, W). One that has `prepare(sample)` is given the time to prepare: it is
            called first, and not timed. One that has `fingerprint()` describes itself by it.
        out: the run's folder, made if missing; nothing is written if None.
        limit: how many images, from the first; all if None.
        processes: how many processes share the images; more than one asks for a data set and
            predictors that pickle, and, in a script, for `if __name__ == "__main__":`.
        ignore_index: the label of ground-truth pixels that do not count.
        dilation_ratio: width of the boundary of Boundary IoU as a share of the image's diagonal.
        on_error: what to do when a predictor fails on an image: "stop" raises; "skip" warns, goes
            on, and the report counts the image as failed. Failed images are tried again by the
            next call.
        progress: whether to show a bar; on a terminal only if None.

    Returns:
        The report; with `out`, it is also written there as results.json and results.md.

    Raises:
        InputError: arguments that cannot be used, or a folder with another run.
        EvaluationError: a predictor that failed, with the image's name; what is done stays done.

    >>> from types import SimpleNamespace
    >>> from PIL import Image
    >>> class Halves(list):
    ...     name, classes = "halves", ["left", "right"]
    >>> gt = np.repeat([[0] * 8 + [1] * 8], 12, axis=0)
    >>> dataset = Halves([SimpleNamespace(name="a", image=Image.new("RGB", (16, 12)), gt=gt)])
    >>> report = evaluate(dataset, {"shifted": lambda sample: np.roll(sample.gt, 1, axis=1)})
    >>> report["shifted"].metrics.iou.round(3)
    array([0.778, 0.778])
    """
    out = None if out is None else Path(out)
    check_integer("processes", processes)
    check_choice("on_error", on_error, ("stop", "skip"))
    if limit is not None:
        check_integer("limit", limit)
    if not predictors:
        raise InputError.of(
            "predictors",
            got="none",
            expected="at least one by name",
            fix="Pass {'name': callable}.",
        )
    metrics = SegmentationMetrics(
        len(dataset.classes), ignore_index=ignore_index, dilation_ratio=dilation_ratio
    )
    config = _config(dataset, predictors, metrics, processes)
    images = len(dataset) if limit is None else min(limit, len(dataset))
    task = Task(dataset, dict(predictors), metrics)
    with contextlib.nullcontext() if out is None else locked(out):
        if out is not None:
            config = merged_config(out, config)
            write_json(out / CONFIG, config)
        records = {name: Records(out, name) for name in predictors}
        failures: dict[str, dict[str, str]] = {name: {} for name in predictors}
        for name, outcome in _outcomes(task, _jobs(records, images), processes, progress):
            if isinstance(outcome, Failure):
                failures[name][outcome.image] = outcome.reason
                message = f"{outcome.image}: {name!r} failed: {outcome.reason}"
                if on_error == "stop":
                    raise EvaluationError(message) from outcome.error
                warnings.warn(message, stacklevel=2)
            else:
                records[name].add(outcome)
        done = {
            name: [record for _, record in sorted(kept.done.items()) if record["index"] < images]
            for name, kept in records.items()
        }
        shown = {**config, "predictors": {name: config["predictors"][name] for name in predictors}}
        report = Report(shown, done, images=images, failures=failures)
        if out is not None:
            _of_all(out, config, failures).save(out)
    return report


def _of_all(
    out: Path, config: Mapping[str, Any], failures: Mapping[str, Mapping[str, str]]
) -> Report:
    """Report all that is in the folder: earlier predictors and images too."""
    records = {name: Records(out, name) for name in config["predictors"]}
    done = {name: [kept.done[i] for i in sorted(kept.done)] for name, kept in records.items()}
    tried = max(len(kept) + len(failures.get(name, {})) for name, kept in done.items())
    return Report(
        config,
        done,
        images=tried,
        failures={name: failures.get(name, {}) for name in done},
    )


def _config(
    dataset: Samples,
    predictors: Mapping[str, Predictor],
    metrics: SegmentationMetrics,
    processes: int,
) -> dict[str, Any]:
    import lpprop

    return {
        "dataset": about(dataset),
        "metrics": {
            "ignore_index": metrics.ignore_index,
            "dilation_ratio": metrics.dilation_ratio,
        },
        "versions": {
            "lpprop": lpprop.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "opencv": import_cv2().__version__,
            "python": platform.python_version(),
            **_versions("scipy", "kornia", "transformers", "diffusers", "pydensecrf2"),
        },
        "run": {
            "processes": processes,
            "threads": 1 if processes > 1 else torch.get_num_threads(),
            "machine": f"{platform.system()} {platform.machine()}",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        },
        "predictors": {name: describe(predictor) for name, predictor in predictors.items()},
    }


def _versions(*packages: str) -> dict[str, str]:
    """Return the versions of those that are installed."""
    found = {}
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _jobs(records: Mapping[str, Records], images: int) -> list[Job]:
    jobs = []
    for index in range(images):
        missing = tuple(name for name, kept in records.items() if index not in kept.done)
        if missing:
            jobs.append((index, missing))
    return jobs


def _outcomes(
    task: Task, jobs: Sequence[Job], processes: int, progress: bool | None
) -> Iterator[Outcome]:
    """Yield what comes of each image and predictor, in any order."""
    from tqdm import tqdm

    hidden = None if progress is None else not progress
    with tqdm(total=len(jobs), unit="image", file=sys.stderr, disable=hidden) as bar:
        if processes == 1:
            for job in jobs:
                yield from task.run(job)
                bar.update()
            return
        try:
            for outcomes in in_processes(task, jobs, processes):
                yield from outcomes
                bar.update()
        except WorkerError as error:
            index, names = error.job
            image = str(task.dataset[index].name)
            raise EvaluationError(f"{image}: {', '.join(names)} failed: {error}") from error
