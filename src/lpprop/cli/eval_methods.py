"""What `lpprop eval` measures: a recipe with several methods, or methods on stored arrays."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError
from lpprop.cli.arguments import (
    add_arrays,
    add_shared,
    array_paths,
    check_saliency,
    option_name,
    regions_name,
)
from lpprop.cli.common import find_recipe
from lpprop.cli.listing import proposers_summary

if TYPE_CHECKING:
    import torch

    from lpprop.compose.chain import Chain
    from lpprop.evaluation import Predictor
    from lpprop.evaluation.datasets import Dataset
    from lpprop.inputs.regions import Regions

__all__ = ["Make", "add_source", "check_source", "keep_regions", "plan"]

#: Makes the predictors for a data set, to be measured into a folder, on a device.
Make = Callable[["Dataset", Path, "torch.device"], Mapping[str, "Predictor"]]


def plan(arguments: argparse.Namespace) -> Make:
    """Return what makes the predictors; what cannot work is refused here, before any work."""
    check_saliency(arguments)
    arrays = check_source(arguments)
    return _plan_arrays(arguments, arrays) if arrays else _plan_recipe(arguments)


def add_source(command: argparse.ArgumentParser, *, leave: Collection[str] = ()) -> None:
    """Add what names the scores: a recipe, or folders of stored arrays but for inputs to leave."""
    command.add_argument("--recipe", help="see lpprop segment --help")
    add_arrays(command, folders=True, leave=leave)
    add_shared(command, "--no-download")


def check_source(arguments: argparse.Namespace) -> dict[str, Path]:
    """Refuse anything but a recipe or stored scores; return the folders of the latter."""
    arrays = array_paths(arguments)
    if arguments.recipe is None and "logits" not in arrays:
        raise InputError.of(
            "--recipe",
            got=f"neither it nor --logits{_beside(arrays)}",
            expected="one of the two",
            fix="Name models by --recipe, or a folder of stored scores by --logits.",
        )
    if arguments.recipe is not None:
        for name, path in arrays.items():
            beside = f"{path} beside --recipe {arguments.recipe}"
            raise InputError.of(
                option_name(name),
                got=beside if name == "regions" else f"{beside}, whose models make it",
                expected=proposers_summary() if name == "regions" else "one of the two",
                fix="Leave out the recipe to measure stored arrays, or else the arrays.",
            )
        return {}
    alone = arguments.no_download and regions_name(arguments) is None
    for option, given in (("--side", arguments.side), ("--no-download", alone)):
        if given:
            raise InputError.of(
                option,
                got="it beside --logits",
                expected="it beside --recipe alone",
                fix="Leave it out: no models are loaded where the arrays are stored.",
            )
    return arrays


def _beside(arrays: Mapping[str, Path]) -> str:
    return f" beside {', '.join(map(option_name, arrays))}" if arrays else ""


def _plan_recipe(arguments: argparse.Namespace) -> Make:
    from lpprop.compose.presets import find
    from lpprop.evaluation.recipe_predictors import (
        check_resumable,
        method_recipes,
        recipe_predictors,
    )

    recipe = find_recipe(arguments.recipe, arguments.side)
    proposer = regions_name(arguments)
    recipe = dataclasses.replace(recipe, background=arguments.background, regions=proposer)
    recipes = method_recipes(recipe, arguments.method or [recipe.method], **dict(arguments.option))
    _check_regions(arguments, {name: find(name)() for name in recipes})

    def make(dataset: Dataset, out: Path, device: torch.device) -> Mapping[str, Predictor]:
        check_resumable(out, dataset, recipes)
        return recipe_predictors(
            recipes, dataset.prompts, download=not arguments.no_download, device=device,
            regions=None if proposer is None else keep_regions(arguments, proposer, out, device),
        )  # fmt: skip

    return make


def _plan_arrays(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> Make:
    from lpprop.evaluation import ProposedRegions, StoredStart, refinements

    chains = _build_chains(arguments, folders)

    def make(dataset: Dataset, out: Path, device: torch.device) -> Mapping[str, Predictor]:
        start = StoredStart(folders, device=device)
        start.check(dataset)
        if (proposer := regions_name(arguments)) is None:
            return refinements(start, chains, background=arguments.background)
        proposed = ProposedRegions(start, keep_regions(arguments, proposer, out, device))
        return refinements(proposed, chains, background=arguments.background)

    return make


def keep_regions(
    arguments: argparse.Namespace, proposer: str, out: Path, device: torch.device
) -> Callable[..., Regions]:
    """Keep the regions of a proposer among the results, for all methods and later runs.

    Those of a model that is prompted with the scores differ from method to method: it is returned
    as it is.
    """
    from lpprop.inputs.proposals import Proposal
    from lpprop.regions import CachedProposer
    from lpprop.regions.named import find_proposer

    found = find_proposer(proposer, download=not arguments.no_download, device=device)
    return found if Proposal(found).asks_for_scores else CachedProposer(found, out / "regions")


def _check_regions(arguments: argparse.Namespace, chains: Mapping[str, Chain]) -> None:
    """Refuse regions that no method takes, and a method that lacks them."""
    proposer = regions_name(arguments)
    for name, chain in chains.items():
        if proposer is None and "regions" in chain.needs:
            raise InputError.of(
                "--regions",
                got="nothing",
                expected=proposers_summary(),
                fix=f"The method {name} needs it.",
            )
    if proposer and not any("regions" in chain.takes for chain in chains.values()):
        raise InputError.of(
            "--regions",
            got=proposer,
            expected=f"nothing, since no method takes it ({', '.join(chains)})",
            fix="Leave it out, or name a method that takes it.",
        )


def _build_chains(arguments: argparse.Namespace, folders: Mapping[str, Path]) -> dict[str, Chain]:
    """Build the methods, and check that each has what it needs and each array is of use."""
    from lpprop.comparison.inputs import default_presets
    from lpprop.compose.composite import missing_input
    from lpprop.compose.presets import find
    from lpprop.evaluation.recipe_predictors import split_options

    proposer = regions_name(arguments)
    given = ["image", *folders, *(["regions"] if proposer else [])]
    methods = arguments.method or [preset.name for preset in default_presets(given)]
    options: dict[str, dict[str, Any]] = split_options(methods, dict(arguments.option))
    chains = {method: find(method)(**own) for method, own in options.items()}
    for method, chain in chains.items():
        if missing := missing_input(chain, given):
            raise InputError.of(
                option_name(missing.partition(" ")[0]),
                got="nothing",
                expected="a folder",
                fix=f"The method {method} needs it"
                + (", or --feats to build it from." if "attention" in missing else "."),
            )
    named = {**folders, **({"regions": proposer} if proposer else {})}
    for name, path in named.items():
        if name not in ("logits", "feats", "saliency") and not any(
            name in x.takes for x in chains.values()
        ):
            raise InputError.of(
                option_name(name),
                got=str(path),
                expected=f"nothing, since no method takes it ({', '.join(chains)})",
                fix="Leave it out, or name a method that takes it.",
            )
    return chains
