"""Scores of features by sets of references: the best cosine, or a comparison of rankings.

RIM (Wang et al., "Image-to-image matching via foundation models: a new perspective for
open-vocabulary semantic segmentation", CVPR 2024) matches regions with references "based on
relation-aware ranking distribution". Its supplement does not give the rule, and its main paper was
not at hand: `_rank_scores` and `_profiles` are ours, in its spirit, and the place where the paper's
own rule would go.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import Check, check_choice, check_number
from lpprop.numerics.graphs import unit_features

__all__ = ["CHECKS", "check_references", "match"]

_AT_ONCE = 2**27  # bytes of similarities


def _check_matching(name: str, value: object) -> str:
    return check_choice(name, value, ("cosine", "rank"))


def _check_reduce(name: str, value: object) -> str:
    return check_choice(name, value, ("max", "mean"))


def _check_temperature(name: str, value: object) -> float:
    # Below, a ranking of cosines in float32 is that of its rounding.
    return check_number(name, value, low=1e-4)


#: The options of `match`, and what each may be.
CHECKS: dict[str, Check] = {
    "matching": _check_matching,
    "reduce": _check_reduce,
    "temperature": _check_temperature,
}


def check_references(
    name: str, references: object, feats: object = None
) -> list[Float[Tensor, "K D"]]:
    """Return a list of sets of references; refuse anything else.

    Args:
        name: what errors call it.
        references: for each class (K_c, D) vectors that are not zero.
        feats: (B, D, h, w) features that they are for, on the same device, if there are any.
    """
    if not isinstance(references, (list, tuple)) or not references:
        raise InputError.of(
            name,
            got="no class" if isinstance(references, (list, tuple)) else type(references).__name__,
            expected="a list with (K_c, D) vectors of each class",
            fix="Pass [vectors] for a single class.",
        )
    beside = {} if feats is None else {"feats": (feats, "B D h w")}
    check_tensors(
        **beside, **{f"{name}[{i}]": (one, f"K{i} D") for i, one in enumerate(references)}
    )
    for number, one in enumerate(references):
        zero = ~one.detach().any(1)
        if bool(zero.any()):
            raise InputError.of(
                f"{name}[{number}]",
                got=f"zeros as vector {int(zero.nonzero()[0])}",
                expected="vectors with a direction",
                fix="Leave it out.",
            )
    return list(references)


def match(
    vectors: Float[Tensor, "R D"],
    references: list[Float[Tensor, "K D"]],
    *,
    matching: str,
    reduce: str,
    temperature: float,
) -> Float[Tensor, "R C"]:
    """Score feature vectors of any length by each class's references; unchecked.

    See `classify_regions` for the equations.
    """
    every = torch.cat([unit_features(one, vectors.dtype) for one in references])
    counts = [len(one) for one in references]
    profiles = None
    if matching == "rank":
        profiles = _profiles(every, counts, temperature)
    scores = []
    for part in vectors.split(max(1, _AT_ONCE // (vectors.itemsize * len(every)))):
        similarities = (unit_features(part, part.dtype) @ every.mT).clamp(-1, 1)
        scores.append(
            _cosine_scores(similarities, counts, reduce)
            if profiles is None
            else _rank_scores(similarities, profiles, temperature)
        )
    return torch.cat(scores)


def _cosine_scores(
    similarities: Float[Tensor, "R J"], counts: list[int], reduce: str
) -> Float[Tensor, "R C"]:
    per_class = similarities.split(counts, dim=1)
    scores = [one.amax(1) if reduce == "max" else one.mean(1) for one in per_class]
    return torch.stack(scores, dim=1)


def _rank_scores(
    similarities: Float[Tensor, "R J"], profiles: Float[Tensor, "C J"], temperature: float
) -> Float[Tensor, "R C"]:
    """Return -KL(profile_c || P_r). RIM's own rule would stand here; this one is ours."""
    ranked = (similarities / temperature).log_softmax(1)
    scores: Tensor = ranked @ profiles.mT + torch.special.entr(profiles).sum(1)
    return scores


def _profiles(
    units: Float[Tensor, "J D"], counts: list[int], temperature: float
) -> Float[Tensor, "C J"]:
    """Return the mean over each class of its references' distributions, each without itself."""
    # A reference is most like itself, which no region is. One that is alone in its class keeps
    # itself nevertheless: else its class would be described by the others only.
    several = torch.tensor([count > 1 for count in counts for _ in range(count)])
    similarities = (units @ units.mT).clamp(-1, 1) / temperature
    itself = torch.diag(several).to(units.device)
    own = similarities.masked_fill(itself, -torch.inf).softmax(1)
    return torch.stack([one.mean(0) for one in own.split(counts)])
