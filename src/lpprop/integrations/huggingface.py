"""Refine the outputs of Hugging Face's segmentation models, before `post_process_...`.

    outputs = model(**inputs)
    refined = refine_outputs(outputs, image, feats)
    labels = processor.post_process_semantic_segmentation(refined, target_sizes=[(H, W)])

Three kinds of outputs are recognised by their fields, without importing transformers:
`logits` (B, C, h, w) of the semantic segmentation models (SegFormer, UPerNet, BEiT, DPT, ...),
`logits` (prompts, H, W) of CLIPSeg, and `class_queries_logits` with `masks_queries_logits` of the
universal ones (MaskFormer, Mask2Former, ...).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_grid, as_image
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, check_size
from lpprop._core.precision import move_to
from lpprop.compose.pipeline import refine
from lpprop.inputs.windows import SlidingWindows
from lpprop.integrations import denormalize, on_grid

__all__ = ["hidden_features", "refine_outputs"]

Outputs = TypeVar("Outputs")

# Copies of one image, or of its features, from one batch are equal up to this rounding.
_SAME = 1e-3


def refine_outputs(
    outputs: Outputs,
    images: Any,
    feats: Any = None,
    *,
    prompts: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    method: str | Callable[..., Tensor] = "auto",
    windows: SlidingWindows | None = None,
    **options: Any,
) -> Outputs:
    """Refine the outputs of a model, and return outputs of the same class.

    The refined scores have the images' size and the scale of the method. They can be compared
    between classes, as the argmax of `post_process_semantic_segmentation` does; a sigmoid no longer
    applies to them. Logits that are finer than the feats are averaged over each patch first.

    - Semantic segmentation: `logits` (B, C, h, w) become (B, C, H, W).
    - CLIPSeg: the prompts are the classes. Its `logits` are (B * prompts, h, w), all prompts of the
      first image first, or (h, w) for a single prompt; the order stays. CLIPSeg needs images
      repeated for every prompt: the refinement takes them, and such feats, once.
    - Universal: the semantic map is refined, class probabilities times mask probabilities summed
      over the queries. The result has one query per class, with masks at the images' size that are
      scaled to [0, 1] per image.

    Args:
        outputs: the model's outputs, not as a tuple.
        images: (B, 3, H, W) or (B, H, W, 3) in [0, 1] or uint8, one without B, a PIL image, or a
            list of these of one size; with mean and std, the model's `pixel_values`.
        feats: (B, D, h', w') affinity features, for the methods that need them: those of another
            backbone, or `hidden_features(outputs)`.
        prompts: number of CLIPSeg's prompts per image; if None, all prompts are of one image.
        mean: `processor.image_mean`, if the images are pixel_values.
        std: `processor.image_std`.
        method: as in `lpprop.refine`.
        windows: the `SlidingWindows` of ONE image, if the B items of the outputs are its crops. The
            result is then a single item.
        options: further arguments of `lpprop.refine`: `attention=`, `size=`, options of the method.

    Raises:
        InputError: outputs of another kind, images or feats of another number than the logits,
            images of several sizes, a wrong number of prompts, and whatever `lpprop.refine`
            refuses.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class SemanticSegmenterOutput:
    ...     logits: torch.Tensor
    >>> outputs = SemanticSegmenterOutput(torch.rand(2, 5, 8, 8))
    >>> refined = refine_outputs(outputs, torch.rand(2, 3, 64, 64), torch.rand(2, 16, 4, 4))
    >>> type(refined).__name__, refined.logits.shape
    ('SemanticSegmenterOutput', torch.Size([2, 5, 64, 64]))
    """
    logits, shape = _scores(outputs, prompts)
    count = len(logits) if windows is None else 1
    repeated = 1 if shape is None else logits.shape[1]
    image = _as_images(images, logits, mean, std)
    image = _match("images", image, count, repeated, logits, windows)
    if feats is not None:
        feats = as_grid("feats", feats)
        check_tensors(feats=(feats, "B D h w"))
        feats = _match("feats", feats, len(logits), repeated, logits, None)
        logits = on_grid(logits, (feats.shape[-2], feats.shape[-1]))
    scores = refine(logits, feats, image, method=method, windows=windows, **options)
    if _is_universal(outputs):
        return dataclasses.replace(outputs, **_one_query_per_class(scores))  # type: ignore[type-var]
    if shape is not None:
        scores = scores.flatten(0, 1) if len(shape) == 3 else scores[0, 0]
    return dataclasses.replace(outputs, logits=scores)  # type: ignore[type-var]


def hidden_features(
    outputs: Any, layer: int = -1, *, grid: tuple[int, int] | None = None
) -> Float[Tensor, "B D h w"]:
    """Return the model's own hidden states as affinity features.

    Call the model with `output_hidden_states=True`. CLIPSeg's hidden states are repeated for every
    prompt; `refine_outputs` takes them once.

    Args:
        outputs: the model's outputs.
        layer: index into `hidden_states`; the last one by default.
        grid: (h, w) of the patches, if hidden states are tokens (B, T, D); the first T - h w tokens
            are not patches. If None, the grid is square, with a class token or none.

    Raises:
        InputError: no hidden states, no such layer, or tokens that do not fit the grid.

    >>> from types import SimpleNamespace
    >>> tokens = torch.rand(2, 1 + 36, 16)
    >>> hidden_features(SimpleNamespace(hidden_states=(tokens,))).shape
    torch.Size([2, 16, 6, 6])
    """
    states = getattr(getattr(outputs, "vision_model_output", outputs), "hidden_states", None)
    if not states:
        raise InputError.of(
            "outputs",
            got=f"a {type(outputs).__name__} without hidden states",
            expected="outputs with hidden states",
            fix="Call the model with output_hidden_states=True.",
        )
    whole = isinstance(layer, Integral) and not isinstance(layer, bool)
    if not whole or not -len(states) <= layer < len(states) or states[layer] is None:
        kept = [number for number, state in enumerate(states) if state is not None]
        raise InputError.of(
            "layer", got=repr(layer), expected=f"one of {kept}, or -1", fix="Change layer."
        )
    state: Tensor = states[layer]
    if state.ndim == 4:
        return state
    check_tensors(hidden_states=(state, "B T D"))
    tokens = state.shape[1]
    side = math.isqrt(tokens)
    fitted = (side, side) if grid is None else check_size("grid", grid)
    patches = fitted[0] * fitted[1]
    if patches > tokens or (grid is None and tokens - patches > 1):
        raise InputError.of(
            "grid",
            got=repr(grid),
            expected=f"(h, w) of the patches among {tokens} tokens",
            fix="Pass grid=: the size of the model's input divided by its patch size.",
        )
    return state[:, tokens - patches :].mT.reshape(len(state), -1, *fitted)


def _scores(outputs: Any, prompts: int | None) -> tuple[Tensor, tuple[int, ...] | None]:
    """Return logits (B, C, h, w) and, where prompts are the classes, their shape before that."""
    if not dataclasses.is_dataclass(outputs) or isinstance(outputs, type):
        raise InputError.of(
            "outputs",
            got=type(outputs).__name__,
            expected="the outputs of a segmentation model of transformers",
            fix="Call the model with return_dict=True and pass its outputs whole.",
        )
    logits = _semantic(outputs) if _is_universal(outputs) else getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor) or not 2 <= logits.ndim <= 4:
        raise InputError.of(
            "outputs.logits",
            got=f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else repr(logits),
            expected="(B, C, h, w), or CLIPSeg's (B * prompts, h, w)",
            fix="Pass the outputs of a semantic segmentation model or of CLIPSeg.",
        )
    if logits.ndim == 4:
        if prompts is not None:
            raise InputError.of(
                "prompts",
                got=f"{prompts!r}, with logits of shape {tuple(logits.shape)}",
                expected="None, since the second axis has the classes",
                fix="Leave prompts out.",
            )
        return logits, None
    items = len(logits) if logits.ndim == 3 else 1
    each = items if prompts is None else check_integer("prompts", prompts)
    if not items or items % each:
        raise InputError.of(
            "prompts",
            got=str(each),
            expected=f"a divisor of {items}, the number of CLIPSeg's maps",
            fix="Pass the number of prompts per image, which is the same for all images.",
        )
    return logits.reshape(-1, each, *logits.shape[-2:]), tuple(logits.shape)


def _as_images(
    images: Any, like: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Tensor:
    if (mean is None) != (std is None):
        raise InputError.of(
            "mean" if mean is None else "std",
            got="None",
            expected="both mean and std, or neither",
            fix="Pass processor.image_mean and processor.image_std.",
        )
    if mean is not None and std is not None:
        return denormalize("images", move_to(like.device, as_grid("images", images)), mean, std)
    if not isinstance(images, (list, tuple)):
        return as_image(images, like=like)
    if not images:
        raise InputError.of(
            "images", got="an empty list", expected="one per item", fix="Pass the images."
        )
    listed = [as_image(image, like=like) for image in images]
    sizes = sorted({tuple(image.shape[-2:]) for image in listed})
    if len(sizes) > 1:
        raise InputError.of(
            "images",
            got=f"sizes {', '.join(f'{height} x {width}' for height, width in sizes)}",
            expected="one size",
            fix="Pass the model's pixel_values, which have one size, with mean= and std= of the "
            "processor; or refine the images one by one.",
        )
    return torch.cat([image.to(listed[0]) for image in listed])


def _match(
    name: str,
    given: Tensor,
    count: int,
    repeated: int,
    logits: Tensor,
    windows: SlidingWindows | None,
) -> Tensor:
    """Return one image or feats per item; refuse others than that, or equal ones per prompt."""
    if len(given) == count:
        return given
    if repeated > 1 and len(given) == count * repeated:
        copies = given.reshape(count, repeated, *given.shape[1:])
        first = copies[:, :1]
        if bool(((copies - first).abs() <= _SAME * first.abs().amax()).all()):
            return copies[:, 0]
        raise InputError.of(
            name,
            got=f"{len(given)} different ones",
            expected=f"{count}, or equal ones for the {repeated} prompts of an image",
            fix="Pass prompts=, the number of prompts of each image.",
        )
    owner = f"{tuple(logits.shape)} logits" if windows is None else "the windows of one image"
    fix = "Pass the images that the model saw, in the same order."
    if repeated > 1 and not len(logits) * repeated % len(given):
        fix = f"Pass prompts={len(logits) * repeated // len(given)} if each image has so many."
    raise InputError.of(name, got=f"{len(given)}", expected=f"{count}, for {owner}", fix=fix)


def _is_universal(outputs: Any) -> bool:
    return getattr(outputs, "masks_queries_logits", None) is not None


def _semantic(outputs: Any) -> Tensor:
    """Sum the masks of all queries, weighted by their classes; the last class is "no object"."""
    masks, classes = outputs.masks_queries_logits, outputs.class_queries_logits
    sizes = check_tensors(
        masks_queries_logits=(masks, "B Q h w"), class_queries_logits=(classes, "B Q C+1")
    )
    if sizes["C+1"] < 2:
        raise InputError.of(
            "class_queries_logits",
            got=f"{sizes['C+1']} class",
            expected="at least two, the last of them for no object",
            fix="Pass the outputs of a universal segmentation model.",
        )
    weights: Tensor = classes.softmax(-1)[..., :-1]
    return torch.einsum("bqc,bqhw->bchw", weights, masks.sigmoid())


def _one_query_per_class(scores: Tensor) -> dict[str, Tensor]:
    """Return logits of queries whose mask and class probabilities multiply to the scores."""
    scores = scores.float()
    low, high = (bound(scores, (1, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax))
    span = torch.where(high > low, high - low, torch.ones_like(high))
    batch, classes = scores.shape[:2]
    certain = scores.new_full((batch, classes, classes + 1), -torch.inf)
    certain.diagonal(dim1=1, dim2=2).fill_(0)
    return {
        "class_queries_logits": certain,
        "masks_queries_logits": ((scores - low) / span).logit(torch.finfo(scores.dtype).eps),
    }
