"""The region vote: the pixels of a region get the scores of that region.

Zhang et al.: CorrCLIP, ICCV 2025 (arXiv:2411.10086), whose map correction is by="vote" with
overlap="largest"; Shi et al.: Trident, ICCV 2025 (arXiv:2411.09219), which prompts SAM with the
coarse result; Wang et al.: RIM, CVPR 2024 (arXiv:2404.00262), which classifies regions. What they
leave open, such as soft masks and purity, is this package's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError, warn
from lpprop._core.options import check_choice, check_number, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.proposals import Proposal
from lpprop.inputs.regions import Regions, RegionScores, check_region_scores, check_regions
from lpprop.numerics.region_pooling import Masks, Partition
from lpprop.numerics.twins import match_twins

__all__ = ["RegionVote", "region_vote"]

_share = partial(check_number, low=0, high=1)

# Sums of memberships below this count as none: a quotient of smaller ones would lose its digits.
_LEAST = 1e-20


@full_precision
@checked(
    by=partial(check_choice, choices=("mean", "vote", "probability")),
    strength=_share,
    purity=_share,
    overlap=partial(check_choice, choices=("average", "smallest", "largest")),
)
def region_vote(
    logits: Float[Tensor, "B C H W"],
    regions: Regions,
    *,
    by: str = "mean",
    strength: float = 1.0,
    purity: float = 0.0,
    overlap: str = "average",
    region_scores: RegionScores | None = None,
) -> Float[Tensor, "B C H W"]:
    """Give all pixels of a region its scores.

    With A_mi the membership of pixel i in region m, times the region's score if there are any,

        Z_m  = sum_i A_mi f(Y)_i / sum_i A_mi
        Y'_i = (1 - strength) f(Y)_i + strength sum_m A_mi Z_m / sum_m A_mi

    and f(Y)_i where a pixel is in no region. f(Y) are the scores (by="mean"), 1 for the best class
    and 0 for the others ("vote"), or the softmax over the classes ("probability").

    Args:
        logits: (B, C, H, W) scores at pixels, larger = likelier.
        regions: integers (B, y, x), negative = in no region; or a list of masks (M, y, x) for each
            image, bool or floats in [0, 1], which may overlap. Those of another size than (H, W)
            are resampled to it by nearest neighbour.
        by: what is averaged over a region: "mean", "vote" or "probability".
        strength: weight of a region's scores against the pixel's own, in [0, 1].
        purity: a region is left out if its most frequent class, among the best classes of its
            pixels, has a smaller share than this, in [0, 1].
        overlap: what a pixel in several masks gets: their "average", or the scores of the
            "smallest" or "largest" one that holds it. A soft mask holds the pixels where it has at
            least half of its largest value. Of equally large ones the first counts.
        region_scores: weights of the masks in the average, from 0, which leaves a mask out: a
            tensor (M,) for each image, or one if there is one image. Regions that are integers
            cannot overlap, and take none.

    Returns:
        Scores (B, C, H, W) in the dtype of `logits`. Differentiable in `logits`, except by="vote",
        and in `region_scores`; which regions purity leaves out is held fixed.

    Raises:
        InputError: shapes that do not match, values that are not finite or out of range, masks that
            require a gradient, or an option out of range.

    >>> logits = torch.tensor([[[[0.9, 0.6, 0.0]], [[0.1, 0.4, 1.0]]]])
    >>> region_vote(logits, torch.tensor([[[4, 4, 4]]]))[0, :, 0]
    tensor([[0.5000, 0.5000, 0.5000],
            [0.5000, 0.5000, 0.5000]])
    >>> region_vote(logits, torch.tensor([[[4, 4, -1]]]), by="vote")[0, :, 0]
    tensor([[1., 1., 0.],
            [0., 0., 1.]])
    """
    check_tensors(logits=(logits, "B C H W"))
    check_regions(regions, logits)
    if region_scores is not None:
        check_region_scores(region_scores, regions, logits)
    if isinstance(region_scores, Tensor):
        region_scores = [region_scores]
    _refuse_gradients(regions)

    size = (logits.shape[-2], logits.shape[-1])
    items = []
    for number, scores in enumerate(logits.to(compute_dtype(logits)).flatten(2)):
        own = regions[number]
        member = (
            Partition.of(own, size)
            if isinstance(regions, Tensor)
            else Masks(own, size, scores.dtype)
        )
        weights = None if region_scores is None else region_scores[number]
        items.append(_vote(scores, member, weights, by, strength, purity, overlap))
    voted = torch.stack(items) if len(items) > 1 else items[0][None]  # without a copy
    if by != "vote":  # of equal classes only the first has votes
        voted = match_twins(voted, logits.flatten(2))
    return cast_back(voted.unflatten(2, size), logits)


def _vote(
    scores: Float[Tensor, "C N"],
    member: Partition | Masks,
    weights: Float[Tensor, " M"] | None,
    by: str,
    strength: float,
    purity: float,
    overlap: str,
) -> Float[Tensor, "C N"]:
    classes, best, shares = len(scores), None, None
    if by == "vote" or purity > 0:
        best = scores.detach().max(0).indices  # argmax takes four times as long
        shares = member.shares(best, classes).to(scores.dtype)
    if by == "probability":
        scores = scores.softmax(0)
    pooled = shares if by == "vote" else member.means(scores)  # Z
    assert pooled is not None

    kept = torch.ones_like(pooled[0]) if weights is None else weights.to(scores)
    if weights is not None and len(weights):  # against overflow; the average is the same
        kept = kept / kept.detach().max().clamp_min(torch.finfo(scores.dtype).tiny)
    if purity > 0:
        assert shares is not None
        kept = kept * (shares.amax(0) >= purity)
    if isinstance(member, Masks) and overlap != "average":
        member = member.owners(kept > 0, largest=overlap == "largest")
    total = None
    if isinstance(member, Partition):
        member = member.only(kept > 0)
        covered = member.covered
    else:
        total = member.spread(kept[None])[0]
        covered = total.detach() >= _LEAST
        pooled, total = pooled * kept, torch.where(covered, total, 1)
    covers_all = bool(covered.all())
    whole = covers_all and strength == 1
    if whole:  # the memory of the softmax is free for the result
        del scores
    spread = member.spread(pooled)
    spread = spread if total is None else spread / total
    if whole:
        return spread
    if by == "vote":
        assert best is not None
        scores = torch.zeros_like(scores).scatter_(0, best[None], 1.0)
    if strength < 1:
        spread = scores + strength * (spread - scores)
    return spread if covers_all else torch.where(covered, spread, scores)


def _refuse_gradients(regions: Regions) -> None:
    masks = [] if isinstance(regions, Tensor) else regions
    for number, one in enumerate(masks):
        if one.requires_grad and torch.is_grad_enabled():
            raise InputError.of(
                f"regions[{number}]",
                got="a tensor that requires a gradient",
                expected="masks that are held fixed",
                fix="Pass masks.detach(); gradients reach the logits and the region_scores.",
            )


def _warn_of_grid(logits: Tensor, image: Tensor) -> None:
    grid, pixels = logits.shape[-2:], image.shape[-2:]
    if grid[0] < pixels[0] or grid[1] < pixels[1]:
        warn(
            "regions of patches",
            f"logits: got scores on {grid[0]} x {grid[1]} for an image of {pixels[0]} x "
            f"{pixels[1]} pixels, so that regions vote on that grid, and the result has its "
            "borders. Put BilinearUpsample() before RegionVote().",
        )


class RegionVote(
    Refiner, function=region_vote, needs=("regions",), takes=("region_scores", "image")
):
    """`region_vote` as a module; it takes that function's options.

    Its regions may also be a function that finds them, or the name of one, as `lpprop.refine` takes
    it: it is then called with the image, and with the scores that this step gets if it has a
    parameter `scores`.

    Warns:
        InputWarning: scores on a coarser grid than the image.

    >>> step = RegionVote(by="vote")
    >>> step(torch.rand(1, 5, 4, 4), regions=torch.zeros(1, 4, 4).long()).shape
    torch.Size([1, 5, 4, 4])
    """

    def _call(self, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        regions, image = inputs["regions"], inputs.get("image")
        check_tensors(
            logits=(logits, "B C h w"), **({} if image is None else {"image": (image, "B 3 H W")})
        )
        if image is not None:
            _warn_of_grid(logits, image)
        if isinstance(regions, str) or callable(regions):
            regions = Proposal.of(regions)(image, logits)
        scores = inputs.get("region_scores")
        return self._function(logits, regions, region_scores=scores, **self.config)
