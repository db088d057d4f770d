"""Votes in regions behind refiners: which refiners, which options, which regions."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from lpprop import RegionVote
from lpprop.refiners import PixelPropagation

from .grids import grid
from .methods import BILINEAR, METHODS, Way, lposs, then
from .regions import FELZENSZWALB, SLIC, TRUE, regions
from .starts import Labelled
from .views import View

USUAL = "Felzenszwalb, 100"
#: What is refined before the vote. k 50 and γ 30 are what the study advises for a single image.
BEFORE = {
    BILINEAR: METHODS[BILINEAR],
    "default": METHODS["default, tokens"],
    "LPOSS, k 50, γ 30": lposs(50, 30.0),
    "LPOSS+, k 50, γ 30": then(lposs(50, 30.0), PixelPropagation()),
    "maximum velocity": METHODS["maximum velocity"],
    "joint bilateral": METHODS["joint bilateral"],
}
#: Those behind which the options are compared.
OPTIONS_BEHIND = (BILINEAR, "LPOSS, k 50, γ 30")
#: By "vote", up to 1/2 no pixel gets another class: its own has a vote in its region.
STRENGTHS = {"vote": (1.0, 0.75), "mean": (1.0, 0.5), "probability": (1.0, 0.5)}
_NOT = RegionVote(strength=0.0)


@dataclass(frozen=True)
class Voted(Way):
    """A vote at the size of the picture, in its regions, on what another way makes of the start.

    `method` is the vote, and `before` the other way, which runs once for all votes behind it.
    """

    before: Way = METHODS[BILINEAR]

    def __call__(self, view: View, start: str, labelled: Labelled) -> Tensor:
        assert isinstance(self.method, RegionVote)
        assert self.regions is not None
        refined = view.once(
            (start, self.before.describe(start)), lambda: self.before(view, start, labelled)
        )
        found = regions(view, self.regions, view.picture.image)
        voted: Tensor = self.method(refined, regions=found)
        return voted


def voted(before: Way, name: str = USUAL, form: str = "probabilities", **options: object) -> Way:
    before = Way(**vars(before) | {"form": form})
    return Voted(RegionVote(**{"by": "vote", **options}), regions=name, before=before)


def unvoted(before: Way) -> Way:
    return Voted(_NOT, regions=USUAL, before=before)


def after(name: str) -> str:
    return f"{name} + vote"


def behind() -> dict[str, Way]:
    """Each refiner, without and with a vote behind it."""
    ways = {}
    for name, way in BEFORE.items():
        ways[name], ways[after(name)] = unvoted(way), voted(way)
    return ways


def options() -> dict[str, Way]:
    """What is averaged, how strongly it counts, and how pure a region must be."""
    ways = {}
    for name in OPTIONS_BEHIND:
        way = BEFORE[name]
        ways[name] = unvoted(way)
        for by, strength in STRENGTHS.items():
            points = grid(
                partial(voted, way), by=[by], strength=strength, purity=(0.0, 0.5, 0.7, 0.9)
            )
            ways |= {f"{name} + {point}": each for point, each in points.items()}
    for by in STRENGTHS:
        ways[f"{BILINEAR} of logits + by {by}"] = voted(BEFORE[BILINEAR], form="scaled", by=by)
    return ways


def sources() -> dict[str, Way]:
    """Regions of colours, finer and coarser, and of the true classes."""
    bilinear = BEFORE[BILINEAR]
    names = (*FELZENSZWALB, *SLIC, TRUE)
    return {BILINEAR: unvoted(bilinear)} | {name: voted(bilinear, name) for name in names}
