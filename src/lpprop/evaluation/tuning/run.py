"""Tune a refiner on labelled images: data set and start in, the best method and settings out."""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_boolean, check_choice, check_integer, check_number, is_listed
from lpprop._core.progress import Progress, track
from lpprop.compose import presets
from lpprop.compose.composite import missing_input
from lpprop.evaluation.content import describe_content
from lpprop.evaluation.datasets.layout import as_path
from lpprop.evaluation.doubts import label_doubts
from lpprop.evaluation.fingerprints import hash_texts
from lpprop.evaluation.groups import find_groups, make_folds
from lpprop.evaluation.intervals import METRICS
from lpprop.evaluation.label_maps import IGNORED
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.predictors import Start
from lpprop.evaluation.records import CONFIG, lock, merge_config, write_json
from lpprop.evaluation.runner import EvaluationError, describe_run
from lpprop.evaluation.segmenters import SegmenterPredictor
from lpprop.evaluation.task import Samples, check_dataset
from lpprop.evaluation.tuning.bench import Bench
from lpprop.evaluation.tuning.result import START, TuningResult
from lpprop.evaluation.tuning.sources import Kept, Source, allowed_methods, as_source
from lpprop.evaluation.tuning.space import default_options, tuned_options
from lpprop.evaluation.tuning.study import Search, import_optuna
from lpprop.evaluation.tuning.trials import Trials

__all__ = ["tune"]

#: The share of `minutes` that the search may take; the rest is for the worth of options.
_SEARCH = 0.8


def tune(
    dataset: Samples,
    start: Callable[[Any], Start] | SegmenterPredictor,
    out: Path,
    *,
    methods: Sequence[str] | None = None,
    groups: Sequence[Any] | Callable[[Any], Any] | None = None,
    folds: int | None = None,
    trials: int | None = 100,
    minutes: float | None = None,
    seed: int = 0,
    metric: str = "miou",
    ignore_index: int = IGNORED,
    progress: bool | None = None,
) -> TuningResult:
    """Find the refiner and its settings for labelled images and the scores of any model.

        result = tune(dataset, StoredStart({"logits": "logits", "feats": "feats"}), Path("tuned"))
        print(result.to_markdown())
        scores = lpprop.refine(logits, feats, image, method=result.best)

    Every preset is tried as it is; then Optuna suggests methods and settings within the ranges of
    `lpprop.evaluation.tuning.space`. Each setting labels all images, whose counts are kept. So
    the score on the images that a setting was chosen by stands beside that on held-out folds, where
    the choice is made on the other folds, for the same work.

    A search that was ended in any way is continued by the same call, with more `trials` too, and
    comes to the same settings as one that was not ended. A folder of another configuration is
    refused: other images, start, methods, groups, metric, seed or versions.

    Args:
        dataset: as `evaluate` takes it.
        start: makes the `Start` of a sample, such as a `StoredStart`; or a `SegmenterPredictor`,
            whose models then run once per image, with windows as it has them, and without for
            methods on attention. What it makes is kept for all trials.
        out: the folder of the search, made if missing.
        methods: names of presets; by default those that the start's inputs allow. The start itself,
            "bilinear", is always among them.
        groups: which images belong together, such as frames of one video: a list of labels, one per
            sample, or a function of a sample. If None, it is guessed from the names. A group is
            never in two folds; a single one is cut into runs with gaps.
        folds: number of folds; by default 5, or as many as there are groups, or 4 of a single one.
        trials: number of settings that are searched, with the presets. Beside them, each option of
            the best one is put back to the preset's value at the end.
        minutes: bound on the time of this call, without that of the starts: four fifths for the
            search, the rest for putting options back. A setting that is begun is finished.
        seed: of the search.
        metric: "miou" or "boundary_iou".
        ignore_index: the label of ground-truth pixels that do not count.
        progress: as `evaluate` takes it.

    Returns:
        The result, also written to `out` as tuning.json and tuning.md. Ctrl-C ends the search with
        the result so far. What is doubtful about the labels is in `TuningResult.doubts`, and shown
        once as `lpprop.InputWarning`.

    Raises:
        InputError: arguments that cannot be used, labels of which no pixel counts, or a folder with
            another search.
        EvaluationError: the start cannot be scored.
        ImportError: the extra `tune` is not installed.
    """
    import_optuna()
    check_dataset(dataset)
    source, out = as_source(start), as_path("out", out)
    methods = None if methods is None else _check_methods(methods)
    trials = None if trials is None else check_integer("trials", trials)
    minutes = None if minutes is None else check_number("minutes", minutes, low=0, open_low=True)
    if trials is None and minutes is None:
        raise InputError.of(
            "trials", got="None", expected="a bound", fix="Pass trials=100 or minutes=30."
        )
    seed = check_integer("seed", seed, low=0)
    metric = check_choice("metric", metric, METRICS)
    progress = None if progress is None else check_boolean("progress", progress)
    metrics = SegmentationMetrics(len(dataset.class_names), ignore_index=ignore_index)

    names = [str(dataset[index].name) for index in range(len(dataset))]
    labels = find_groups(dataset, names, groups)
    parts = make_folds(labels, names, folds)
    with lock(out):
        out.mkdir(parents=True, exist_ok=True)
        for abandoned in out.glob(".starts-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        kept = Kept(out)
        try:
            given = source.given(_see(source, dataset, 0))
            methods = _allow(methods, given)
            own = {method: source.options(method) for method in methods}
            config: dict[str, Any] = describe_run(dataset, metrics, {"start": source})
            config["tuning"] = {
                "content": _hash_content(dataset, progress),
                "methods": {method: default_options(method, own[method]) for method in methods},
                "groups": labels,
                "folds": [list(part.held) for part in parts],
                "metric": metric,
                "seed": seed,
            }
            config = merge_config(out, config)
            write_json(out / CONFIG, config)
            patches = _keep_starts(dataset, source, kept, progress)
            known = Trials(out, (len(dataset), len(dataset.class_names)))
            if known.broken:
                warn(
                    f"broken {known.path}",
                    f"out: {known.broken} lines of {known.path} are cut off or damaged: left out.",
                )
            spaces = {x: tuned_options(presets.find(x), given) for x in methods}
            search = Search(out / "tuning.db", spaces, patches, own, seed, known.every)
            bench = Bench(dataset, source, kept, metrics, metric, own)
            doubts = _find_doubts(bench, progress)
            began = time.monotonic()
            limit = math.inf if minutes is None else 60 * minutes
            stopped = _search(
                search, bench, known, methods, trials, began + _SEARCH * limit, progress
            )
            result = TuningResult(
                config, names, labels, parts, known.every, own, stopped, time.monotonic() - began,
                doubts,
            )  # fmt: skip
            if stopped != "interrupted":
                stopped = _measure_worth(result, bench, known, began + limit, progress) or stopped
                result = replace(result, stopped=stopped, seconds=time.monotonic() - began)
        finally:
            kept.close()
        result.save(out)
    for doubt in doubts:
        warn(doubt, doubt)
    return result


def _keep_starts(dataset: Samples, source: Source, kept: Kept, progress: bool | None) -> int:
    """Make all starts, and return the median of their patches."""
    patches = []
    with Progress(len(dataset), progress, "start", logged=True) as bar:
        for index in range(len(dataset)):
            seen = _see(source, dataset, index)
            patches.append(source.patches(seen))
            kept.add(seen)
            bar.update()
    return int(statistics.median(patches))


def _see(source: Source, dataset: Samples, index: int) -> Any:
    with torch.no_grad():
        return source.see(dataset[index], len(dataset.class_names))


def _find_doubts(bench: Bench, progress: bool | None) -> list[str]:
    """Score the start, and say what is doubtful about the labels, as `evaluate` does."""
    chain = presets.by_name(START, **bench.own[START])
    start = SegmentationMetrics(**bench.metrics.settings)
    for index in track(range(len(bench.dataset)), progress, "start"):
        try:
            start.merge(bench.count(index, chain))
        except (InputError, RuntimeError, MemoryError) as error:
            image, reason = bench.dataset[index].name, f"{type(error).__name__}: {error}"
            raise EvaluationError(f"{image}: the start cannot be scored: {reason}") from error
    pixels = [*start.true_pixels.tolist(), start.ignored]
    if not any(pixels[:-1]):
        raise InputError.of(
            "labels",
            got=f"label maps in which every pixel is {start.ignore_index}, which does not count",
            expected="pixels of the classes",
            fix="Check how the labels are numbered, and which of them are ignored.",
        )
    return label_doubts({"the start": start}, pixels, bench.dataset.class_names, whole=True)


def _hash_content(dataset: Samples, progress: bool | None) -> str:
    """Hash all images and labels, so that a search on others is not continued."""
    samples = (dataset[index] for index in track(range(len(dataset)), progress))
    parts = (part for sample in samples for part in describe_content(sample).values())
    return hash_texts(hash_ for _, hash_ in parts)


def _search(
    search: Search,
    bench: Bench,
    known: Trials,
    methods: Sequence[str],
    trials: int | None,
    deadline: float,
    progress: bool | None,
) -> str:
    """Try settings until a bound is met; return what ended it."""
    plain = [method for method in methods if method not in search.spaces]
    total = math.inf if trials is None else max(trials, len(methods))
    known_total = None if trials is None else int(total)
    with Progress(known_total, progress, "setting", logged=True) as bar:
        try:
            for method in plain:  # without options: the start, first of all
                if known.find(method, {}) is None:
                    known.add(bench("preset", method, {}))
            done = [x for x in known.every if x.number is not None]
            for _ in range(len(plain) + len(done)):
                bar.update()
            while True:
                done = [x for x in known.every if x.number is not None]
                if not search.spaces or len(plain) + len(done) >= total:
                    return "trials"
                if time.monotonic() >= deadline:
                    return "minutes"
                trial, method, options = search.ask(len(done))
                kind = "search" if len(done) >= len(search.spaces) else "preset"
                tried = bench.try_once(known, kind, method, options, trial.number)
                known.add(tried)
                search.tell(trial.number, tried.score)
                best = max(known.every, key=lambda x: -math.inf if x.failed else x.score)
                bar.update(f"best {best.method} {100 * best.score:.2f}")
        except KeyboardInterrupt:
            if known.find(START, {}) is None:
                raise
            return "interrupted"


def _measure_worth(
    result: TuningResult, bench: Bench, known: Trials, deadline: float, progress: bool | None
) -> str:
    """Try the best setting with each of its options back at the preset's value.

    Where that is as good or better, it is the best setting from then on. Return what ended it
    before all options were tried, "" if nothing did.
    """
    chosen = None
    try:
        while chosen is not result.chosen:
            chosen = result.chosen
            for option in track(chosen.options, progress, "option", logged=True):
                others = {name: value for name, value in chosen.options.items() if name != option}
                if known.find(chosen.method, others) is None:
                    if time.monotonic() >= deadline:
                        return "minutes"
                    known.add(bench("worth", chosen.method, others))
                if result.chosen is not chosen:
                    break
    except KeyboardInterrupt:
        return "interrupted"
    return ""


def _check_methods(methods: object) -> list[str]:
    if not is_listed(methods) or not len(methods):
        raise InputError.of(
            "methods",
            got=repr(methods)[:200],
            expected="a list of presets' names",
            fix='Pass ["lposs", "lposs+"].',
        )
    return [presets.find(method).name for method in methods]


def _allow(methods: Sequence[str] | None, given: set[str]) -> list[str]:
    """Return the methods, the start first; refuse one that the start has no inputs for."""
    named = allowed_methods(given) if methods is None else methods
    for method in named:
        if missing := missing_input(presets.find(method), given):
            raise InputError.of(
                "methods",
                got=f"{method!r}, which needs {missing}",
                expected=f"methods for what the start gives: {', '.join(sorted(given))}",
                fix=f"Leave {method} out, or let the start give {missing}.",
            )
        presets.by_name(method)  # its package may be missing
    return list(dict.fromkeys([START, *named]))
