"""Classification of regions by references in the image's own feature space, as RIM does it.

Wang et al., "Image-to-image matching via foundation models: a new perspective for open-vocabulary
semantic segmentation", CVPR 2024 (RIM).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import warn
from lpprop._core.options import checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop.inputs.matching import CHECKS, check_references, match
from lpprop.inputs.patch_areas import areas_of_labels, areas_of_masks
from lpprop.inputs.regions import Regions, check_regions

__all__ = ["classify_regions"]

_LOWEST = -1.0  # of cosines; for images without any region
_AT_ONCE = 2**27  # bytes of masks as floats


@full_precision
@checked(**CHECKS)
def classify_regions(
    feats: Float[Tensor, "B D h w"],
    regions: Regions,
    references: Sequence[Float[Tensor, "_ D"]],
    *,
    matching: str = "cosine",
    reduce: str = "max",
    temperature: float = 0.02,
) -> Float[Tensor, "B C H W"]:
    """Score the classes of each region by references of each class.

    A region's feature is the mean over its patches, each weighted by the area a_rp that the region
    has of it,

        x_r = sum over p of a_rp feats_p / sum over p of a_rp

    and with s_rj = cos(x_r, reference j), for all references of all classes,

        matching="cosine":  score_rc = max (or mean) over j in class c of s_rj
        matching="rank":    P_r = softmax over j of s_rj / temperature
                            profile_c = mean over i in class c of P_i, reference i's own
                            score_rc = -KL(profile_c || P_r)

    so that "rank" compares how a region relates to all references with how those of a class do. P_i
    is over the references but i itself, unless i is alone in its class.

    RIM compares regions and references of generated images by such a distribution over a ranking,
    with mean DINOv2 features. Its supplement does not give the rule and its main paper was not at
    hand: "rank" is ours, in its spirit. Where regions overlap, a pixel has the mean of their
    scores, weighted by its memberships, as in `region_vote`.

    Args:
        feats: (B, D, h, w) features of the model that made the references.
        regions: (B, H, W) integers, negative = in no region; or for each image masks (M, H, W),
            bool or of memberships in [0, 1]. They span the same image as the feats.
        references: for each class (K_c, D) vectors; need not be normalised.
        matching: "cosine" or "rank".
        reduce: "max" or "mean", over the references of a class, for "cosine".
        temperature: at least 0.0001, for "rank".

    Returns:
        (B, C, H, W) scores of the size of the regions, in the dtype of `feats`: cosines in
        [-1, 1], or values up to 0. A pixel in no region has one score for all classes: the lowest
        of its image, or -1 in an image without regions. Differentiable in the feats.

    Raises:
        InputError: shapes that do not match, values that are not finite, references of zeros, or
            an option that cannot be used.

    Warns:
        InputWarning: pixels in no region, where all classes tie.

    >>> feats = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.2, 1.0]]]])
    >>> references = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])]
    >>> classify_regions(feats, torch.tensor([[[0, 0, 7]]]), references)
    tensor([[[[0.9950, 0.9950, 0.0000]],
             [[0.0995, 0.0995, 1.0000]]]])
    """
    sizes = check_tensors(feats=(feats, "B D h w"))
    listed = check_references("references", references, feats)
    check_regions(regions, feats)
    dtype, grid = compute_dtype(feats), (sizes["h"], sizes["w"])
    scored = []
    undecided, pixels = 0, 0
    for x, own in zip(feats.to(dtype).flatten(2).mT, regions, strict=True):
        if own.dtype == torch.bool or own.is_floating_point():
            areas, members = areas_of_masks(own, grid).to(dtype), own
        else:
            members = _number(own)
            areas = areas_of_labels(members, int(members.max()) + 1, grid).to(dtype)
        total = areas.sum(1, keepdim=True)
        means = (areas / torch.where(total > 0, total, 1)) @ x
        scores = match(means, listed, matching=matching, reduce=reduce, temperature=temperature)
        found, covered = _spread(scores, members)
        lowest = scores.detach().amin() if len(scores) else scores.new_tensor(_LOWEST)
        scored.append(torch.where(covered, found, lowest))
        undecided += int((~covered).sum())
        pixels += covered.numel()
    if undecided:
        warn(
            "pixels in no region",
            f"regions: got {undecided / pixels:.2g} of the pixels in no region, where all classes "
            "tie, so that argmax gives them the first. Fill the gaps, such as by superpixels, or "
            "score these pixels by lpprop.prototype_logits.",
        )
    return cast_back(torch.stack(scored), feats, "feats")


def _number(regions: Int[Tensor, "H W"]) -> Int64[Tensor, "H W"]:
    """Number the regions of a map from 0, in the order of their numbers; -1 where there is none."""
    numbers, places = regions.unique(return_inverse=True)
    numbered: Tensor = (places - (numbers < 0).sum()).clamp_min(-1)
    return numbered


def _spread(
    scores: Float[Tensor, "M C"], members: Int64[Tensor, "H W"] | Tensor
) -> tuple[Float[Tensor, "C H W"], Bool[Tensor, "H W"]]:
    """Give each pixel the scores of its region, or the mean over its masks; tell if it has any."""
    if members.ndim == 2:
        padded = torch.cat([scores, scores.new_zeros(1, scores.shape[1])])
        return padded.T[:, members], members >= 0
    size = members.shape[1] * members.shape[2]
    total, weight = scores.new_zeros(scores.shape[1], size), scores.new_zeros(size)
    at_once = max(1, _AT_ONCE // (scores.itemsize * size))
    for part, of_part in zip(scores.split(at_once), torch.split(members, at_once), strict=True):
        masks = of_part.to(scores.dtype).flatten(1)
        total = total + part.T @ masks
        weight = weight + masks.sum(0)
    covered = weight > 0
    mean = total / torch.where(covered, weight, 1)
    return mean.unflatten(1, members.shape[1:]), covered.unflatten(0, members.shape[1:])
