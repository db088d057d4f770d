"""Settings: each method over a grid of its options, on a part of the images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from lpprop import Chain, presets
from lpprop.evaluation import Start
from lpprop.evaluation.analyses import sweep
from lpprop.evaluation.task import Samples
from lpprop.refiners import (
    PAMR,
    BilinearUpsample,
    DenseCRF,
    GuidedFilter,
    JointBilateralUpsample,
    PatchPropagation,
    PixelPropagation,
)

from .methods import REFINERS, Softmax
from .runs import RATIOS

Method = Callable[..., Callable[..., Tensor]]


@dataclass(frozen=True)
class Every:
    """Each `step`-th image of a data set, from the middle of the first step."""

    dataset: Samples
    step: int

    @property
    def name(self) -> str:
        return f"{self.dataset.name}, 1 image in {self.step}"

    @property
    def class_names(self) -> Sequence[str]:
        return self.dataset.class_names

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.numbers[index]]

    @property
    def numbers(self) -> range:
        """The numbers of the images in the whole data set."""
        return range(self.step // 2, len(self.dataset), self.step)


class Grid(NamedTuple):
    """A method as a function of its options, and the values of each."""

    method: Method
    values: Mapping[str, Sequence[Any]]


def patches(softmax: list[nn.Module], **options: Any) -> Chain:
    return Chain(*softmax, PatchPropagation(**options), BilinearUpsample())


SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "as they are": lambda z: z,
    "probabilities": lambda z: z.softmax(1),
    "labels": lambda z: F.one_hot(z.argmax(1), z.shape[1]).movedim(-1, 1).to(z.dtype),
}


class Scores(nn.Module):
    """The first step, which transforms the start: into its best class alone, for example."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, logits: Tensor, **_: Tensor | None) -> Tensor:
        return SCORES[self.kind](logits)

    def extra_repr(self) -> str:
        return self.kind


def scored(*steps: nn.Module, scores: str) -> Chain:
    return Chain(Scores(scores), *steps)


def preset(softmax: list[nn.Module], make: Callable[..., Chain], **options: Any) -> Chain:
    chain = make(**options)
    return Chain(*softmax, *chain.steps, temperature=chain.temperature)


def pixels(
    before: list[nn.Module], kind: type[nn.Module], resize: list[nn.Module], **options: Any
) -> Chain:
    return Chain(*before, *resize, kind(**options))


def grids(*, logits: bool) -> dict[str, Grid]:
    """The grids for a start: probabilities with wrong patches, or a classifier's logits.

    Methods from patches to pixels follow the best patch step: label propagation if patches are
    wrong at random, none if a classifier made the start.
    """
    softmax: list[nn.Module] = [Softmax()] * logits
    before = softmax if logits else [PatchPropagation(k=50, gamma=7.0)]
    resize: list[nn.Module] = [BilinearUpsample()]
    kinds = tuple(SCORES) if logits else ("as they are", "labels")
    return {
        "patch step": Grid(
            partial(patches, softmax),
            {
                "k": (5, 10, 50, 100, 400),
                "gamma": (3.0, 7.0, 15.0),
                "alpha": (0.3, 0.5, 0.8, 0.95),
            },
        ),
        "patch step, k 50, γ 7": Grid(
            partial(patches, softmax, k=50, gamma=7.0),
            {"sigma": (0.0, 0.01, 0.03, 0.1), "max_iter": (10, 1000)},
        ),
        "pixel step": Grid(
            partial(pixels, before, PixelPropagation, resize),
            {"tau": (0.003, 0.01, 0.03, 0.1), "r": (7, 13), "alpha": (0.5, 0.8, 0.95)},
        ),
        "optimal path": Grid(
            partial(preset, softmax, presets.optimal_path),
            {
                "epsilon": (0.01, 0.03, 0.1, 0.3, 1.0),
                "nms": (0.0, 0.5, 0.9),
            },
        ),
        "velocity": Grid(
            partial(preset, softmax, presets.max_velocity, confidence="minmax"),
            {"tau": (0.1, 0.3, 0.5), "nms": (0.3, 0.5, 0.7, 0.9), "temperature": (0.1, 0.2, 0.3)},
        ),
        "joint bilateral": Grid(
            partial(pixels, before, JointBilateralUpsample, []),
            {"sigma_range": (0.05, 0.1, 0.2, 0.1**0.5, 0.5), "sigma_space": (0.25, 0.5, 1.0)},
        ),
        "guided filter": Grid(
            partial(pixels, before, GuidedFilter, resize),
            {"radius": (4, 8, 16), "eps": (1e-6, 1e-4, 1e-2)},
        ),
        "PAMR": Grid(
            partial(pixels, before, PAMR, resize),
            {"iterations": (1, 5, 10), "dilations": ((1, 2), (4, 8), (8, 16))},
        ),
        "DenseCRF": Grid(
            partial(pixels, before, DenseCRF, resize),
            {"w1": (1.0, 3.0, 10.0), "theta_beta": (5.0, 13.0), "scale": ("auto", 5.0)},
        ),
        "scores for LP k 50, γ 7": Grid(
            partial(scored, *REFINERS["LP k 50, γ 7"], *resize), {"scores": kinds}
        ),
        "scores for path": Grid(
            partial(scored, *REFINERS["path preset"], JointBilateralUpsample()), {"scores": kinds}
        ),
        "scores for velocity": Grid(
            partial(scored, *REFINERS["velocity preset"], JointBilateralUpsample()),
            {"scores": kinds},
        ),
    }  # fmt: skip


def swept(
    dataset: Samples, start: Callable[[Any], Start], out: Path, *, logits: bool, tiny: bool = False
) -> dict[str, list[dict[str, Any]]]:
    """Evaluate all grids; `tiny`: the first value of each option only. Rows by the grid's name."""
    rows = {}
    for name, (method, values) in grids(logits=logits).items():
        grid = {option: several[:1] if tiny else several for option, several in values.items()}
        folder = out / name
        found = sweep(dataset, start, method, grid, folder, dilation_ratio=RATIOS["narrow"])
        rows[name] = [
            {"values": row.values, "miou": row.miou, "boundary": row.boundary_iou}
            for row in found.rows
        ]
    return rows
