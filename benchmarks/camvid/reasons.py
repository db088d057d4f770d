"""Why a method gains or loses: what it mends and breaks, where, and along which edges."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cv2
import numpy as np
import torch

from lpprop.evaluation.task import Samples
from lpprop.inputs.colour import lab_features
from lpprop.inputs.patch_grid import patch_centres
from lpprop.numerics.graphs import nearest_neighbours

from .starts import CLASSES

Labels = Callable[[str, str], np.ndarray]
BAND = 8  # half a patch: patches misplace a border by no more


def repairs(
    labels: Labels, start: str, methods: Iterable[str], dataset: Samples
) -> dict[str, dict[str, float]]:
    """Percentage of the start's wrong pixels that a method mends, and of the right it breaks."""
    counts = {name: np.zeros(4) for name in methods}
    for sample in _samples(dataset):
        known = sample.gt < CLASSES
        before = (labels(start, sample.name) == sample.gt)[known]
        for name, count in counts.items():
            after = (labels(name, sample.name) == sample.gt)[known]
            count += [
                (~before & after).sum(),
                (~before).sum(),
                (before & ~after).sum(),
                before.sum(),
            ]
    return {
        name: {"mended": 100 * float(a / max(b, 1)), "broken": 100 * float(c / max(d, 1))}
        for name, (a, b, c, d) in counts.items()
    }


def thickness(dataset: Samples) -> list[float]:
    """Width of each class in pixels: twice its area over the length of its outline.

    That is the width of a long strip, and half the side of a square. The outline is counted in
    sides of pixels, without those at the image's border.
    """
    area, outline = np.zeros(CLASSES), np.zeros(CLASSES)
    for sample in _samples(dataset):
        gt = np.where(sample.gt < CLASSES, sample.gt, CLASSES).astype(int)
        area += np.bincount(gt.ravel(), minlength=CLASSES + 1)[:CLASSES]
        for a, b in ((gt[1:], gt[:-1]), (gt[:, 1:], gt[:, :-1])):
            sides = np.concatenate([a[a != b], b[a != b]])
            outline += np.bincount(sides, minlength=CLASSES + 1)[:CLASSES]
    return (2 * area / np.maximum(outline, 1)).tolist()


def purity(
    dataset: Samples, feats: Sequence[torch.Tensor], oracles: Sequence[torch.Tensor], **options: Any
) -> list[float]:
    """Percentage, by weight, of the edges from each class's patches that end in the same class.

    A patch belongs to its most frequent class; the graph is that of `lpprop.propagate_patches`.
    """
    inside, total = np.zeros(CLASSES), np.zeros(CLASSES)
    for number in range(len(dataset)):
        weights = patch_weights(feats[number], **options)
        known = oracles[number].flatten(1).sum(0) > 0
        label = oracles[number].flatten(1).argmax(0)
        same = (label[:, None] == label) & known
        for c in range(CLASSES):
            mine = known & (label == c)
            inside[c] += float((weights * same)[mine].sum())
            total[c] += float((weights * known)[mine].sum())
    return (100 * inside / np.maximum(total, 1e-12)).tolist()


def votes(
    feats: Sequence[torch.Tensor],
    oracles: Sequence[torch.Tensor],
    starts: Sequence[torch.Tensor],
    **options: Any,
) -> dict[str, float]:
    """For which class the neighbours of wrong patches vote, in percent of their edges' weight.

    A patch's label is the best class of the start (C, h, w), its true class the most frequent one
    of the oracle. Neighbours without a true label have no vote.
    """
    true_class = own_label = total = wrong_patches = patches = 0.0
    for seen, oracle, start in zip(feats, oracles, starts, strict=True):
        weights = patch_weights(seen, **options)
        known = oracle.flatten(1).sum(0) > 0
        truth, label = oracle.flatten(1).argmax(0), start.flatten(1).argmax(0)
        wrong = known & (label != truth)
        said = (weights * known)[wrong]
        true_class += float((said * (label == truth[wrong][:, None])).sum())
        own_label += float((said * (label == label[wrong][:, None])).sum())
        total += float(said.sum())
        wrong_patches += float(wrong.sum())
        patches += float(known.sum())
    return {
        "wrong patches": 100 * wrong_patches / patches,
        "for the true class": 100 * true_class / max(total, 1e-12),
        "for the wrong label": 100 * own_label / max(total, 1e-12),
    }


def patch_weights(
    feats: torch.Tensor, *, k: int, gamma: float, sigma: float = 0.01, patch_size: int = 16
) -> torch.Tensor:
    """W + W^T of the patch graph, dense: W_ij = s_ij^gamma exp(-sigma d_ij), empty diagonal."""
    x = feats.flatten(1).T
    neighbours, similarity = nearest_neighbours(x, k, torch.float64)
    centres = patch_centres((feats.shape[1], feats.shape[2]), patch_size, torch.zeros(1, 2))
    distance = torch.cdist(centres.double(), centres.double()).gather(1, neighbours)
    directed = torch.zeros(len(x), len(x), dtype=torch.float64).scatter(
        1, neighbours, similarity.clamp(min=0) ** gamma * torch.exp(-sigma * distance)
    )
    return (directed + directed.T).fill_diagonal_(0)


def near_borders(
    labels: Labels, methods: Iterable[str], dataset: Samples, cuts: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Percentage right within half a patch of a true border, by the border's shape and contrast.

    Shape: the share of a pixel's own class in the square of `BAND` pixels around it. A straight
    border leaves half of the square or more; less than 45 % means a corner or something thin.
    Contrast: the distance between the mean colours of the pixel's class and of all others in that
    square, in the pixel step's Lab, in bins between `cuts`.
    """
    right = {name: np.zeros(2 + len(cuts) + 1) for name in methods}
    total = np.zeros(2 + len(cuts) + 1)
    for sample in _samples(dataset):
        share, contrast, band = border(sample)
        thin = share < 0.45
        bins = np.digitize(contrast, cuts)
        parts = [band & thin, band & ~thin, *(band & (bins == i) for i in range(len(cuts) + 1))]
        total += [part.sum() for part in parts]
        for name, count in right.items():
            good = labels(name, sample.name) == sample.gt
            count += [(good & part).sum() for part in parts]
    edges = [0.0, *cuts, np.inf]
    names = [
        "corner or thin",
        "straight",
        *(f"contrast {a:g} to {b:g}" for a, b in itertools.pairwise(edges)),
    ]
    named = {
        name: dict(zip(names, (100 * count / np.maximum(total, 1)).tolist(), strict=True))
        for name, count in right.items()
    }
    whole = total[:2].sum()
    return {"% of the band": dict(zip(names, (100 * total / whole).tolist(), strict=True)), **named}


def border(sample: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per pixel: the share of its class around it, the contrast, and whether a border is near."""
    gt = np.where(sample.gt < CLASSES, sample.gt, CLASSES)
    pixels = torch.from_numpy(np.array(sample.image)).permute(2, 0, 1)[None] / 255
    colour = lab_features(pixels)[0].permute(1, 2, 0).double().numpy()
    shape, own = gt.shape, np.zeros(gt.shape)
    own_sum, known_sum = np.zeros(colour.shape), _box(colour * (gt < CLASSES)[..., None])
    known = _box((gt < CLASSES).astype(float))
    for c in range(CLASSES):
        here = gt == c
        if here.any():
            own[here] = _box(here.astype(float))[here]
            own_sum[here] = _box(colour * here[..., None])[here]
    others = known - own
    there = (gt < CLASSES) & (others > 0.5)  # sums count whole pixels: half of one is rounding
    contrast = np.full(shape, np.nan)
    mine = own_sum[there] / own[there][:, None]
    theirs = (known_sum - own_sum)[there] / others[there][:, None]
    contrast[there] = np.linalg.norm(mine - theirs, axis=1)
    share = np.divide(own, known, out=np.ones(shape), where=known > 0)
    return share, np.nan_to_num(contrast), there


def _box(x: np.ndarray) -> np.ndarray:
    """Sum over the square around each pixel, cut off at the image's border."""
    side = 2 * BAND + 1
    return cv2.boxFilter(x, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)


def _samples(dataset: Samples) -> Iterable[Any]:
    return (dataset[i] for i in range(len(dataset)))
