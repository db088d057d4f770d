"""Predictors of a recipe by several methods, which share its models.

recipes = method_recipes(RECIPES["clip-dino"], ["bilinear", "lposs", "lposs+"], k=200)
predictors = recipe_predictors(recipes, dataset.prompts, device="cuda")
report = evaluate(dataset, predictors, Path("runs/voc20"))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lpprop._core.errors import InputError
from lpprop.compose import presets
from lpprop.evaluation.records import load_config, merge_config
from lpprop.evaluation.segmenters import SegmenterPredictor, share_models
from lpprop.evaluation.task import dataset_fingerprint
from lpprop.models.recipes import Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from lpprop.evaluation.datasets import Dataset

__all__ = ["check_resumable", "method_recipes", "recipe_predictors", "split_options"]


def method_recipes(recipe: Recipe, methods: Sequence[str], **options: Any) -> dict[str, Recipe]:
    """Return a recipe for each method, with the same models; none are loaded.

    Args:
        recipe: the models, the image size and the windows.
        methods: names of presets; "bilinear" is the start that the others refine.
        options: options of the presets; each goes to the methods that have it.

    Raises:
        InputError: an unknown method, an option that no method has, or a method that needs an input
            that the affinity does not provide.

    >>> from lpprop.models.recipes import RECIPES
    >>> recipes = method_recipes(RECIPES["clip-dino"], ["bilinear", "lposs", "lposs+"], tau=0.02)
    >>> {name: recipe.options for name, recipe in recipes.items()}
    {'bilinear': {}, 'lposs': {}, 'lposs+': {'tau': 0.02}}
    """
    return {
        method: recipe.with_method(method, **own)
        for method, own in split_options(methods, options).items()
    }


def split_options(methods: Sequence[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the options of each method: those of the options that it has.

    Raises:
        InputError: an unknown method, or an option that no method has.

    >>> split_options(["bilinear", "lposs+"], {"tau": 0.02})
    {'bilinear': {}, 'lposs+': {'tau': 0.02}}
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence) or not methods:
        raise InputError.of(
            "methods",
            got=repr(methods)[:200],
            expected="a list of presets' names",
            fix='Pass ["bilinear", "lposs+"].',
        )
    known = {method: presets.find(method).options for method in methods}
    for option in options:
        if not any(option in names for names in known.values()):
            names = sorted(set().union(*known.values()))
            raise InputError.of(
                option,
                got=f"an option that no method has ({', '.join(known)})",
                expected=f"one of {', '.join(names)}" if names else "no option",
                fix="Check its name, or the methods.",
            )
    return {
        method: {name: value for name, value in options.items() if name in names}
        for method, names in known.items()
    }


def recipe_predictors(
    recipes: Mapping[str, Recipe],
    prompts: Sequence[str],
    *,
    download: bool = True,
    device: str | torch.device = "cpu",
    regions: Callable[..., Any] | None = None,
) -> dict[str, SegmenterPredictor]:
    """Load the models that recipes share, and make a predictor of each recipe.

    The models run once per image for all of them (see `share_models`).

    Args:
        recipes: by name; they may differ in method, options, image size and windows only, as those
            of `method_recipes` do.
        prompts: the data set's prompts, one string per class.
        download: whether weights may be downloaded that are neither in a folder nor in the cache.
        device: the device of the models.
        regions: what the recipes' `regions` stand for, if it is at hand already, such as a proposer
            that keeps its regions on disk.

    Raises:
        ImportError: an extra is not installed; the message names it.
        InputError: recipes of different models, weights that cannot be loaded, a method that cannot
            be used, or classes that the backbone cannot score.

    >>> from lpprop.models.recipes import RECIPES
    >>> recipes = method_recipes(RECIPES["offline"], ["bilinear", "lposs"], k=50)
    >>> predictors = recipe_predictors(recipes, ["cat; lynx", "sofa"])
    >>> predictors["lposs"].segmenter.backbone is predictors["bilinear"].segmenter.backbone
    True
    """
    if not isinstance(recipes, Mapping) or not recipes:
        raise InputError.of(
            "recipes",
            got=repr(recipes)[:200],
            expected="one or more recipes by name",
            fix="Make them of one recipe by method_recipes.",
        )
    first, *others = recipes.values()
    if any(
        (other.backbone, other.affinity) != (first.backbone, first.affinity) for other in others
    ):
        raise InputError.of(
            "recipes",
            got="different models",
            expected="the same backbone and affinity in all",
            fix="Make them of one recipe by method_recipes.",
        )
    backbone, affinity = first.load(download=download, device=device)
    backbone.class_names(prompts)  # may refuse the classes
    predictors = {
        name: SegmenterPredictor(
            recipe.tie(backbone, affinity, regions if recipe.regions else None), prompts, recipe
        )
        for name, recipe in recipes.items()
    }
    share_models(predictors.values())
    return predictors


def check_resumable(out: Path, dataset: Dataset, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a folder with another run, as far as can be told before the models are loaded.

    Raises:
        InputError: the first difference, as `evaluate` would find it later.
    """
    old = load_config(out)
    if old is None:
        return
    described = {
        name: {
            **old["predictors"][name],
            "recipe": dataclasses.asdict(recipe),
            "prompts": dataset.prompts,
        }
        for name, recipe in recipes.items()
        if name in old["predictors"]
    }
    merge_config(out, {**old, "dataset": dataset_fingerprint(dataset), "predictors": described})
