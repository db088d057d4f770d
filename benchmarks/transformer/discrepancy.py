"""The options of the optimal path and the maximum velocity, on a transformer's own attention.

As in the presets the maps are upsampled jointly bilaterally, since the velocity of the patches that
arrive at once is the same, and upsampling decides between them.
"""

from torch import Tensor, nn

import lpprop
from lpprop.refiners import (
    BilinearUpsample,
    JointBilateralUpsample,
    KLDiscrepancy,
    MaxVelocity,
    OptimalPath,
)

from .grids import grid
from .methods import BILINEAR, METHODS, PATH, Way, dslo
from .views import CNN

VELOCITY = MaxVelocity()
MAPS: dict[str, nn.Module] = {"path": PATH, "velocity": VELOCITY}
PAIRS = ("query-key", "key-key", "query-query")
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)


class Negated(nn.Module):
    """The other sign of a map, upsampled as in the presets."""

    needs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.upsample = JointBilateralUpsample()

    def forward(self, scores: Tensor, *, image: Tensor) -> Tensor:
        negated: Tensor = self.upsample(-scores, image=image)
        return negated


def components() -> dict[str, Way]:
    """The rows of DSLO's Table 2."""
    kl = KLDiscrepancy()
    return {
        "logits": METHODS[BILINEAR],
        "KL": dslo(kl, BilinearUpsample(), nms=0.0),
        "KL, NMS": dslo(kl, BilinearUpsample()),
        "KL, NMS, joint bilateral": dslo(kl),
        "optimal path": dslo(PATH),
        "maximum velocity": dslo(VELOCITY),
        "fusion": dslo(lpprop.Fusion(PATH, VELOCITY)),
        "optimal path, bilinear": dslo(PATH, BilinearUpsample()),
        "maximum velocity, bilinear": dslo(VELOCITY, BilinearUpsample()),
        "logits, joint bilateral": METHODS["joint bilateral"],
    }


def attention() -> dict[str, Way]:
    """Whose attention: of the last block, of all blocks, or made of features; plain or sharper."""
    own = [f"{pair} {blocks}" for pair in PAIRS for blocks in ("last", "all")]
    made = [
        f"{kind} {temperature:g}"
        for kind in ("token", "key", "value", CNN)
        for temperature in TEMPERATURES
    ]
    ways = {
        f"{title}, {name}": dslo(step, attention=name)
        for title, step in MAPS.items()
        for name in (*own, *made)
    }
    for title in MAPS:
        for temperature in (0.4, 0.65, 1.5):
            way = ways[f"{title}, query-key last"]
            ways[f"{title}, query-key last, temperature {temperature:g}"] = Way(
                **vars(way) | {"sharpen": temperature}
            )
    return ways


def suppression() -> dict[str, Way]:
    """Confidence and threshold of the suppression, for both maps."""
    ways = {}
    for title, step in MAPS.items():
        for confidence in ("softmax", "minmax"):
            found = grid(
                lambda nms, step=step, confidence=confidence: dslo(
                    step, nms=nms, confidence=confidence
                ),
                nms=(0.0, 0.3, 0.5, 0.7, 0.9, 1.0),
            )
            ways |= {f"{title}, {confidence}, {name}": way for name, way in found.items()}
        for nms in (0.5, 0.9):
            ways[f"{title}, absolute, nms {nms:g}"] = dslo(step, nms=nms, threshold="absolute")
        for nms in (0.5, 0.9):
            ways[f"{title}, no early rejection, nms {nms:g}"] = dslo(
                step, nms=nms, early_rejection=False
            )
        ways[f"{title}, logit scale 5"] = dslo(step, logit_scale=5.0)
    return ways


def path() -> dict[str, Way]:
    """epsilon with and without suppression; Norm., cost and sign."""
    ways = grid(
        lambda epsilon, nms: dslo(OptimalPath(norm="image", epsilon=epsilon), nms=nms),
        epsilon=(0.001, 0.01, 0.03, 0.1, 0.3, 1.0),
        nms=(0.0, 0.9),
    )
    for norm in ("none", "image", "class", "sum"):
        ways[f"norm {norm}"] = dslo(OptimalPath(norm=norm))
    ways["1 - attention"] = dslo(OptimalPath(norm="image", complement=True))
    # Without early rejection: a rejected class's zeros would win against negative scores.
    for title, complement in (("attention", False), ("1 - attention", True)):
        plain = OptimalPath(norm="image", complement=complement)
        ways[f"{title}, all classes"] = dslo(plain, early_rejection=False)
        ways[f"{title}, negated"] = dslo(plain, Negated(), early_rejection=False)
    return ways


def velocity() -> dict[str, Way]:
    """tau and the first step, under both upsamplings; scalings and the criterion."""
    ways = {}
    for title, upsample in (("", JointBilateralUpsample()), (", bilinear", BilinearUpsample())):
        for first_step in ("m2n2", "linear"):
            found = grid(
                lambda tau, first_step=first_step, upsample=upsample: dslo(
                    MaxVelocity(tau=tau, first_step=first_step), upsample
                ),
                tau=(0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9),
            )
            ways |= {f"{first_step}{title}, {name}": way for name, way in found.items()}
    for count in (1, 5, 50):
        ways[f"{count} scalings"] = dslo(MaxVelocity(ipf_iterations=count))
    ways["criterion step"] = dslo(MaxVelocity(criterion="step"))
    ways["criterion step, tau 1e-5"] = dslo(MaxVelocity(criterion="step", tau=1e-5))
    return ways
