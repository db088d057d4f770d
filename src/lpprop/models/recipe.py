"""A recipe: which models, which method, and how they see an image, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice
from lpprop.backbones import (
    EfficientNetLite0,
    MaskCLIP,
    MaskTIPS,
    SAM3Concepts,
    StableDiffusion,
    VisionTransformer,
)
from lpprop.backbones.backbone import Backbone
from lpprop.compose import presets
from lpprop.compose.composite import missing_input
from lpprop.models.reference_backbone import ReferenceBackbone
from lpprop.models.references import References
from lpprop.models.requirements import PROVIDED
from lpprop.models.segmenter import Segmenter
from lpprop.regions.named import find_proposer

__all__ = ["CLIP_SCALE", "Model", "Recipe"]

#: The scale of cosines at which CLIP was trained.
CLIP_SCALE = 100.0

_KINDS: dict[str, type[Backbone]] = {
    kind.__name__: kind
    for kind in (
        EfficientNetLite0,
        MaskCLIP,
        MaskTIPS,
        SAM3Concepts,
        VisionTransformer,
        StableDiffusion,
    )
}


@dataclass(frozen=True)
class Model:
    """A backbone and its weights, as data.

    Attributes:
        kind: name of the class in `lpprop.backbones`.
        checkpoint: name or folder for its `from_pretrained`; None for the class's own default.
        options: keywords of the class.
        revision: commit, tag or branch of the checkpoint's repository; the newest if None.
    """

    kind: str
    checkpoint: str | Path | None = None
    options: dict[str, Any] = field(default_factory=dict)
    revision: str | None = None

    def load(self, *, download: bool = True, dtype: torch.dtype | None = None) -> Backbone:
        """Load the backbone with its weights; see `Backbone.from_pretrained`."""
        check_choice("kind", self.kind, tuple(_KINDS))
        named = () if self.checkpoint is None else (self.checkpoint,)
        pinned = {} if self.revision is None else {"revision": self.revision}
        return _KINDS[self.kind].from_pretrained(
            *named, download=download, dtype=dtype, **self.options | pinned
        )


@dataclass(frozen=True)
class Recipe:
    """A protocol: a backbone, an affinity and a method, and how they see an image.

    Attributes:
        backbone: the model that scores the classes.
        affinity: the model that tells which patches belong together; the backbone itself if None.
        method: a preset's name.
        options: options of the preset, beside those that suit the affinity.
        shorter_side: shorter side of the image that the models see.
        longer_side: bound on its longer side.
        antialias: whether the image is averaged where it is made smaller; see `Segmenter`.
        windows: (window, stride), or None for whole images.
        background: the threshold below which a pixel is none of the classes; None for no such.
        top_classes: how many classes are refined; all if None.
        regions: name of what proposes regions to a method that takes them, such as "slic"; None
            where they come with each image.
        source: the paper that describes the protocol.
        references: whether the classes are scored by references of examples, which `build` is then
            given; the backbone provides their features.

    >>> from lpprop.models.recipes import RECIPES
    >>> recipe = RECIPES["clip-dino"]
    >>> recipe.windows, recipe.affinity.checkpoint
    ((224, 112), 'dino-vitb16')
    >>> from dataclasses import replace
    >>> replace(recipe, method="lposs").method
    'lposs'
    """

    backbone: Model
    affinity: Model | None = None
    method: str = "lposs+"
    options: dict[str, Any] = field(default_factory=dict)
    shorter_side: int | None = 448
    longer_side: int = 2048
    antialias: bool = True
    windows: tuple[int, int] | None = None
    background: float | None = None
    top_classes: int | None = None
    regions: str | None = None
    source: str = ""
    references: bool = False

    def with_references(self) -> Recipe:
        """Return the recipe with references in place of words: its affinity scores the classes too.

        The models see whole images, as they see the references. Options that suit the scale of
        CLIP's cosines are left out.

        Raises:
            InputError: an affinity without feats.

        >>> from lpprop.models.recipes import RECIPES
        >>> RECIPES["clip-dinov2"].with_references().backbone.checkpoint
        'dinov2-vitb14'
        """
        options = {name: x for name, x in self.options.items() if name != "logit_scale"}
        backbone = self.affinity or self.backbone
        provides = _KINDS[backbone.kind].provides
        if provides and "feats" not in provides:  # empty where options decide
            raise InputError.of(
                "references",
                got=f"references for {backbone.kind}, which provides {' and '.join(provides)}",
                expected="a recipe whose affinity, or only model, provides feats",
                fix="Use the recipe dinov2-references.",
            )
        return replace(
            self, backbone=backbone, affinity=None, references=True, options=options, windows=None
        )

    def with_method(self, method: str, **options: Any) -> Recipe:
        """Return the same models with another method, or with other options of the same method.

        The new method keeps those of the recipe's own options that it has. Methods on distributions
        of cosines get CLIP's scale, at which CLIP was trained, and methods on attention see whole
        images.

        Args:
            method: a preset's name.
            options: options of the preset, over the recipe's.

        Raises:
            InputError: an unknown method or option, or a method that needs an input that the
                affinity does not provide.

        >>> from lpprop.models.recipes import RECIPES
        >>> changed = RECIPES["clip-dino"].with_method("max_velocity", tau=0.5)
        >>> changed.options, changed.windows
        ({'logit_scale': 100.0, 'tau': 0.5}, None)
        """
        known = presets.find(method).options
        kept = {name: value for name, value in self.options.items() if name in known}
        if "logit_scale" in known and self.backbone.options.get("scores") == "cosine":
            kept = {"logit_scale": CLIP_SCALE} | kept
        kept |= options
        chain = presets.by_name(method, **kept)
        model = self.affinity or self.backbone
        # Empty for classes whose options decide; the Segmenter then checks.
        provides = _KINDS[model.kind].provides
        if provides and (missing := missing_input(chain, (*PROVIDED, *provides))):
            raise InputError.of(
                "method",
                got=repr(method),
                expected=f"a method that needs no {missing}: the affinity, {model.kind}, provides "
                + " and ".join(provides),
                fix="Use another method, or a recipe with another affinity.",
            )
        windows = None if "attention" in chain.needs else self.windows
        regions = self.regions if "regions" in chain.takes else None
        return replace(self, method=method, options=kept, windows=windows, regions=regions)

    def build(
        self,
        *,
        references: References | None = None,
        download: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Segmenter:
        """Load the models and tie them together.

        Args:
            references: those that the backbone made, for a recipe by references alone. Another
                matching than the best cosine is chosen by hand: `recipe.tie(ReferenceBackbone(
                recipe.backbone.load(), references, matching="rank"))`.
            download: whether weights may be downloaded that are neither in a folder nor in the
                cache.
            device: the device of the models.
            dtype: dtype of the models; that of the checkpoints if None.

        Returns:
            A segmenter that is called with an image and the classes.

        Raises:
            ImportError: an extra is not installed; the message names it.
            InputError: weights that cannot be loaded, a method that cannot be used, or references
                that the recipe does not take, lacks, or has from another model.
        """
        if references is not None and not self.references:
            raise InputError.of(
                "references",
                got="references for a recipe of classes in words",
                expected="None",
                fix="Use the recipe that recipe.with_references() returns.",
            )
        regions = None
        if self.regions is not None:
            regions = find_proposer(self.regions, download=download, device=device)
        if references is None:
            return self.tie(*self.load(download=download, device=device, dtype=dtype), regions)
        model = self.backbone.load(download=download, dtype=dtype).to(device)
        return self.tie(ReferenceBackbone(model, references), regions=regions)

    def load(
        self,
        *,
        download: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> tuple[Backbone, Backbone | None]:
        """Load the backbone and the affinity, if there is one; see `build`."""
        if self.references:
            raise InputError.of(
                "references",
                got="None",
                expected="references, by which this recipe scores its classes",
                fix="Make or load lpprop.models.References, and call build(references=...).",
            )
        backbone = self.backbone.load(download=download, dtype=dtype).to(device)
        if self.affinity is None:
            return backbone, None
        return backbone, self.affinity.load(download=download, dtype=dtype).to(device)

    def tie(
        self,
        backbone: Backbone,
        affinity: Backbone | None = None,
        regions: Callable[..., Any] | None = None,
    ) -> Segmenter:
        """Tie models that are loaded already to a segmenter; see `build`.

        Args:
            backbone: the backbone.
            affinity: the affinity, if there is one.
            regions: what the name `regions` of the recipe stands for, if it is at hand already.
        """
        if regions is None and self.regions is not None:
            regions = find_proposer(self.regions, device=backbone.device)
        return Segmenter(
            backbone,
            affinity,
            self.method,
            shorter_side=self.shorter_side,
            longer_side=self.longer_side,
            antialias=self.antialias,
            windows=self.windows,
            background=self.background,
            top_classes=self.top_classes,
            regions=regions,
            **self.options,
        )

    def __repr__(self) -> str:
        rows = {
            "backbone": _describe(self.backbone),
            "affinity": "the backbone's" if self.affinity is None else _describe(self.affinity),
            "method": self.method + _list_options(self.options),
            "shorter side": f"{self.shorter_side}, the longer one at most {self.longer_side}"
            if self.shorter_side
            else "the image's own",
            "antialias": self.antialias,
            "windows": " every ".join(map(str, self.windows or ("none: whole image",))),
            **{
                name: value
                for name, value in (
                    ("background", self.background), ("top classes", self.top_classes),
                    ("regions", self.regions),
                )
                if value is not None
            },
            "source": self.source,
        } | ({"references": "given to build"} if self.references else {})  # fmt: skip
        return "\n".join(f"{name:<14}{value}" for name, value in rows.items())


def _describe(model: Model) -> str:
    name = model.kind if model.checkpoint is None else f"{model.kind} {model.checkpoint}"
    name += "" if model.revision is None else f" at {model.revision[:7]}"
    return name + _list_options(model.options)


def _list_options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())
