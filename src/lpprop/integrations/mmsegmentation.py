"""Refine in `predict` of MMSegmentation 1.x: a mix-in for its segmentors.

    @MODELS.register_module()
    class RefinedEncoderDecoder(RefineMixin, EncoderDecoder):
        pass

    model = RefinedEncoderDecoder(..., affinity=backbone, refine=dict(method="lposs+"))

It relies on the documented interface of `mmseg.models.EncoderDecoder` (`encode_decode`,
`whole_inference`, `slide_inference`, `test_cfg`, `data_preprocessor`, metainfo), and does not
import it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_boolean, check_choice, check_integer, check_size
from lpprop._core.precision import uncompiled
from lpprop.compose.pipeline import as_chain, refine
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.patch_grid import cover
from lpprop.inputs.table import INPUTS
from lpprop.inputs.windows import SlidingWindows
from lpprop.integrations import denormalize, on_grid

__all__ = ["RefineMixin", "input_image"]


class RefineMixin:
    """A mix-in before a segmentor, as in `class Refined(RefineMixin, EncoderDecoder)`.

    Between the decode head and `postprocess_result`, the logits of each image become probabilities,
    `lpprop.refine` turns these into scores at the size of the input, and the scores of several
    queries of a class are merged. `postprocess_result` then cuts the padding, flips flipped images
    back, resizes to `ori_shape` and takes the argmax, as it always does.

    - Mode "whole": padding is cut off before the refinement, and put back as 0 afterwards.
    - Mode "slide": one graph joins all windows of an image, which are those of `slide_inference`.
      They cover the padded image, so that the model sees what it always sees. For the refinement,
      the padding has the mean colour.

    A model of one channel (`out_channels=1`), which `postprocess_result` compares with a
    threshold, is refined as two classes. Its result is the logit of the second class's share.

    Args:
        args, kwargs: arguments of the segmentor.
        affinity: a function from images (n, 3, h, w), RGB in [0, 1], to feats (n, D, h', w'), or to
            an object with `feats` and `attention`, such as the output of a backbone of this
            package. None for a method that needs neither. If its grid covers other pixels than
            the image's, from the top left corner, it says so by a method `span(size)` that returns
            (H, W), as the backbones of this package do.
        refine: arguments of `lpprop.refine`, such as `dict(method="lposs", k=200)`.
        query_idx: class of each channel, as in `[0, 0, 1, 2]`: the class takes the largest
            refined score of its queries. None: one channel per class.
        is_prob: whether `encode_decode` returns probabilities. If not, it returns logits, and their
            softmax (sigmoid, for one channel) is refined.
        loaded: order of the colours, "bgr" or "rgb", in which the pipeline loads images;
            MMSegmentation's loads "bgr".

    Raises:
        InputError: in the constructor, options that cannot be used; in `predict`, metainfo that is
            missing or does not fit, windows that are not square, a preprocessor that does not say
            how it normalises, and whatever `lpprop.refine` refuses.
    """

    def __init__(
        self,
        *args: Any,
        affinity: Callable[[Tensor], Any] | None = None,
        refine: Mapping[str, Any] | None = None,
        query_idx: Sequence[int] | None = None,
        is_prob: bool = False,
        loaded: str = "bgr",
        **kwargs: Any,
    ) -> None:
        is_prob = check_boolean("is_prob", is_prob)
        loaded = check_choice("loaded", loaded, ("bgr", "rgb"))
        if affinity is not None and not callable(affinity):
            raise InputError.of(
                "affinity",
                got=type(affinity).__name__,
                expected="a function from images to feats, or None",
                fix="Pass a backbone, or a function of your own.",
            )
        options = _check_refine(refine)
        for name in (*INPUTS, "size"):
            if name in options:
                raise InputError.of(
                    "refine",
                    got=f"{name}=",
                    expected="a method and its options, and no inputs",
                    fix=f"Leave {name} out: segmentor or affinity make it for each image.",
                )
        as_chain(**{"method": "auto"} | options)  # refuses what it cannot use
        groups = None if query_idx is None else _group_queries(query_idx)
        super().__init__(*args, **kwargs)
        self.affinity = affinity
        self.refine_options = options
        self.query_groups = groups
        self.is_prob = is_prob
        self.loaded = loaded

    @uncompiled
    def whole_inference(
        self, inputs: Float[Tensor, "B 3 H W"], batch_img_metas: list[dict[str, Any]]
    ) -> Float[Tensor, "B C H W"]:
        """Refine each image of a batch as a whole."""
        boxes = _valid_boxes(inputs, batch_img_metas)
        logits = super().whole_inference(inputs, batch_img_metas)  # type: ignore[misc]
        check_tensors(seg_logits=(logits, "B C H W"), inputs=(inputs, "B 3 H W"))
        refined = []
        for seen, item, box in zip(inputs.split(1), logits.split(1), boxes, strict=True):
            image = self._image(_cut(seen, box))
            scores = self._probabilities(_cut(item, box))
            scores = self._refine(scores, self._affinity_inputs(image), image)
            refined.append(_pad(scores, box, seen))
        return _as_channels(torch.cat(refined), logits.shape[1])

    @uncompiled
    def slide_inference(
        self, inputs: Float[Tensor, "B 3 H W"], batch_img_metas: list[dict[str, Any]]
    ) -> Float[Tensor, "B C H W"]:
        """Refine all windows of each image together."""
        boxes = _valid_boxes(inputs, batch_img_metas)
        windows = _windows(self, (inputs.shape[-2], inputs.shape[-1]))
        metas = [dict(meta) for meta in batch_img_metas]
        refined = []
        for number, (seen, box) in enumerate(zip(inputs.split(1), boxes, strict=True)):
            image = self._image(_cut(seen, box))
            mean = image.mean((2, 3), keepdim=True)
            image = _pad(image - mean, box, seen) + mean
            found = self._affinity_inputs(windows.split(image))
            parts = []
            for crop in windows.split(seen).split(1):
                # A decode head reads the size of a window here, as a torch.Size.
                meta = metas[number] | {"img_shape": crop.shape[2:]}
                part: Tensor = self.encode_decode(crop, [meta])  # type: ignore[attr-defined]
                check_tensors(seg_logits=(part, "1 C h w"))
                # Each window is averaged at once: the pixels of all windows would fill the memory.
                parts.append(_on_feats(self._probabilities(part), found.get("feats")))
            refined.append(self._refine(torch.cat(parts), found, image, windows=windows))
        return _as_channels(torch.cat(refined), part.shape[1])

    def _image(self, inputs: Tensor) -> Tensor:
        return input_image(inputs, self.data_preprocessor, loaded=self.loaded)  # type: ignore[attr-defined]

    def _affinity_inputs(self, images: Tensor) -> dict[str, Any]:
        if self.affinity is None:
            return {}
        found = self.affinity(images)
        if isinstance(found, Tensor):
            return {"feats": found}
        named = {name: getattr(found, name, None) for name in ("feats", "attention")}
        kept = {name: value for name, value in named.items() if value is not None}
        if not kept:
            raise InputError.of(
                "affinity",
                got=f"a {type(found).__name__} without feats or attention",
                expected="a tensor of feats, or an object with feats or attention",
                fix="Pass a backbone that provides them, such as VisionTransformer for DINO.",
            )
        return kept

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return probabilities of at least two classes."""
        one = logits.shape[1] == 1
        if not self.is_prob:
            logits = logits.sigmoid() if one else logits.softmax(1)
        return torch.cat([1 - logits, logits], 1) if one else logits

    def _refine(
        self, probabilities: Tensor, found: dict[str, Any], image: Tensor, **windows: Any
    ) -> Tensor:
        span = getattr(self.affinity, "span", None)
        if not windows and span is not None:
            windows["span"] = check_size("span", span((image.shape[-2], image.shape[-1])))
            probabilities = cover(probabilities, windows["span"])
        logits = _on_feats(probabilities, found.get("feats"))
        scores = refine(logits, image=image, **found, **windows, **self.refine_options)
        return scores if self.query_groups is None else merge_classes(scores, self.query_groups)


def input_image(
    inputs: Float[Tensor, "B 3 H W"], data_preprocessor: Any, *, loaded: str = "bgr"
) -> Float[Tensor, "B 3 H W"]:
    """Undo the colour changes of a `SegDataPreProcessor`: normalisation and channel order.

    Its `bgr_to_rgb` and `rgb_to_bgr` both reverse the channels, and the preprocessor does not keep
    which of them it was. So the caller says in which order the pipeline loads images.

    Args:
        inputs: (B, 3, H, W) inputs of the segmentor.
        data_preprocessor: the segmentor's own, with `mean` and `std` on the scale of 0 to 255.
        loaded: "bgr" or "rgb".

    Returns:
        (B, 3, H, W) RGB in [0, 1], in float32.

    Raises:
        InputError: another kind of preprocessor, or inputs that do not come from it.

    >>> from types import SimpleNamespace
    >>> preprocessor = SimpleNamespace(
    ...     mean=torch.tensor([51.0, 102.0, 153.0]), std=torch.ones(3), channel_conversion=True)
    >>> input_image(torch.zeros(1, 3, 1, 1), preprocessor).flatten()
    tensor([0.2000, 0.4000, 0.6000])
    """
    loaded = check_choice("loaded", loaded, ("bgr", "rgb"))
    reversed_ = getattr(data_preprocessor, "channel_conversion", None)
    if not isinstance(reversed_, bool):
        raise InputError.of(
            "data_preprocessor",
            got=type(data_preprocessor).__name__,
            expected="a SegDataPreProcessor, which says how it normalises",
            fix="Build the segmentor with data_preprocessor=dict(type='SegDataPreProcessor', ...).",
        )
    # A preprocessor that does not normalise has neither attribute.
    mean = getattr(data_preprocessor, "mean", torch.zeros(3))
    std = getattr(data_preprocessor, "std", torch.ones(3))
    image = denormalize("inputs", inputs, mean / 255, std / 255)
    return image.flip(1) if (loaded == "bgr") != reversed_ else image


def _windows(segmentor: Any, size: tuple[int, int]) -> SlidingWindows:
    crop, stride = segmentor.test_cfg.crop_size, segmentor.test_cfg.stride
    pairs = [tuple(x) if isinstance(x, Sequence) else () for x in (crop, stride)]
    if any(len(pair) != 2 or pair[0] != pair[1] for pair in pairs):
        raise InputError.of(
            "test_cfg",
            got=f"crop_size {crop} and stride {stride}",
            expected="square windows and one stride, as pairs of equal numbers",
            fix="Change test_cfg, or use mode 'whole'.",
        )
    return SlidingWindows(size, window=pairs[0][0], stride=pairs[1][0])


def _valid_boxes(
    inputs: Tensor, metas: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int, int, int]]:
    """Return y1, y2, x1, x2 of each image without its padding."""
    height, width = inputs.shape[-2:]
    if len(metas) != len(inputs):
        raise InputError.of(
            "batch_img_metas",
            got=f"{len(metas)}",
            expected=f"{len(inputs)}, one per image",
            fix="Pass the data samples of this batch.",
        )
    boxes = []
    for number, meta in enumerate(metas):
        if "ori_shape" not in meta:
            raise InputError.of(
                f"data_samples[{number}].metainfo",
                got=f"{sorted(meta)}",
                expected="keys with 'ori_shape'",
                fix="End the pipeline with PackSegInputs, or pass data_samples=None.",
            )
        padding = tuple(meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0))))
        left, right, top, bottom = padding if len(padding) == 4 else (-1,) * 4
        if min(left, right, top, bottom, width - left - right - 1, height - top - bottom - 1) < 0:
            raise InputError.of(
                f"data_samples[{number}].metainfo",
                got=f"padding {padding} of {height} x {width} pixels",
                expected="left, right, top and bottom, which leave pixels between them",
                fix="Pass the data samples that the preprocessor returned with these inputs.",
            )
        boxes.append((top, height - bottom, left, width - right))
    return boxes


def _cut(x: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    y1, y2, x1, x2 = box
    return x[..., y1:y2, x1:x2]


def _pad(x: Tensor, box: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """Put zeros back where padding was cut off."""
    y1, y2, x1, x2 = box
    return F.pad(x, (x1, like.shape[-1] - x2, y1, like.shape[-2] - y2))


def _as_channels(scores: Tensor, channels: int) -> Tensor:
    """Return scores in the segmentor's channels: one channel for two classes."""
    if channels > 1:
        return scores
    logs = scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
    return logs[:, 1:] - logs[:, :1]


def _on_feats(logits: Tensor, feats: Tensor | None) -> Tensor:
    return logits if feats is None else on_grid(logits, (feats.shape[-2], feats.shape[-1]))


def _check_refine(refine: object) -> dict[str, Any]:
    if refine is not None and not isinstance(refine, Mapping):
        raise InputError.of(
            "refine",
            got=type(refine).__name__,
            expected="a dictionary of a method and its options",
            fix="Pass refine=dict(method='lposs+').",
        )
    return dict(refine or {})


def _group_queries(query_idx: Any) -> list[list[int]]:
    """List the queries of each class."""
    if isinstance(query_idx, (Tensor, np.ndarray)):
        query_idx = query_idx.tolist()
    if not isinstance(query_idx, (list, tuple)):
        raise InputError.of(
            "query_idx",
            got=type(query_idx).__name__,
            expected="a list with the class of each channel",
            fix="Pass one such as [0, 0, 1, 2].",
        )
    classes = [check_integer(f"query_idx[{i}]", one, low=0) for i, one in enumerate(query_idx)]
    groups = [
        [i for i, one in enumerate(classes) if one == c] for c in range(max(classes, default=0) + 1)
    ]
    if [] in groups:
        raise InputError.of(
            "query_idx",
            got=f"no query of class {groups.index([])}",
            expected="one or more per class",
            fix="Number the classes from 0, without gaps.",
        )
    return groups
