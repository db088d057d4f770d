"""Class scores from a handful of labelled pixels: the mean feature of each class, and its cosines.

Snell et al., "Prototypical networks for few-shot learning", NeurIPS 2017; on patches of labelled
images, masks or clicks it is open vocabulary without a text encoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.label_maps import check_ignore_index
from lpprop._core.options import check_integer, check_names
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop.inputs.layout import refuse_turned
from lpprop.inputs.patch_areas import areas_of_labels
from lpprop.numerics.graphs import unit_features

__all__ = ["class_means", "prototype_logits", "prototypes"]


@full_precision
def prototypes(
    feats: Float[Tensor, "B D h w"],
    labels: Int[Tensor, "B H W"],
    *,
    classes: int | Sequence[str],
    ignore_index: int = 255,
) -> Float[Tensor, "C D"]:
    """Average the features of each class's pixels over labelled images.

    With x_bp the feature of patch p of image b at unit length, and a_bcp the share that class c has
    of the patch's labelled pixels,

        prototype_c = v / |v|,   v = sum over b, p of a_bcp x_bp

    The labels may be on any grid that spans the same image: an edge of a patch cuts a pixel in
    parts. Clicks are labels that are -1 elsewhere: a patch with one clicked pixel counts fully for
    its class.

    Args:
        feats: (B, D, h, w) features; need not be normalised.
        labels: (B, H, W) integers, one class index per pixel. Pixels with a negative label or with
            `ignore_index` do not count.
        classes: their number C, or their names, which the error then tells.
        ignore_index: another label of pixels that do not count.

    Returns:
        (C, D) unit vectors, in the dtype of `feats`. Differentiable in `feats`.

    Raises:
        InputError: shapes that do not match, values that are not finite, a label beyond the
            classes, or a class without a pixel, or whose features cancel out.

    >>> feats = torch.tensor([[[[2.0, 0.0]], [[0.0, 3.0]]]])
    >>> prototypes(feats, torch.tensor([[[0, 0, 1, -1]]]), classes=2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    names = _check_classes(classes)
    _check_labels(feats, labels, names, ignore_index)
    sums, patches = class_means(feats, labels, len(names), ignore_index)
    total = sums.sum(0)
    lengths = total.detach().norm(dim=1) / patches.sum(0)
    for name, length in zip(names, lengths.tolist(), strict=True):
        if length < 1e-6:
            raise InputError.of(
                "feats",
                got=f"features that cancel out, or zeros, in class {name}",
                expected="features with a common direction",
                fix="Look at its labels: they may cover other things.",
            )
    return cast_back(F.normalize(total, dim=1), feats, "feats")


@full_precision
def prototype_logits(
    feats: Float[Tensor, "B D h w"], prototypes: Float[Tensor, "C D"]
) -> Float[Tensor, "B C h w"]:
    """Score each patch by its cosine with each class's prototype.

        logits_bcp = x_bp . prototype_c / (|x_bp| |prototype_c|)

    Args:
        feats: (B, D, h, w) features of the images to segment, of the same model as those of the
            prototypes.
        prototypes: (C, D), such as those of `lpprop.prototypes`; need not be normalised.

    Returns:
        (B, C, h, w) cosines in [-1, 1], in the dtype of `feats`; 0 where a feature is zero.
        Methods on distributions want them sharper: scale them by about 50. Differentiable.

    Raises:
        InputError: shapes that do not match, values that are not finite, or a prototype of zeros.

    >>> feats = torch.tensor([[[[2.0, 3.0]], [[0.0, 3.0]]]])
    >>> prototype_logits(feats, torch.eye(2))
    tensor([[[[1.0000, 0.7071]],
             [[0.0000, 0.7071]]]])
    """
    check_tensors(feats=(feats, "B D h w"), prototypes=(prototypes, "C D"))
    dtype = torch.promote_types(compute_dtype(feats), prototypes.dtype)
    zero = ~prototypes.detach().any(1)
    if bool(zero.any()):
        raise InputError.of(
            "prototypes",
            got=f"zeros in class {int(zero.nonzero()[0])}",
            expected="a direction for each class",
            fix="Make them by lpprop.prototypes, which refuses a class without pixels.",
        )
    directions = unit_features(prototypes, dtype)
    units = unit_features(feats.flatten(2).mT, dtype)
    cosines = (directions @ units.mT).unflatten(2, feats.shape[2:])
    return cast_back(cosines.clamp(-1, 1), feats, "feats")


def class_means(
    feats: Float[Tensor, "B D h w"],
    labels: Int[Tensor, "B H W"],
    classes: int,
    ignore_index: int,
) -> tuple[Float[Tensor, "B C D"], Float[Tensor, "B C"]]:
    """Return the sums of `prototypes` per image, unnormalised, and how many patches they are of."""
    dtype = compute_dtype(feats)
    grid = (feats.shape[-2], feats.shape[-1])
    units = unit_features(feats.flatten(2).mT, dtype)
    counted = _counted(labels, ignore_index)
    areas = torch.stack([areas_of_labels(one, classes, grid) for one in counted]).to(dtype)
    labelled = areas.sum(1, keepdim=True)
    shares = areas / torch.where(labelled > 0, labelled, 1)
    return shares @ units, shares.sum(2)


def _counted(labels: Int[Tensor, "B H W"], ignore_index: int) -> Int64[Tensor, "B H W"]:
    labels = labels.long()  # bytes hold no -1
    return torch.where(labels == ignore_index, -1, labels)


def _check_classes(classes: int | Sequence[str]) -> list[str]:
    if isinstance(classes, Sequence):
        return check_names("classes", classes)
    return [str(number) for number in range(check_integer("classes", classes))]


def _check_labels(feats: object, labels: object, names: Sequence[str], ignore_index: int) -> None:
    check_tensors(feats=(feats, "B D h w"), labels=(labels, "B H W", ("integer",)))
    check_ignore_index(ignore_index, classes := len(names))
    assert isinstance(feats, Tensor)
    assert isinstance(labels, Tensor)
    refuse_turned("labels", labels, (feats.shape[-2], feats.shape[-1]))
    there = _counted(labels, ignore_index).unique()
    highest = int(there[-1])
    absent = set(range(classes)) - set(there.tolist())
    if highest < classes and absent:
        raise InputError.of(
            "labels",
            got=f"no pixel of class {names[min(absent)]}",
            expected="labelled pixels of every class",
            fix="Label one of it, or leave the class out.",
        )
    if highest >= classes:
        raise InputError.of(
            "labels",
            got=f"the label {highest}",
            expected=f"0 to {classes - 1}, a negative one or {ignore_index} (ignore_index)",
            fix="Check the number of classes, and how the labels are numbered.",
        )
