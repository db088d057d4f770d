"""Local CRF and pooling, by mIoU: `python -m benchmarks.local_refiners CHECKPOINT FOLDER`.

CHECKPOINT holds DINOv2 ViT-S/14, and FOLDER two drives of CamVid, images/ and labels/. The script
prints the tables of docs/baselines.md: times of the local CRF beside other refiners of pixels, and
mIoU and mean Boundary IoU over images of both drives, from starts of `benchmarks.transformer`, of
which those with prototypes are made from the other drive.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import lpprop
from lpprop import Chain
from lpprop.evaluation import SegmentationMetrics
from lpprop.refiners import (
    PAMR,
    AttentionPool,
    BilinearUpsample,
    CorrelationPool,
    DenseCRF,
    LocalCRF,
    MaxVelocity,
    PixelPropagation,
)

from .inputs import pixels
from .transformer.methods import METHODS, Way, dslo
from .transformer.scenes import CLASSES, DRIVES, Picture
from .transformer.starts import Labelled, spread
from .transformer.store import Store
from .transformer.views import Backbones, View
from .transformer.visits import RATIO

SIZES = {"H": 448, "W": 597, "C": 21}
ROUNDS = 5
IMAGES = 8  # of each drive
STARTS = ("DINOv2 prototypes, 4", "CNN prototypes, 4", "relabelled 40 %", "oracle")


def at_pixels(step: nn.Module) -> Way:
    return Way(Chain(BilinearUpsample(), step))


def pooled(*, feats: str = "token", **options: float) -> Way:
    return Way(Chain(CorrelationPool(**options), BilinearUpsample()), feats)


def attended(attention: str, steps: int = 1) -> Way:
    return Way(Chain(AttentionPool(steps=steps), BilinearUpsample()), attention=attention)


FIELDS: dict[str, Way] = {
    "bilinear": METHODS["bilinear"],
    "pixel step": at_pixels(PixelPropagation()),
    "PAMR": at_pixels(PAMR()),
    "DenseCRF": at_pixels(DenseCRF()),
    "local CRF": at_pixels(LocalCRF()),
    **{f"local CRF, r {r}": at_pixels(LocalCRF(r=r)) for r in (5, 21)},
    "local CRF, w1 30": at_pixels(LocalCRF(w1=30.0)),
    "local CRF, theta_beta 5": at_pixels(LocalCRF(theta_beta=5.0)),
}
POOLS: dict[str, Way] = {
    "bilinear": METHODS["bilinear"],
    "attention pool, tokens": attended("token 0.1"),
    "attention pool, query-key": attended("query-key last"),
    "attention pool, query-key, 2 steps": attended("query-key last", 2),
    "clip_dinoiser, keys": pooled(feats="key"),
    "clip_dinoiser, keys, threshold 0.6": pooled(feats="key", threshold=0.6),
    "clip_dinoiser, tokens": pooled(),
    "clip_dinoiser, tokens, threshold 0.7": pooled(threshold=0.7),
    **{
        f"clip_dinoiser, values, threshold {threshold:g}": pooled(
            feats="value", threshold=threshold
        )
        for threshold in (0.2, 0.6, 0.8)
    },
    "LP k 10, γ 7, α 0.8": METHODS["LP k 10, γ 7, α 0.8"],
    "maximum velocity": dslo(MaxVelocity()),
}


def score(views: list[View], labelled: Labelled, start: str, way: Way) -> str:
    """Show mIoU and mean Boundary IoU over the views, in percent."""
    metrics = SegmentationMetrics(CLASSES, dilation_ratio=RATIO)
    for view in views:
        metrics.update(way(view, start, labelled).argmax(1)[0], view.picture.gt)
    return f"{100 * metrics.miou:.1f} / {100 * metrics.mean_boundary_iou:.1f}"


def table(views: list[View], labelled: Labelled, ways: Mapping[str, Way]) -> None:
    print(f"| | {' | '.join(STARTS)} |\n|---|{'--:|' * len(STARTS)}", flush=True)
    for name, way in ways.items():
        row = [score(views, labelled, start, way) for start in STARTS]
        print(f"| {name} | {' | '.join(row)} |", flush=True)


def load(streets: Path, drive: str) -> list[Picture]:
    """The pictures of a drive in the order of time."""
    files = sorted((streets / "images").glob(f"{drive}_*"))
    labels = streets / "labels"
    return [Picture(drive, file.stem, file, labels / f"{file.stem}.png") for file in files]


def times() -> None:
    """Print the processor time of each on one core, and its ratio to the local CRF's.

    Medians over rounds, in each of which every one runs once.
    """
    inputs = pixels(**SIZES)
    x, image = inputs.pixel_logits.softmax(1), inputs.image
    field = partial(lpprop.local_crf, x, image, scale=None)
    runs: dict[str, Callable[[], Tensor]] = {
        "local CRF": field,
        "local CRF, backend torch": partial(field, backend="torch"),
        "local CRF, r 7": partial(field, r=7),
        "DenseCRF": partial(lpprop.dense_crf, x, image, scale=None),
        "PAMR": partial(lpprop.pamr, x, image),
        "pixel step": partial(lpprop.propagate_pixels, x, image),
    }
    torch.set_num_threads(1)
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(1 + ROUNDS)][1:]
    print("| 448 x 597 pixels, 21 classes | seconds | times local CRF |\n|---|--:|--:|")
    for name in runs:
        own = statistics.median(found[name] for found in rounds)
        ratio = statistics.median(found[name] / found["local CRF"] for found in rounds)
        print(f"| {name} | {own:.2f} | {ratio:.2f} |", flush=True)


def seconds(run: Callable[[], Tensor]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.local_refiners")
    parser.add_argument("checkpoint", type=Path, help="folder of DINOv2 ViT-S/14")
    parser.add_argument("streets", type=Path, help="two drives of CamVid: images/ and labels/")
    args = parser.parse_args()
    times()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        see = partial(View, store=Store(Path(folder)), backbones=Backbones(args.checkpoint))
        drives = {drive: [see(x) for x in load(args.streets, drive)] for drive in DRIVES}
        labelled = Labelled(drives)
        chosen = [x[i] for x in drives.values() for i in spread(len(x), IMAGES)]
        for ways in (FIELDS, POOLS):
            table(chosen, labelled, ways)


if __name__ == "__main__":
    main()
