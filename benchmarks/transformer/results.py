"""From counts of pictures to the committed results: means, gains with intervals, directions."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

import lpprop

from ..camvid.intervals import drawn_images, mean_ratio
from .directions import DIRECTIONS, Direction
from .experiments import Experiment
from .methods import BILINEAR
from .scenes import DRIVES, PHOTOGRAPHS, Picture, of_scene
from .visits import counts_file, read_counts

BLOCK = 4  # neighbouring pictures of a drive that are drawn together
Document = dict[str, Any]
Counts = Mapping[str, npt.NDArray[np.int64]]  # by the name of the count: (pictures, C)


class Gain(NamedTuple):
    """A difference in points, with its 95 % bootstrap interval."""

    gain: float
    low: float
    high: float
    better: int  # number of pictures that gain


class Counted:
    """All counts of an experiment: those of a way from a start, in the order of the pictures."""

    def __init__(self, experiment: Experiment, pictures: Sequence[Picture], out: Path) -> None:
        self.experiment = experiment
        self.pictures = experiment.pictures(pictures)
        found = [read_counts(counts_file(out, experiment, picture)) for picture in self.pictures]
        self.files = [each for each in found if each is not None]
        if len(self.files) < len(found):
            raise ValueError(f"{experiment.name}: {len(self.files)} of {len(found)} pictures")
        self.photographs = experiment.scenes == (PHOTOGRAPHS,)

    def scores(
        self, start: str, way: str, weights: npt.NDArray[Any], metric: str = "miou"
    ) -> npt.NDArray[np.float64]:
        """The metric of each draw of pictures, weights (draws, pictures).

        Classes are pooled over the pictures of drives. Photographs have classes of their own each,
        and the metric is the mean over them.
        """
        part, whole = ("hits", "either") if metric == "miou" else ("met", "edge")
        rows = [each["rows"][start][way] for each in self.files]
        if self.photographs:
            own = [
                mean_ratio(*(np.array([row[name]]) for name in (part, whole)))[0] for row in rows
            ]
            return np.asarray(weights @ np.array(own) / weights.sum(1))
        counts = [np.array([row[name] for row in rows]) for name in (part, whole)]
        return np.asarray(mean_ratio(weights @ counts[0], weights @ counts[1]))

    def weights(self, scenes: Sequence[str], draws: bool = False) -> npt.NDArray[Any]:
        """How often each picture counts: all of some scenes once, or draws of them.

        Pictures are drawn in blocks of neighbours, from each scene as many as it has.
        """
        parts = []
        for number, scene in enumerate(self.experiment.scenes):
            count = len(of_scene(self.pictures, scene))
            if scene not in scenes:
                parts.append(np.zeros((1, count), dtype=int))
            elif draws:
                block = 1 if scene == PHOTOGRAPHS else BLOCK
                parts.append(drawn_images(count, block=block, seed=number))
            else:
                parts.append(np.ones((1, count), dtype=int))
        length = max(len(part) for part in parts)
        return np.hstack([np.broadcast_to(part, (length, part.shape[1])) for part in parts])

    def mean(self, start: str, way: str, metric: str = "miou", scene: str | None = None) -> float:
        scenes = self.measured if scene is None else (scene,)
        return float(self.scores(start, way, self.weights(scenes), metric)[0])

    def gain(self, start: str, before: str, after: str, metric: str = "miou") -> Gain:
        """Compare two ways on the same draws of pictures."""
        once, drawn = self.weights(self.measured), self.weights(self.measured, draws=True)
        each = np.eye(len(self.pictures), dtype=int)[once[0] > 0]

        def change(weights: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
            return self.scores(start, after, weights, metric) - self.scores(
                start, before, weights, metric
            )

        low, high = np.percentile(change(drawn), [2.5, 97.5])
        return Gain(
            100 * float(change(once)[0]),
            100 * float(low),
            100 * float(high),
            int((change(each) > 0).sum()),
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """The scenes of a mean: the drives, without the stretch, whose frames are alike."""
        return self.experiment.scenes if self.photographs else DRIVES

    def document(self) -> Document:
        """Metrics of each way from each start, and gains over the first way."""
        experiment = self.experiment
        return {start: self._rows(start) for start in experiment.starts}

    def _rows(self, start: str) -> Document:
        experiment, rows = self.experiment, {}
        base = next(iter(experiment.ways))
        for name, way in experiment.ways.items():
            row: Document = {"miou": self.mean(start, name)}
            if way.values:
                row["values"] = dict(way.values)
            if experiment.boundary:
                row["boundary"] = self.mean(start, name, "boundary")
            if base == BILINEAR:
                row["gain"] = self.gain(start, base, name)._asdict()
                if experiment.boundary:
                    row["boundary_gain"] = self.gain(start, base, name, "boundary")._asdict()
            if (own := experiment.before.get(name)) is not None:
                row["own_gain"] = self.gain(start, own, name)._asdict()
                row["own_boundary_gain"] = self.gain(start, own, name, "boundary")._asdict()
            if experiment.every == 1 and not self.photographs:
                row["scenes"] = {
                    scene: self.mean(start, name, scene=scene) for scene in experiment.scenes
                }
            rows[name] = row
        return rows

    def seconds(self) -> Document:
        """Median processor time of a picture."""
        return {
            name: float(np.median([each["seconds"][name] for each in self.files]))
            for name in ("features", "methods")
        }


def results(
    pictures: Sequence[Picture], out: Path, experiments: Mapping[str, Experiment]
) -> Document:
    """The document of a run that is complete."""
    counted = {name: Counted(each, pictures, out) for name, each in experiments.items()}
    return {
        "pictures": {scene: len(of_scene(pictures, scene)) for scene in _scenes(pictures)},
        "versions": {
            "lpprop": lpprop.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "experiments": {
            name: {"pictures": len(each.pictures), "starts": each.document()}
            for name, each in counted.items()
        },
        "directions": {
            direction.claim: compared(counted[direction.experiment], direction)
            for direction in DIRECTIONS
            if direction.experiment in counted
        },
        "seconds": {name: each.seconds() for name, each in counted.items()},
    }  # fmt: skip


def grown(old: Document, new: Document) -> Document:
    """A document with the experiments of a run of some of them in place of its own, or added."""
    return {
        name: value | new[name] if name in ("experiments", "directions", "seconds") else new[name]
        for name, value in old.items()
    }


def compared(counted: Counted, direction: Direction) -> Document:
    """The gain of each start along a direction of a paper."""
    if not {direction.before, direction.after} <= counted.experiment.ways.keys():
        return {}  # a tiny run
    return {
        start: counted.gain(start, direction.before, direction.after)._asdict()
        for start in counted.experiment.starts
    }


def _scenes(pictures: Sequence[Picture]) -> list[str]:
    return list(dict.fromkeys(picture.scene for picture in pictures))
