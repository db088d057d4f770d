"""Evaluations that can be interrupted; one labelling serves two widths of the boundary."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch import Tensor

from lpprop.evaluation import Predictor, RefinedStart, Report, Start, evaluate, refinements
from lpprop.evaluation.task import Samples
from lpprop.io.atomic import atomic_write

#: Boundary IoU's usual width, and one of 3 pixels, which shows more of what 16-pixel patches lose.
RATIOS = {"wide": 0.02, "narrow": 0.005}


class Kept(Predictor):
    """A predictor that keeps its labels in a folder and makes none twice."""

    def __init__(self, predictor: RefinedStart, folder: Path) -> None:
        self.predictor, self.folder = predictor, folder

    def file(self, sample: Any) -> Path:
        return self.folder / f"{Path(sample.name).stem}.png"

    def prepare(self, sample: Any) -> None:
        if not self.file(sample).exists():
            self.predictor.prepare(sample)

    def __call__(self, sample: Any) -> np.ndarray:
        file = self.file(sample)
        if file.exists():
            return cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        labels = self.predictor(sample).argmax(0).numpy().astype(np.uint8)
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as out:
            out.write(cv2.imencode(".png", labels)[1].tobytes())
        return labels

    def fingerprint(self) -> dict[str, Any]:
        return self.predictor.fingerprint()


class Run(NamedTuple):
    """A report per width of the boundary; only the wide one's times are those of the methods."""

    wide: Report
    narrow: Report
    labels: Callable[[str, str], np.ndarray]  # by the names of a predictor and an image


def run(
    dataset: Samples,
    start: Callable[[Any], Start],
    methods: Mapping[str, Callable[..., Tensor]],
    out: Path,
) -> Run:
    """Evaluate, or continue an interrupted evaluation."""
    folders = {name: out / "labels" / name for name in methods}
    kept = {
        name: Kept(refined, folders[name]) for name, refined in refinements(start, methods).items()
    }
    wide, narrow = (
        evaluate(dataset, kept, out / width, dilation_ratio=ratio)
        for width, ratio in RATIOS.items()
    )

    def labels(predictor: str, image: str) -> np.ndarray:
        file = folders[predictor] / f"{Path(image).stem}.png"
        return cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)

    return Run(wide, narrow, labels)
