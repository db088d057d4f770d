"""The evaluation: each picture is visited once, and its counts are kept, so that a run goes on."""

import json
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from lpprop.evaluation.metrics import boundary_counts, confusion_matrix
from lpprop.evaluation.workers import run_in_processes
from lpprop.io.atomic import atomic_write

from .experiments import Experiment, experiments
from .methods import Way
from .scenes import DRIVES, Picture, of_scene, pictures
from .starts import STARTS, Labelled
from .store import Store
from .views import CNN, Backbones, View

RATIO = 0.005  # of the diagonal: Boundary IoU 3 pixels wide
Row = dict[str, Any]


class Folders(NamedTuple):
    """Where everything is."""

    weights: Path
    streets: Path
    camvid: Path
    bsds: Path
    out: Path


class Job(NamedTuple):
    """What a worker does at a time: features of a picture, a fit, or a picture's experiments."""

    kind: str
    number: int = 0
    drive: str = ""
    start: str = ""


class Worker:
    """Does jobs. It is pickled before anything is loaded."""

    def __init__(
        self, folders: Folders, *, tiny: bool = False, only: Collection[str] | None = None
    ) -> None:
        self.folders, self.tiny, self.only = folders, tiny, only

    @cached_property
    def pictures(self) -> list[Picture]:
        _, streets, camvid, bsds, _ = self.folders
        return pictures(streets, camvid, bsds, tiny=self.tiny)

    @cached_property
    def experiments(self) -> dict[str, Experiment]:
        every = experiments(tiny=self.tiny)
        return {name: every[name] for name in every if self.only is None or name in self.only}

    @cached_property
    def store(self) -> Store:
        return Store(self.folders.out / "tensors")

    @cached_property
    def backbones(self) -> Backbones:
        return Backbones(self.folders.weights)

    def view(self, picture: Picture) -> View:
        return View(picture, self.store, self.backbones)

    @cached_property
    def labelled(self) -> Labelled:
        return Labelled(
            {
                drive: [self.view(picture) for picture in of_scene(self.pictures, drive)]
                for drive in DRIVES
            }
        )

    def __call__(self, job: Job) -> Job:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # such as that k = 400 is much on a single image
            if job.kind == "features":
                view = self.view(self.pictures[job.number])
                view.feats("token"), view.feats(CNN)
            elif job.kind == "fit":
                self.labelled.fit(job.drive, job.start)
            else:
                self.visit(self.pictures[job.number])
        return job

    def visit(self, picture: Picture) -> None:
        """Run all experiments on a picture, but for what is kept already."""
        view = self.view(picture)
        for experiment in self.experiments.values():
            if picture in experiment.pictures(self.pictures):
                whole = experiment.whole
                self._run(experiment, view if whole is None else self.view(picture.seen_at(whole)))

    def _run(self, experiment: Experiment, view: View) -> None:
        picture = view.picture
        file = counts_file(self.folders.out, experiment, picture)
        about = [picture.hash, *self.backbones.hashes.values(), str(picture.sizes)]
        kept = read_counts(file)
        old = kept["rows"] if kept and kept["about"] == about else {}
        before, made = time.process_time(), self.store.seconds
        rows: dict[str, dict[str, Row]] = {}
        for start in experiment.starts:
            rows[start] = {}
            for name, way in experiment.ways.items():
                described = way.describe(start)
                row = old.get(start, {}).get(name)
                if row is None or row["of"] != described:
                    row = {"of": described, **self.counts(experiment, view, start, way)}
                rows[start][name] = row
        if rows == old:
            return
        features = self.store.seconds - made
        seconds = {"features": features, "methods": time.process_time() - before - features}
        if kept and old:  # those of the whole, of which this time only a part was done
            seconds = kept["seconds"]
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write(json.dumps({"about": about, "rows": rows, "seconds": seconds}).encode())

    def counts(self, experiment: Experiment, view: View, start: str, way: Way) -> Row:
        """The counts of each class: pixels that are right and those of either map, and borders."""
        labels = way(view, start, self.labelled).argmax(1)[0]
        gt, classes = view.picture.gt, view.picture.classes
        confusion = confusion_matrix(labels, gt, classes)
        hits = np.diagonal(confusion)
        row = {
            "hits": hits.tolist(),
            "either": (confusion.sum(0) + confusion.sum(1) - hits).tolist(),
        }
        if experiment.boundary:
            met, edge = boundary_counts(labels, gt, classes, dilation_ratio=RATIO)
            row |= {"met": met.tolist(), "edge": edge.tolist()}
        return row


def counts_file(out: Path, experiment: Experiment, picture: Picture) -> Path:
    return out / "counts" / experiment.name / f"{picture.scene} {picture.name}.json"


def read_counts(file: Path) -> dict[str, Any] | None:
    """Return what a file of counts holds; None if it is absent or damaged."""
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return None
    return found


def evaluate(worker: Worker, processes: int) -> None:
    """Do everything that is not done: features of the drives, fits, then a visit per picture."""
    drives = [i for i, picture in enumerate(worker.pictures) if picture.scene in DRIVES]
    used = {start for each in worker.experiments.values() for start in each.starts}
    fitted = [name for name in used if STARTS[name].kind in ("prototypes", "probe")]
    # Probes first, which take longest.
    fitted.sort(key=lambda name: STARTS[name].kind != "probe")
    phases = [
        [Job("features", i) for i in drives],
        [Job("fit", drive=drive, start=start) for start in fitted for drive in DRIVES],
        [Job("visit", i) for i in range(len(worker.pictures))],
    ]
    for jobs in phases:
        began = time.monotonic()
        for count, job in enumerate(_done(worker, jobs, processes), 1):
            minutes = (time.monotonic() - began) / 60
            print(f"{job.kind} {count} of {len(jobs)}, {minutes:.1f} min", flush=True)


def _done(worker: Worker, jobs: Sequence[Job], processes: int) -> Iterator[Job]:
    if processes == 1:
        return map(worker, jobs)
    return run_in_processes(worker, jobs, processes)
