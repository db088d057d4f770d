"""What sets the vision transformers of transformers apart: tokens, colours, inputs, positions.

Heinrich et al., "RADIOv2.5", CVPR 2025 (RADIO); Tschannen et al., "SigLIP 2", 2025; Cao et al.,
"TIPSv2", CVPR 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.errors import InputError

__all__ = [
    "CLIP",
    "Colours",
    "Layout",
    "check_architecture",
    "count_prefix",
    "find_layout",
    "own_colours",
    "wrong_architecture",
]


class Colours(NamedTuple):
    """Mean and standard deviation of red, green and blue in the images of a training."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


CLIP = Colours((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_IMAGENET = Colours((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = Colours((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_NONE = Colours((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def _as_image(pixels: Float[Tensor, "b 3 H W"], patch_size: int) -> tuple[Tensor]:
    return (pixels,)


def _as_patches(
    pixels: Float[Tensor, "b 3 H W"], patch_size: int
) -> tuple[Float[Tensor, "b N D"], None, Int[Tensor, "b 2"]]:
    """Cut images into patches, each (row, column, colour), for SigLIP 2's NaFlex; with their grids.

    All images of a batch have one size: no patch is padding, and no mask is needed.
    """
    grid = [side // patch_size for side in pixels.shape[-2:]]
    cells = pixels.unflatten(3, (grid[1], patch_size)).unflatten(2, (grid[0], patch_size))
    patches = cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    return patches, None, torch.tensor([grid] * len(pixels), device=pixels.device)


class Layout(NamedTuple):
    """How one architecture takes images.

    Attributes:
        colours: those of its published weights; ImageNet's where they differ between checkpoints.
        inputs: makes the arguments of the model from a batch of normalised images.
        bicubic: whether position embeddings are resized bicubically, on both axes by their own
            scale. RADIO, SigLIP 2 and TIPS resize bilinearly: there is no offset in their code.
    """

    colours: Colours = _IMAGENET
    inputs: Callable[[Tensor, int], tuple[Any, ...]] = _as_image
    bicubic: bool = True


#: By the model type of the configuration; the others have the defaults.
_LAYOUTS = {
    "clip_vision_model": Layout(CLIP),
    "metaclip_2_vision_model": Layout(CLIP),
    "siglip_vision_model": Layout(_HALF),
    "siglip2_vision_model": Layout(_HALF, _as_patches, bicubic=False),
    "tipsv2_vision_model": Layout(_NONE, bicubic=False),
    "radio": Layout(CLIP, bicubic=False),
}


def find_layout(model: Any) -> Layout:
    """Return how a model takes images."""
    return _LAYOUTS.get(model.config.model_type, Layout())


def own_colours(model: Any) -> Colours | None:
    """Return the colours with which a model normalises images itself, as RADIO does, or None."""
    conditioner = getattr(model, "input_conditioner", None)
    if not hasattr(conditioner, "norm_mean"):
        return None
    parts = (getattr(conditioner, f"norm_{name}").flatten().tolist() for name in ("mean", "std"))
    return Colours(*map(tuple, parts))


def check_architecture(model: Any) -> int:
    """Return the side of a patch, or refuse a model that is no plain vision transformer."""
    name, config = type(model).__name__, getattr(model, "config", None)
    patch: Any = getattr(config, "patch_size", None)
    sides = [*patch] if isinstance(patch, (list, tuple)) else [patch]
    square = sides and all(isinstance(side, int) and side == sides[0] for side in sides)
    if not (square and hasattr(model, "embeddings") and hasattr(config, "num_hidden_layers")):
        raise wrong_architecture(name)
    if hasattr(config, "mask_ratio"):
        raise wrong_architecture(f"{name}, which shuffles the patches and drops some")
    kernel = getattr(config, "_attn_implementation", "sdpa")
    if kernel != "sdpa":
        raise InputError.of(
            "model",
            got=f"a {name} with {kernel!r} attention",
            expected="PyTorch's scaled dot product attention, 'sdpa'",
            fix="Call model.set_attn_implementation('sdpa').",
        )
    return int(sides[0])


def wrong_architecture(got: str) -> InputError:
    """Return the error for a model whose blocks do not attend between all patches."""
    return InputError.of(
        "model",
        got=got,
        expected="a vision transformer of transformers whose blocks all attend from every patch "
        "to every patch, such as ViTModel or Dinov2Model",
        fix="Pass the model without its head, as AutoModel.from_pretrained loads it.",
    )


def count_prefix(embeddings: Any) -> int:
    """Count the tokens before the patches, by the attributes that the models have for them.

    RADIO keeps its summary tokens, one per teacher, and its registers in one matrix.
    """
    single = ("cls_token", "class_embedding", "distillation_token")
    count = sum(getattr(embeddings, name, None) is not None for name in single)
    for name in ("register_tokens", "cls_register_token"):
        tokens = getattr(embeddings, name, None)
        count += 0 if tokens is None else int(tokens.shape[-2])
    return count
