"""Evaluations that can be ended at any time, at two widths of the boundary from one labelling."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch import Tensor

from lpprop.evaluation import Predictor, RefinedStart, Report, Start, evaluate, refinements
from lpprop.evaluation.task import Samples
from lpprop.io.files import atomic_write

#: Boundary IoU's usual width, and one of 3 pixels, where 16-pixel patches differ the more.
RATIOS = {"wide": 0.02, "narrow": 0.005}


class Kept(Predictor):
    """A predictor whose labels are kept in a folder, and not made again."""

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
    """The report at each width of the boundary; its times are of the wide one."""

    wide: Report
    narrow: Report
    labels: Callable[[str, str], np.ndarray]  # of a predictor and an image


def run(
    dataset: Samples,
    start: Callable[[Any], Start],
    methods: Mapping[str, Callable[..., Tensor]],
    out: Path,
) -> Run:
    """Evaluate; a run that was ended is continued."""
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
