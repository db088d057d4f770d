"""A recipe of `lpprop.models` for many images, as an object that an engine maps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from lpprop import backbones
from lpprop._core.errors import InputError
from lpprop._core.options import check_boolean, is_listed
from lpprop.backbones.imagenet import class_groups
from lpprop.backbones.prompts import parse_classes
from lpprop.batch.base import BatchMap
from lpprop.batch.inputs import as_picture, check_proposer
from lpprop.compose import presets
from lpprop.models.choice import Choice
from lpprop.models.recipes import RECIPES, Recipe
from lpprop.models.requirements import check_takes_regions
from lpprop.models.segmenter import Segmenter

__all__ = ["Segment"]

#: What makes a segmenter on a device.
Maker: TypeAlias = Callable[[torch.device], Segmenter]


class Segment(BatchMap):
    """Segment many images into classes in words, batch by batch, in any process.

        segment = lpprop.batch.Segment(["cat; lynx", "sofa"], "clip-dino")
        out = segment({"image": ["a.jpg", "b.jpg"]})
        out["labels"], out["error"]

    It takes the column "image": arrays, PIL images, encoded images (the bytes of a file), paths, or
    dictionaries with "bytes" or "path". Encoded ones and files are turned upright as their EXIF
    orientation says. For methods on regions it also takes "regions", those of each image. The
    backbone and the refiner run in one worker, since features are many times larger than labels. A
    worker loads the models at its first batch, or when `load()` is called.

    Each image has the bits that the recipe's `Segmenter` gives in a new process, whatever is in its
    batch. One that fails has its reason in the column "error", "" for all others, and outputs of
    size 0. Other columns pass through. `process(item)` maps a single image, a dictionary of its
    entries.

    Args:
        classes: one string per class, as a `Segmenter` takes them; None takes those of each image,
            from the column "classes".
        recipe: a name of `lpprop.models.RECIPES`, a `Recipe`; or a function that makes the
            `lpprop.models.Segmenter` on the device that it gets, for models of your own and for
            references. To be sent to other processes, the function has to pickle.
        method: a preset's name in place of the recipe's.
        outputs: of "labels" and "scores". Labels are (H, W) uint16, indices into the classes;
            scores are (C, H, W).
        background: as `Segmenter` takes it; the label after the last class is that of none.
        top_classes: as `Segmenter` takes it.
        regions: the name of what proposes regions to a method that takes them, such as "slic".
        keep: inputs that the result holds too, such as ["image"].
        device: where the workers compute: "auto" is the GPU that the engine has given to the
            worker, or the CPU if there is none.
        download: whether the workers may download weights.
        options: options of the method, over the recipe's.

    Attributes:
        outputs: as given.
        keep: as given.
        device: as given; the device itself is chosen by the worker.

    Raises:
        InputError: classes, a recipe, a method, an option, an output or a device that cannot be
            used, before any image and without the models.

    >>> Segment(["cat", "sofa"], "offline", background=0.6).label_names
    ['cat', 'sofa', 'none of these']
    >>> segment = Segment(["cat", "sofa"], "offline", method="bilinear")
    >>> out = segment({"image": [torch.rand(3, 40, 60), "absent.jpg"]})
    >>> [labels.shape for labels in out["labels"]]
    [(40, 60), (0, 0)]
    >>> out["error"]
    ['', 'image: got absent.jpg, which does not exist, expected a file. Check the path.']
    """

    def __init__(
        self,
        classes: Sequence[str] | None,
        recipe: str | Recipe | Maker = "offline",
        *,
        method: str | None = None,
        outputs: Sequence[str] = ("labels",),
        background: float | None = None,
        top_classes: int | None = None,
        regions: str | None = None,
        keep: Sequence[str] = (),
        device: str | torch.device = "auto",
        download: bool = True,
        **options: Any,
    ) -> None:
        chosen = {"background": background, "top_classes": top_classes, "regions": regions}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        recipe = RECIPES[recipe] if isinstance(recipe, str) else recipe
        if isinstance(recipe, Recipe):
            recipe = _change(recipe, method, options, chosen)
        else:
            _check_maker(recipe, {"method": method, **options, **chosen})
        self._segmenter: Segmenter | None = None
        super().__init__(
            outputs=outputs, keep=keep, device=device,
            classes=list(classes) if is_listed(classes) else classes,
            recipe=recipe, download=check_boolean("download", download),
        )  # fmt: skip
        if classes is not None and isinstance(recipe, Recipe):
            if recipe.backbone.kind == "EfficientNetLite0":
                class_groups(self.config["classes"])  # may refuse them
            self.label_names  # noqa: B018, which may refuse them too

    @property
    def label_names(self) -> list[str]:
        """The name of each label, where all images have the same classes.

        Raises:
            InputError: classes that differ by image.
        """
        recipe, classes = self.config["recipe"], self.config["classes"]
        if classes is None:
            raise InputError.of(
                "classes",
                got="None, so that each image has its own",
                expected="those of all images",
                fix="Read the names from the column of the classes.",
            )
        names = parse_classes(classes).class_names
        if isinstance(recipe, Recipe):
            independent = getattr(backbones, recipe.backbone.kind).independent
            return Choice(recipe.background, recipe.top_classes, independent).label_names(names)
        self.load()
        assert self._segmenter is not None
        return self._segmenter.choice.label_names(names)

    def _names_of(self, config: Mapping[str, Any]) -> list[str]:
        names = ["image", "classes"] if config["classes"] is None else ["image"]
        recipe = config["recipe"]
        takes = not isinstance(recipe, Recipe) or "regions" in presets.find(recipe.method).takes
        return [*names, "regions"] if takes else names

    def _required(self) -> tuple[str, ...]:
        return ("image", "classes") if self.config["classes"] is None else ("image",)

    def _reset(self) -> None:
        super()._reset()
        self._segmenter = None

    def _load(self, device: torch.device) -> None:
        recipe = self.config["recipe"]
        if isinstance(recipe, Recipe):
            segmenter = recipe.build(download=self.config["download"], device=device)
        else:
            segmenter = recipe(device)
            if not isinstance(segmenter, Segmenter):
                raise _wrong_recipe(f"a function that returned a {type(segmenter).__name__}")
        if self.config["classes"] is not None:
            segmenter.backbone.class_names(self.config["classes"])  # may refuse them
        self._segmenter = segmenter

    def _score(self, item: dict[str, Any]) -> Tensor:
        assert self._segmenter is not None
        classes = self.config["classes"]
        if classes is None:
            classes = item["classes"]
            classes = classes.tolist() if isinstance(classes, np.ndarray) else classes
        image = as_picture(item["image"], upright=True)
        return self._segmenter(image, classes, regions=item.get("regions")).scores


def _change(
    recipe: Recipe, method: str | None, options: Mapping[str, Any], chosen: Mapping[str, Any]
) -> Recipe:
    """Return a recipe with what is chosen in its place; refuse what the models will not take."""
    if recipe.references:
        raise _wrong_recipe("a recipe of classes by references")
    if method is not None or options:
        recipe = recipe.with_method(method or recipe.method, **options)
    recipe = dataclasses.replace(recipe, **chosen)
    chain = presets.by_name(recipe.method, **recipe.options)
    Choice(recipe.background, recipe.top_classes)  # may refuse them
    if recipe.regions is not None:
        check_takes_regions(chain)
        check_proposer(recipe.regions)
    return recipe


def _check_maker(recipe: object, others: Mapping[str, Any]) -> None:
    """Require a function, and nothing beside it that it decides itself."""
    if not callable(recipe) or isinstance(recipe, Segmenter):
        raise _wrong_recipe(f"a {type(recipe).__name__}")
    given = [name for name, value in others.items() if value is not None]
    if given:
        raise InputError.of(
            given[0],
            got="it beside a function that makes the segmenter",
            expected="None",
            fix="Let the function pass it to the segmenter.",
        )


def _wrong_recipe(got: str) -> InputError:
    return InputError.of(
        "recipe",
        got=got,
        expected="a name of lpprop.models.RECIPES, a Recipe, or a function of a device that "
        "returns a Segmenter",
        fix="Write def make(device): return Segmenter(...), and pass make; each worker calls it.",
    )
