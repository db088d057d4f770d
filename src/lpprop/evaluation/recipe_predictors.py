"""Predictors of a recipe by several methods, which share its models.

recipes = method_recipes(RECIPES["clip-dino"], ["bilinear", "lposs", "lposs+"], k=200)
predictors = recipe_predictors(recipes, dataset.prompts, device="cuda")
report = evaluate(dataset, predictors, Path("runs/voc20"))
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from lpprop._core.errors import InputError
from lpprop.compose import presets
from lpprop.compose.composite import steps_of
from lpprop.evaluation.predictors import SegmenterPredictor
from lpprop.evaluation.records import load_config, merged_config
from lpprop.evaluation.task import about
from lpprop.models.recipes import Recipe
from lpprop.models.segmenter import Segmenter

if TYPE_CHECKING:
    from pathlib import Path

    from lpprop.evaluation.datasets import Dataset

__all__ = ["RecipePredictor", "check_continues", "method_recipes", "recipe_predictors"]


class RecipePredictor(SegmenterPredictor):
    """Segment samples by a recipe, which reports name with its checkpoints.

    Args:
        recipe: what the segmenter was built from.
        segmenter: a `lpprop.models.segmenter.Segmenter`.
        prompts: one string a class, in the order of the labels.
    """

    def __init__(self, recipe: Recipe, segmenter: Segmenter, prompts: Sequence[str]) -> None:
        """Take the parts."""
        super().__init__(segmenter, prompts)
        self.recipe = recipe

    def fingerprint(self) -> dict[str, Any]:
        """Describe the recipe, and what was built from it."""
        return {"recipe": dataclasses.asdict(self.recipe), **super().fingerprint()}


def method_recipes(recipe: Recipe, methods: Sequence[str], **options: Any) -> dict[str, Recipe]:
    """Return a recipe for each method, with the same models; none are loaded.

    Args:
        recipe: the models, the image size and the windows.
        methods: names of presets; "bilinear" is the start that the others refine.
        options: of the presets; each goes to the methods that have it.

    Raises:
        InputError: an unknown method, an option that none of the methods has, or a method that
            needs what the affinity does not provide.

    >>> from lpprop.models.recipes import RECIPES
    >>> recipes = method_recipes(RECIPES["clip-dino"], ["bilinear", "lposs", "lposs+"], tau=0.02)
    >>> {name: recipe.options for name, recipe in recipes.items()}
    {'bilinear': {}, 'lposs': {}, 'lposs+': {'tau': 0.02}}
    """
    known = {method: _options_of(method) for method in methods}
    for option in options:
        if not any(option in names for names in known.values()):
            names = sorted(set().union(*known.values()))
            raise InputError.of(
                option,
                got=f"an option that no method has ({', '.join(known)})",
                expected=f"one of {', '.join(names)}" if names else "none",
                fix="Check its name, or the methods.",
            )
    return {
        method: recipe.with_method(
            method, **{name: value for name, value in options.items() if name in names}
        )
        for method, names in known.items()
    }


def _options_of(method: str) -> set[str]:
    chain = presets.by_name(method)
    preset = presets.METHODS.get(method) or getattr(presets, method)
    own = {
        parameter.name
        for parameter in inspect.signature(preset).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD
    }
    return own.union(*(getattr(step, "config", ()) for step in steps_of(chain)))


def recipe_predictors(
    recipes: Mapping[str, Recipe],
    prompts: Sequence[str],
    *,
    download: bool = True,
    device: str | torch.device = "cpu",
) -> dict[str, RecipePredictor]:
    """Load the models that recipes share, and make a predictor of each recipe.

    Args:
        recipes: by name; they differ in method, options, image size and windows alone, as those of
            `method_recipes` do.
        prompts: one string a class, as the data set has them.
        download: whether to fetch weights that are neither in a folder nor in the cache.
        device: where to compute.

    Raises:
        ImportError: an extra is not installed; the message names it.
        InputError: recipes of different models, weights that cannot be had, a method that cannot be
            used, or classes that the backbone cannot score.

    >>> from lpprop.models.recipes import RECIPES
    >>> recipes = method_recipes(RECIPES["offline"], ["bilinear", "lposs"], k=50)
    >>> predictors = recipe_predictors(recipes, ["cat; lynx", "sofa"])
    >>> predictors["lposs"].segmenter.backbone is predictors["bilinear"].segmenter.backbone
    True
    """
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
    built = first.build(download=download, device=device)
    built.backbone.labels(prompts)
    segmenters = [
        built,
        *(
            Segmenter(
                built.backbone,
                built.affinity,
                other.method,
                shorter_side=other.shorter_side,
                windows=other.windows,
                **other.options,
            )
            for other in others
        ),
    ]
    return {
        name: RecipePredictor(recipe, segmenter, prompts)
        for (name, recipe), segmenter in zip(recipes.items(), segmenters, strict=True)
    }


def check_continues(out: Path, dataset: Dataset, recipes: Mapping[str, Recipe]) -> None:
    """Refuse a folder that holds another run, as far as can be told without the models.

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
    merged_config(out, {**old, "dataset": about(dataset), "predictors": described})
