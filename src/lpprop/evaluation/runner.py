"""The runner: a data set and predictors in, a table of metrics out. A killed run can be resumed.

report = evaluate(load_dataset("voc20", root), {"LPOSS+": predictor}, Path("runs/voc20"))
print(report.to_markdown())
"""

from __future__ import annotations

import contextlib
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch

from lpprop import _version
from lpprop._core.errors import InputError, collect_warnings, warn
from lpprop._core.optional import import_cv2
from lpprop._core.options import check_boolean, check_choice, check_integer
from lpprop._core.progress import Progress, track
from lpprop.evaluation.content import is_unchanged
from lpprop.evaluation.datasets.layout import as_path
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.pictures import Pictures, check_kinds
from lpprop.evaluation.predictors import as_predictor, check_predictors
from lpprop.evaluation.records import CONFIG, Records, load_records, lock, merge_config, write_json
from lpprop.evaluation.report import Report
from lpprop.evaluation.task import (
    Failure,
    Job,
    Outcome,
    Samples,
    Task,
    check_dataset,
    dataset_fingerprint,
)
from lpprop.evaluation.workers import WorkerError, run_in_processes

__all__ = ["EvaluationError", "describe_run", "evaluate"]


#: What shares jobs among workers, and yields the outcomes of each.
Pool: TypeAlias = Callable[[Task, Sequence[Job]], Iterator[list[Outcome]]]


class EvaluationError(RuntimeError):
    """A predictor failed; the message names the image and the predictor."""


def evaluate(
    dataset: Samples,
    predictors: Mapping[str, Callable[[Any], Any]],
    out: Path | None = None,
    *,
    limit: int | None = None,
    processes: int = 1,
    ignore_index: int = IGNORED,
    dilation_ratio: float = 0.02,
    on_error: str = "stop",
    save: Sequence[str] = (),
    pool: Pool | None = None,
    progress: bool | None = None,
) -> Report:
    """Label every image by every predictor, and measure the labels.

    Each image's counts are written to `out` as soon as it is labelled. A run that was ended in any
    way is resumed by the same call: finished images are not done again, unless the files of image
    or labels have other content now. A larger `limit` or further predictors also resume a run. A
    folder with another configuration is refused: another data set, other metrics, other versions of
    lpprop, torch, NumPy, OpenCV and Python, or a predictor of the same name with another
    description.

    All counts are integers. So neither the number of processes nor an interruption changes a digit,
    as long as a predictor labels an image the same way each time. Arithmetic may depend on the
    number of threads: each of several processes has one, a single process those of torch.

    Args:
        dataset: a sequence of samples with `name`, `image` (PIL) and `gt` (H, W). It has a `name`
            and `class_names`, as `lpprop.evaluation.datasets` makes them.
        predictors: by name, functions from a sample to labels (H, W), integers, or to scores
            (C, H, W). A subclass of `lpprop.evaluation.Predictor` may also `prepare` for a sample
            before it is timed, describe itself by a `fingerprint`, and say by `background` that its
            last label or channel is none of the classes: a miss, or the class "background".
        out: the run's folder, made if missing; nothing is written if None.
        limit: number of images, from the first; all if None.
        processes: number of processes that share the images. With several, data set and predictors
            must pickle, and a script needs `if __name__ == "__main__":`.
        ignore_index: the label of ground-truth pixels that do not count.
        dilation_ratio: width of Boundary IoU's boundary as a share of the image's diagonal.
        on_error: what happens when a predictor fails on an image. "stop" raises; "skip" warns, goes
            on, and the report counts the image as failed. The next call tries it again.
        save: what to draw of each image into `out`: "labels" (PNG files with a palette), "overlays"
            (over the image, with a legend), or both, such as out/labels/lposs+/street.png. An image
            that is finished but lacks one of them is done again.
        pool: what shares the images in place of processes here: a function of a task and jobs that
            yields the outcomes of each job, in any order, such as `lpprop.cluster.RayPool`.
        progress: whether to show a progress bar. If None, there is one on a terminal and in a
            notebook, and elsewhere a line per minute.

    Returns:
        The report; with `out`, it is also written there as results.json and results.md. What is
        doubtful about the labels, and what predictors warned of, is in `Report.warnings`, and shown
        once as `lpprop.InputWarning`.

    Raises:
        InputError: arguments that cannot be used, or a folder with another run.
        EvaluationError: a predictor that failed, with the image's name; finished images are kept.

    >>> from types import SimpleNamespace
    >>> from PIL import Image
    >>> class Halves(list):
    ...     name, class_names = "halves", ["left", "right"]
    >>> gt = np.repeat([[0] * 8 + [1] * 8], 12, axis=0)
    >>> dataset = Halves([SimpleNamespace(name="a", image=Image.new("RGB", (16, 12)), gt=gt)])
    >>> report = evaluate(dataset, {"shifted": lambda sample: np.roll(sample.gt, 1, axis=1)})
    >>> report["shifted"].metrics.iou.round(3)
    array([0.778, 0.778])
    """
    check_dataset(dataset)
    check_predictors(predictors)
    out = None if out is None else as_path("out", out)
    processes = check_integer("processes", processes)
    on_error = check_choice("on_error", on_error, ("stop", "skip"))
    limit = None if limit is None else check_integer("limit", limit)
    save = check_kinds(save)
    if save and out is None:
        raise InputError.of(
            "save",
            got=f"{', '.join(save)} without a folder",
            expected="nothing, where out is None",
            fix="Pass the run's folder as out.",
        )
    progress = None if progress is None else check_boolean("progress", progress)
    metrics = SegmentationMetrics(
        len(dataset.class_names), ignore_index=ignore_index, dilation_ratio=dilation_ratio
    )
    pictures = Pictures(out, save, list(dataset.class_names)) if out and save else None
    named = {name: as_predictor(one) for name, one in predictors.items()}
    task = Task(dataset, named, metrics, pictures)
    config = describe_run(dataset, metrics, named, processes)
    if processes > 1:
        if pool is not None:
            raise InputError.of(
                "processes",
                got=f"{processes} beside a pool",
                expected="one of the two",
                fix="Tell the pool how many workers it has.",
            )
        pool = partial(run_in_processes, processes=processes)
    images = len(dataset) if limit is None else min(limit, len(dataset))
    with contextlib.nullcontext() if out is None else lock(out):
        if out is not None:
            config = merge_config(out, config)
            write_json(out / CONFIG, config)
        kept = load_records(out, config)
        _drop_replaced(dataset, kept, progress)
        records = {name: kept[name] for name in predictors}
        if pictures is not None:
            pictures.make_folders(predictors)
            _drop_undrawn(pictures, records, images)
        failures: dict[str, dict[str, str]] = {name: {} for name in kept}
        missing = (
            (index, tuple(name for name, one in records.items() if index not in one.done))
            for index in range(images)
        )
        jobs = [job for job in missing if job[1]]
        for name, outcome in _run(task, jobs, pool, progress):
            if isinstance(outcome, Failure):
                known = any(outcome.image in one for one in failures.values())
                failures[name][outcome.image] = outcome.reason
                whose = "" if outcome.of_sample else f": {name!r}"
                message = f"{outcome.image}{whose} failed: {outcome.reason}"
                if on_error == "stop":
                    raise EvaluationError(message) from outcome.error
                if not (outcome.of_sample and known):  # it fails for every predictor alike
                    warnings.warn(message, stacklevel=2)
            else:
                records[name].add(outcome)
        done = {name: one.in_order(images) for name, one in records.items()}
        shown = {**config, "predictors": {name: config["predictors"][name] for name in predictors}}
        report = Report(shown, done, images=images, failures=failures)
        if out is not None:
            for one in kept.values():
                one.tidy()
            # The files show all that is in the folder, earlier predictors and images too.
            Report.of_records(config, kept, failures).save(out)
    for message in report.warnings:
        warn(message, message)
    return report


def _drop_replaced(dataset: Samples, kept: Mapping[str, Records], progress: bool | None) -> None:
    """Drop the records of images that have another name, image or labels now, and warn of it."""
    known = sorted(set().union(*(one.done for one in kept.values())))
    replaced = []
    for index in track(known, progress, "record"):
        holders = [one for one in kept.values() if index in one.done]
        stale = [one for one in holders if not _is_of(dataset, index, one.done[index])]
        if stale:
            replaced.append(stale[0].done[index]["image"])
        for one in stale:
            one.drop(index)
    if replaced:
        warn(
            "replaced",
            f"dataset: {len(replaced)} of {len(known)} samples have another image or other labels "
            f"than when they were measured, the first {replaced[0]!r}: they are measured again. To "
            "keep the old figures, stop here and choose another folder for out.",
        )


def _drop_undrawn(pictures: Pictures, records: Mapping[str, Records], images: int) -> None:
    """Drop the records of images that lack a picture, so that they are done again."""
    for name, one in records.items():
        for record in one.in_order(images):
            if not pictures.are_there(name, record["image"]):
                one.drop(record["index"])


def _is_of(dataset: Samples, index: int, record: Mapping[str, Any]) -> bool:
    try:
        with collect_warnings(shown=False):
            sample = dataset[index]
            return str(sample.name) == record["image"] and is_unchanged(sample, record["files"])
    except Exception:  # it fails again when it is measured again
        return False


@runtime_checkable
class _Described(Protocol):
    def fingerprint(self) -> dict[str, Any]: ...


def describe_run(
    dataset: Samples,
    metrics: SegmentationMetrics,
    predictors: Mapping[str, _Described],
    processes: int = 1,
) -> dict[str, Any]:
    """Describe all that the figures of a run depend on, for its configuration."""
    return {
        "dataset": dataset_fingerprint(dataset),
        "metrics": {
            "ignore_index": metrics.ignore_index,
            "dilation_ratio": metrics.dilation_ratio,
        },
        "versions": {
            "lpprop": _version.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            **_find_versions("scipy", "kornia", "transformers", "diffusers", "pydensecrf2"),
        },
        "run": {
            "processes": processes,
            "threads": 1 if processes > 1 else torch.get_num_threads(),
            "machine": f"{platform.system()} {platform.machine()}",
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_initialized() else None,
        },
        "predictors": {name: one.fingerprint() for name, one in predictors.items()},
    }


def _find_versions(*packages: str) -> dict[str, str]:
    """Return the versions of OpenCV, which boundaries need, and of the packages installed."""
    found = {"opencv": import_cv2().__version__}  # whichever package it comes from
    for package in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _run(
    task: Task, jobs: Sequence[Job], pool: Pool | None, shown: bool | None
) -> Iterator[Outcome]:
    """Yield the outcome of each image and predictor, in any order."""
    with Progress(len(jobs), shown, logged=True) as progress:
        if pool is None:
            for job in jobs:
                yield from task.run(job)
                progress.update()
            return
        try:
            for outcomes in pool(task, jobs):
                yield from outcomes
                progress.update()
        except WorkerError as error:
            index, names = error.job
            image = str(task.dataset[index].name)
            raise EvaluationError(f"{image}: {', '.join(names)} failed: {error}") from error
