"""Choosing classes, what it saves and what tells which are there: `python -m benchmarks.classes`.

The script prints the tables of docs/classes.md. The first is of `lpprop.select_classes(top=20)`
before `lpprop.refine`, on random scores: the median of the ratios of rounds, in which refinement
with and without it take turns. The second is of `propagate_pixels(prune=True)` in the same way, on
150 classes of which about 8 are in the image: peaked scores, and such as cosines of CLIP, that all
lie between 0.17 and 0.31 (`--pruning` prints it alone).

With `--checkpoint` (DINOv2 ViT-S/14) and `--streets` (CamVid's images/ and labels/ of the drives
0006R0 and 0016E5) a second one follows: how well the evidence for a class tells whether it is in an
image, by the area under the ROC curve over all pairs of image and class. Scores are the cosines of
patches with prototypes, the mean features of a class on the other drive's images. A class is in an
image if it has one in a thousand of its pixels.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop._core.measure import time_call
from lpprop.backbones import VisionTransformer
from lpprop.evaluation.datasets import load_dataset
from lpprop.inputs.selection import gather_evidence

from .camvid.starts import CLASSES
from .discrepancy_choices import load_labelled
from .inputs import scene, smooth

METHODS = {"lposs": {"k": 50}, "lposs+": {"k": 50}, "bilinear": {}}
HEIGHT, WIDTH, PATCH, TOP = 224, 304, 16, 20
GRID = (26, 34)
DRIVES = ("0006R0", "0016E5")
PRESENT = 1e-3
MANY, PRESENT_CLASSES = 150, 8


def measure_savings(counts: list[int], repeats: int) -> None:
    print(f"| classes | method | all (s) | the best {TOP} (s) | ratio |")
    print("|--:|---|--:|--:|--:|")
    for classes in counts:
        for method in METHODS:
            rounds = _take_turns(classes, method, repeats)
            every, few = (median(column) for column in zip(*rounds, strict=True))
            ratio = median(a / b for a, b in rounds)
            print(f"| {classes:,} | `{method}` | {every:.3g} | {few:.3g} | {ratio:.1f} |")


def _take_turns(classes: int, method: str, repeats: int) -> list[tuple[float, float]]:
    """Return the seconds of each round, with all classes and with the best."""
    generator = torch.Generator().manual_seed(0)
    image = scene(H=HEIGHT, W=WIDTH, window=HEIGHT, stride=HEIGHT, patch_size=PATCH, D=8, C=2).image
    grid = HEIGHT // PATCH, WIDTH // PATCH
    feats = torch.randn(1, 384, *grid, generator=generator)
    logits = (5 * torch.randn(1, classes, *grid, generator=generator)).softmax(1)

    def refine(top: int | None) -> Tensor:
        scores = logits if top is None else lpprop.select_classes(logits, top=top)
        return lpprop.refine(scores, feats, image, method=method, **METHODS[method])

    refine(TOP)  # compiles
    return [
        (time_call(lambda: refine(None))[1], time_call(lambda: refine(TOP))[1])
        for _ in range(repeats)
    ]


def measure_pruning(repeats: int) -> None:
    print("| scores | all (s) | pruned (s) | ratio | classes left | same labels (%) |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, noise in (("peaked", None), ("cosines", 0.005), ("cosines, twice the noise", 0.01)):
        logits, image = _many_classes(noise)
        plain = lpprop.propagate_pixels(logits, image)
        pruned = lpprop.propagate_pixels(logits, image, prune=True)
        left = int((pruned.flatten(2).amax(2) > pruned.amin()).sum())
        same = 100 * float((plain.argmax(1) == pruned.argmax(1)).float().mean())
        rounds = []
        for _ in range(repeats):
            every, few = (
                time_call(partial(lpprop.propagate_pixels, logits, image, prune=prune))[1]
                for prune in (False, True)
            )
            rounds.append((every, few))
        every, few = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(a / b for a, b in rounds)
        print(f"| {name} | {every:.3g} | {few:.3g} | {ratio:.1f} | {left} | {same:.4f} |")


def _many_classes(noise: float | None) -> tuple[Tensor, Tensor]:
    """Return scores (1, C, H, W), peaked or as cosines with such noise, and their image."""
    g = torch.Generator().manual_seed(0)
    size, regions = (512, 683), 12
    grid = 32, 43
    region = smooth(regions, size, 4, g).argmax(1)
    image = torch.rand(regions, 3, generator=g)[region].movedim(-1, 1)
    image = image + 0.08 * smooth(3, size, 10, g) + 0.015 * torch.randn(1, 3, *size, generator=g)
    present = torch.randperm(MANY, generator=g)[:PRESENT_CLASSES]
    of_patch = F.interpolate(region[None].float(), grid, mode="nearest").long()[0, 0]
    own = F.one_hot(present[of_patch % PRESENT_CLASSES], MANY).movedim(-1, 0)[None]
    scores = torch.randn(1, MANY, *grid, generator=g)
    if noise is None:
        scores = (scores + 8 * own).softmax(1)
    else:
        liking = 0.004 * torch.randn(regions, MANY, generator=g)[of_patch].movedim(-1, 0)[None]
        level = 0.2 + 0.01 * torch.randn(1, MANY, 1, 1, generator=g)
        scores = level + liking + noise * scores + 0.06 * own
    return F.interpolate(scores.contiguous(), size, mode="bilinear"), image.clamp(0, 1)


def measure_evidence(checkpoint: Path, folder: Path) -> None:
    cosines, present = _score(checkpoint, folder)
    shares = (0.01, 0.05, 0.2, 1.0)
    print("| scores | best patch | " + " | ".join(f"{100 * x:g} %" for x in shares) + " |")
    print("|---|" + "--:|" * (len(shares) + 1))
    for scale in (None, 10.0, 30.0, 100.0):
        name = "cosines" if scale is None else f"softmax, `logit_scale={scale:g}`"
        areas = []
        for patches in (1, *shares):
            evidence = gather_evidence(cosines, patches, scale)
            areas.append(_roc_area(evidence[present], evidence[~present]))
        print(f"| {name} | " + " | ".join(f"{x:.3f}" for x in areas) + " |")


def _score(checkpoint: Path, folder: Path) -> tuple[Tensor, Tensor]:
    """Return cosines (n, C, h, w) with the other drive's prototypes, and what is there (n, C)."""
    backbone = VisionTransformer.from_pretrained(str(checkpoint), dtype=torch.float32)
    images, labels = load_labelled(folder)
    names = [sample.name for sample in load_dataset("camvid", folder)]
    size = tuple(14 * side for side in GRID)
    seen = [backbone(F.interpolate(x, size, mode="bilinear")).feats for x in images.split(1)]
    feats = F.normalize(torch.cat(seen), dim=1)
    one_hot = F.one_hot(labels.clamp(max=CLASSES)).movedim(-1, 1)[:, :CLASSES].float()
    pure = (F.interpolate(one_hot, GRID, mode="area") > 0.5).float()
    cosines = torch.empty_like(pure)
    for drive in DRIVES:
        own = torch.tensor([drive in name for name in names])
        sums = torch.einsum("nchw,ndhw->cd", pure[~own], feats[~own])
        prototypes = F.normalize(sums, dim=1)
        cosines[own] = torch.einsum("cd,ndhw->nchw", prototypes, feats[own])
    return cosines, one_hot.mean((2, 3)) >= PRESENT


def _roc_area(above: Tensor, below: Tensor) -> float:
    """How often a class that is there has more evidence than one that is not."""
    wins = (above[:, None] > below).float() + 0.5 * (above[:, None] == below).float()
    return float(wins.mean())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.classes")
    parser.add_argument("--classes", type=int, nargs="+", default=[150, 1203])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pruning", action="store_true")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--streets", type=Path)
    args = parser.parse_args(arguments)
    if not args.pruning:
        measure_savings(args.classes, args.repeats)
        print()
    measure_pruning(args.repeats)
    if args.checkpoint and args.streets:
        print()
        measure_evidence(args.checkpoint, args.streets)


if __name__ == "__main__":
    main()
