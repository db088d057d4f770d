"""What is run: which methods, from which starts, on which pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from . import discrepancy, propagation, votes
from .directions import DIRECTIONS
from .methods import ADVICE, BILINEAR, METHODS, SHORT, UPSAMPLERS, Way
from .scenes import DRIVES, PHOTOGRAPHS, STRETCH, Picture, of_scene

HALF = 2  # of the photographs: every second one
THIRD = 3  # sweeps see every third picture of a drive, from the second on
MAIN = (
    "CNN prototypes, 4", "DINOv2 prototypes, 4", "probe", "CNN probe", "relabelled 40 %", "oracle",
)  # fmt: skip
MORE = (
    "CNN prototypes, 1", "CNN prototypes, 16", "DINOv2 prototypes, 1", "DINOv2 prototypes, 16",
    "relabelled 20 %", "relabelled 60 %",
)  # fmt: skip
ADVISED_FROM = ("CNN prototypes, 4", "CNN prototypes, 16", "probe")
#: The models see the whole image smaller and larger: other numbers of patches.
WHOLE = {"13 x 18 patches": (182, 252), "39 x 52 patches": (546, 728)}
CLICKED = ("relabelled 40 %", "clicks")  # on photographs
SCALED = ("CNN prototypes, 4", "probe", "relabelled 40 %", "oracle")
RESIZED = (
    BILINEAR, "default, tokens", "default, values", "default, CNN", "LPOSS, γ 7",
    "LP k 10, γ 7, α 0.8",
)  # fmt: skip
SWEPT = ("CNN prototypes, 4", "probe", "relabelled 40 %")
TRUTH = "truth"  # each pixel's class: what is lost, regions cannot express


@dataclass(frozen=True)
class Experiment:
    """Methods, from each of some starts, on the pictures of some scenes.

    Attributes:
        every: only each such picture of a scene.
        boundary: whether Boundary IoU is measured too.
        whole: the size at which the models see a street picture; the scenes' own if None.
        before: for some ways, that over which they gain; besides the first, over which all gain.
    """

    name: str
    scenes: tuple[str, ...]
    starts: tuple[str, ...]
    ways: Mapping[str, Way]
    every: int = 1
    boundary: bool = False
    whole: tuple[int, int] | None = None
    before: Mapping[str, str] = field(default_factory=dict)

    def pictures(self, every: Sequence[Picture]) -> list[Picture]:
        return [
            picture
            for scene in self.scenes
            for picture in of_scene(every, scene)[self.every // 2 :: self.every]
        ]


def _sweep(name: str, ways: Mapping[str, Way]) -> Experiment:
    return Experiment(name, DRIVES, SWEPT, ways, every=THIRD)


def _votes() -> list[Experiment]:
    """Votes in regions: behind refiners, with other options, in other regions."""
    behind, sources = votes.behind(), votes.sources()
    return [
        Experiment(
            "votes", DRIVES, MAIN, behind, boundary=True,
            before={votes.after(name): name for name in votes.BEFORE},
        ),
        Experiment(
            "votes, photographs", (PHOTOGRAPHS,), CLICKED, behind, HALF, boundary=True,
            before={votes.after(name): name for name in votes.BEFORE},
        ),
        Experiment("vote options", DRIVES, MAIN, votes.options(), THIRD),
        Experiment("vote regions", DRIVES, (*MAIN, TRUTH), sources, THIRD, boundary=True),
        Experiment(
            "vote regions, photographs", (PHOTOGRAPHS,), (*CLICKED, TRUTH), sources, HALF,
            boundary=True,
        ),
    ]  # fmt: skip


def experiments(*, tiny: bool = False) -> dict[str, Experiment]:
    """All of them by name; `tiny` takes few ways, some of `DIRECTIONS` among them."""
    short = {name: METHODS[name] for name in SHORT}
    on_photographs = {name: way for name, way in METHODS.items() if not way.windows}
    borders = {name: METHODS[name] for name in UPSAMPLERS}
    sizes = ("8 px", "14 px", "16 px", "32 px")
    every = [
        Experiment("main", (*DRIVES, STRETCH), MAIN, METHODS, boundary=True),
        Experiment("more starts", DRIVES, MORE, short),
        Experiment("advice", DRIVES, ADVISED_FROM, ADVICE),
        Experiment("photographs", (PHOTOGRAPHS,), CLICKED, on_photographs, HALF, boundary=True),
        Experiment("borders", (PHOTOGRAPHS,), sizes, borders, HALF, boundary=True),
        *(
            replace(_sweep(name, {x: METHODS[x] for x in RESIZED}), starts=SCALED, whole=whole)
            for name, whole in WHOLE.items()
        ),
        _sweep("graphs", propagation.graphs()),
        _sweep("features", propagation.features()),
        _sweep("spatial", propagation.spatial()),
        _sweep("windows", propagation.windows()),
        _sweep("pixels", propagation.pixels()),
        _sweep("forms", propagation.forms()),
        _sweep("regions", propagation.votes()),
        _sweep("components", discrepancy.components()),
        _sweep("attention", discrepancy.attention()),
        _sweep("suppression", discrepancy.suppression()),
        _sweep("path", discrepancy.path()),
        _sweep("velocity", discrepancy.velocity()),
        *_votes(),
    ]
    if tiny:
        every = [_small(experiment) for experiment in every]
    return {experiment.name: experiment for experiment in every}


def _small(experiment: Experiment) -> Experiment:
    """The first ways, and some whose directions are compared."""
    compared = [
        name
        for direction in DIRECTIONS
        if direction.experiment == experiment.name
        for name in (direction.before, direction.after)
    ]
    kept = {*list(experiment.ways)[:2], *compared[:2]}
    ways = {name: way for name, way in experiment.ways.items() if name in kept}
    return replace(experiment, ways=ways)
