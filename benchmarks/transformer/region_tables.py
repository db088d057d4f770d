"""The tables of docs/regions.md, by the names that mark them there."""

from collections.abc import Sequence

from lpprop._core.text import markdown_table

from ..camvid.tables import interval
from .advice import of_experiment
from .experiments import CLICKED, MAIN, TRUTH
from .methods import BILINEAR
from .results import Document
from .tables import crossed
from .votes import BEFORE, OPTIONS_BEHIND, after


def tables(found: Document) -> dict[str, str]:
    """Every table by its name."""
    made = {}
    for experiment, starts in (("votes", MAIN), ("votes, photographs", CLICKED)):
        made[experiment] = votes(found, experiment, starts, "miou")
        made[f"{experiment}, boundary"] = votes(found, experiment, starts, "boundary")
        made[f"{experiment}, gains"] = gains(found, experiment, starts, "own_gain")
        made[f"{experiment}, boundary gains"] = gains(
            found, experiment, starts, "own_boundary_gain"
        )
    for name in OPTIONS_BEHIND:
        made[f"vote options, {name}"] = options(found, name)
    for experiment, starts in (
        ("vote regions", (*MAIN, TRUTH)),
        ("vote regions, photographs", (*CLICKED, TRUTH)),
    ):
        made[experiment] = crossed(found, experiment, starts, "miou")
        made[f"{experiment}, boundary"] = crossed(found, experiment, starts, "boundary")
    return made


def votes(found: Document, experiment: str, starts: Sequence[str], metric: str) -> str:
    """Refiners down, starts across: a metric before and after the vote."""
    rows = of_experiment(found, experiment)
    lines = [
        [
            name,
            *(
                " → ".join(f"{100 * rows[start][way][metric]:.1f}" for way in (name, after(name)))
                for start in starts
            ),
        ]
        for name in BEFORE
        if name in rows[starts[0]]  # a tiny run has few
    ]
    return markdown_table(["", *starts], lines)


def gains(found: Document, experiment: str, starts: Sequence[str], kind: str) -> str:
    """What the vote adds to each refiner, with intervals."""
    rows = of_experiment(found, experiment)
    lines = [
        [name, *(interval(rows[start][after(name)][kind]) for start in starts)]
        for name in BEFORE
        if name in rows[starts[0]]
    ]
    return markdown_table(["", *starts], lines)


def options(found: Document, before: str) -> str:
    """The options of a vote behind one refiner; purity behind bilinear upsampling alone."""
    names = [
        name
        for name in next(iter(of_experiment(found, "vote options").values()))
        if name.split(" + ")[0].removesuffix(" of logits") == before
        and (before == BILINEAR or " + " not in name or name.endswith("purity 0"))
    ]
    return crossed(found, "vote options", MAIN, "miou", mean=True, only=names)
