"""Settings of patch propagation that follow from the image itself: how many neighbours, how steeply
their weight falls with the similarity, and how far their scores are trusted against a patch's own.

Published settings belong to one kind of features and one number of patches. These are for any; how
they were chosen, and what they gain and lose, is measured in docs/transformer_study.md.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.precision import in_double
from lpprop.numerics.graphs import Graph

__all__ = [
    "LARGEST_ALPHA",
    "MOST_NEIGHBOURS",
    "assortativity",
    "choose_alpha",
    "choose_gamma",
    "choose_k",
    "mark_winners",
]

# One patch in 40, within these bounds: fewer leave scattered errors, more erase what is small.
_FEWEST, _FEW, _SHARE = 5, 10, 1 / 40
# Where all classes are large, neighbours from further away mend errors that fill regions.
_CLASS_SHARE = 1 / 8
#: No patch has more neighbours than this, per frame.
MOST_NEIGHBOURS = 50
# The weight that the k-th neighbour keeps of the nearest one's, in the median over the patches.
_LAST_WEIGHT = 0.25
_GAMMAS = (1.0, 100.0)
_ALIKE = 1e-5  # relative differences of similarities below it may be rounding

#: Propagation is never stronger than this.
LARGEST_ALPHA = 0.85
# Labels that agree so well with their neighbours have no scattered errors left to mend.
_FLAWLESS = 0.95
_POWER = 6
# Scores this far below the largest say nothing of a node.
_NOTHING = 1e-3
# Where fewer nodes than this have a label, the others are to get theirs by propagation.
_LABELLED = 0.5


def mark_winners(scores: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
    """Mark the best class of each node by 1, and the others by 0.

    No class wins where all scores are all but 0 beside the largest one, as those of
    `lpprop.seed_logits` are where there is no click.

    >>> import torch
    >>> mark_winners(torch.tensor([[1.0, 0.2, 1e-6], [0.0, 0.5, 0.0]]))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    scores = scores.detach()
    best, winner = scores.max(0)
    marks = F.one_hot(winner, len(scores)).mT.to(scores.dtype)
    if bool((scores < 0).any()):
        return marks
    return marks * (best >= _NOTHING * best.max())


def choose_k(winners: Float[Tensor, "C N"], frames: int = 1) -> int:
    """Return the number of neighbours of each patch, itself included.

    A patch's neighbours should be of its own class, so that they are few in comparison with the
    patches of the smallest class that wins anywhere: one in 8 of them, but not fewer than one in 40
    of all patches, bounded by 5 and 10, nor more than 50, or all. Where the patches are those of
    several frames, all of this is per frame, and each patch gets so many for each of them.

    >>> import torch
    >>> halves = (torch.arange(910) < 455).float()
    >>> choose_k(torch.stack([halves, 1 - halves])), choose_k(torch.eye(910))
    (50, 10)
    >>> choose_k(torch.stack([halves, 1 - halves]).repeat(1, 3), frames=3)
    150
    """
    patches, sizes = winners.shape[1] / frames, winners.sum(1) / frames
    fewest = max(_FEWEST, min(_FEW, round(_SHARE * patches)))
    of_smallest = int(_CLASS_SHARE * float(sizes[sizes > 0].min()))
    return frames * min(max(fewest, of_smallest), MOST_NEIGHBOURS, round(patches))


def choose_gamma(similarity: Float[Tensor, "N k"]) -> float:
    """Return the power that spreads the weights of neighbours, whatever the kind of features.

    A vision transformer's tokens have cosines near 1 with all of their neighbours, where those of a
    small CNN fall off, so that one power cannot suit both. With s_1 the similarity of a patch to
    the nearest other one and s_k that to the last of its neighbours,

        gamma = log(1/4) / median of log(s_k / s_1),    bounded by 1 and 100

    The median is over the patches that have neighbours of different similarity, so that patches
    without features, as of a frame, do not count.

    Args:
        similarity: of each node to its k neighbours, itself among them, in any order.

    >>> import torch
    >>> choose_gamma(torch.tensor([[1.0, 0.8, 0.4]]))    # (0.4 / 0.8) ** 2 = 1/4
    2.0
    """
    low, high = _GAMMAS
    if similarity.shape[1] < 3:  # the nearest other one is the last
        return low
    top = in_double(similarity.detach()).topk(similarity.shape[1]).values.clamp(min=1e-12)
    falls = (top[:, -1] / top[:, 1]).log()
    falls = falls[falls < -_ALIKE]
    if not len(falls):  # all neighbours are alike
        return high
    fall = float(falls.quantile(0.5))
    return min(max(math.log(_LAST_WEIGHT) / fall, low), high)


def assortativity(labels: Float[Tensor, "C N"], graph: Graph) -> float:
    """Measure how far neighbours share their label: 1 if always, 0 if by chance alone.

    With e_cd the share of the graph's weight that joins label c to label d, and a_c the sum of row
    c (Newman, Mixing patterns in networks, Phys. Rev. E 67, 2003, Eq. 2):

        r = (sum_c e_cc - sum_c a_c^2) / (1 - sum_c a_c^2)

    Args:
        labels: one-hot labels of the nodes.
        graph: symmetric, without self-loops.

    Returns:
        At most 1; 1 too where there is one label only, or no edge.

    >>> import torch
    >>> from lpprop.numerics.graphs import DenseGraph
    >>> pairs = DenseGraph(torch.tensor([[0.0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]))
    >>> assortativity(torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]]), pairs)
    1.0
    >>> assortativity(torch.tensor([[1.0, 0, 1, 0], [0, 1, 0, 1]]), pairs)
    -1.0
    """
    joined = (in_double(labels) @ in_double(graph.product(labels)).mT).detach()
    total = float(joined.sum())
    if total <= 0:
        return 1.0
    shares = joined / total
    chance = float((shares.sum(1) ** 2).sum())
    if chance >= 1 - 1e-12:
        return 1.0
    return (float(shares.trace()) - chance) / (1 - chance)


def choose_alpha(winners: Float[Tensor, "C N"], graph: Graph) -> float:
    """Return the strength of propagation that the winning classes ask for.

    Errors that are scattered over the patches ask for strong propagation. They show in labels that
    differ from those of similar patches. Where similar patches agree, propagation has nothing to
    mend and costs what is small. With r the `assortativity` of the winning labels:

        alpha = 0.85 (1 - (max(r, 0) / 0.95)^6), at least 0

    and 0.85 where most nodes have no label, since they are to get one from the others.

    >>> import torch
    >>> from lpprop.numerics.graphs import DenseGraph
    >>> ring = DenseGraph(torch.eye(8).roll(1, 0) + torch.eye(8).roll(-1, 0))
    >>> halves, noise = torch.tensor([[0.0, 0, 0, 0, 1, 1, 1, 1], [0.0, 1, 0, 1, 1, 0, 1, 0]])
    >>> round(choose_alpha(torch.stack([halves, 1 - halves]), ring), 2)
    0.83
    >>> choose_alpha(torch.stack([noise, 1 - noise]), ring)
    0.85
    """
    if float(winners.sum()) < _LABELLED * winners.shape[1]:
        return LARGEST_ALPHA
    agreement = max(assortativity(winners, graph), 0.0)
    return LARGEST_ALPHA * max(0.0, 1 - (agreement / _FLAWLESS) ** _POWER)
