"""Refine in `predict` of MMSegmentation 1.x: a mix-in for its segmentors.

    @MODELS.register_module()
    class RefinedEncoderDecoder(RefineMixin, EncoderDecoder):
        pass

    model = RefinedEncoderDecoder(..., affinity=backbone, refine=dict(method="lposs+"))

It relies on what `mmseg.models.EncoderDecoder` documents (`encode_decode`, `whole_inference`,
`slide_inference`, `test_cfg`, `data_preprocessor`, metainfo), and imports nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.checks import (
    check_tensors,
)
from lpprop._core.errors import InputError
from lpprop._core.options import (
    check_boolean,
    check_choice,
    check_integer,
)
from lpprop.compose.pipeline import refine
from lpprop.inputs.classes import merge_classes
from lpprop.inputs.windows import SlidingWindows
from lpprop.integrations import denormalized, on_grid

__all__ = ["RefineMixin", "input_image"]


class RefineMixin:
    """Put before a segmentor, as in `class Refined(RefineMixin, EncoderDecoder)`.

    Between the decode head and `postprocess_result`, the logits of each image become probabilities,
    `lpprop.refine` makes scores of the size of the input of them, and those of several queries of a
    class are merged. `postprocess_result` then cuts the padding, turns flipped images back, resizes
    to `ori_shape` and takes the argmax, as ever.

    - Mode "whole": padding is cut off before, and put back, as 0, after the refinement.
    - Mode "slide": one graph joins all windows of an image, which are those of
      `slide_inference`. They cover the padded image, since the model has to see what it always
      sees; padding has the mean colour then.

    A model of one channel (`out_channels=1`), which `postprocess_result` compares with a
    threshold, is refined as two classes, and gets the logit of the second one's share back.

    Args:
        args, kwargs: of the segmentor.
        affinity: turns images (n, 3, h, w), RGB in [0, 1], into feats (n, D, h', w'), or into an
            object with `feats` and `attention`, such as what a backbone of this package returns.
            None for a method that needs neither.
        refine: arguments of `lpprop.refine`, such as `dict(method="lposs", k=200)`.
        query_idx: class of each channel, as in `[0, 0, 1, 2]`: the class takes the largest
            refined score of its queries. None: one channel a class.
        is_prob: whether `encode_decode` gives probabilities. If not, it gives logits, and their
            softmax (sigmoid, for one channel) is refined.
        loaded: order of the colours, "bgr" or "rgb", in which the pipeline loads images; that of
            MMSegmentation loads "bgr".

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
        """Build the segmentor, and keep how to refine."""
        check_boolean("is_prob", is_prob)
        check_choice("loaded", loaded, ("bgr", "rgb"))
        options = dict(refine or {})
        for name in ("feats", "attention", "image", "windows", "size"):
            if name in options:
                raise InputError.of(
                    "refine",
                    got=f"{name}=",
                    expected="how to refine, not what",
                    fix=f"Leave {name} out: the segmentor knows it, or affinity makes it.",
                )
        groups = None if query_idx is None else _groups(query_idx)
        super().__init__(*args, **kwargs)
        self.affinity = affinity
        self.refine_options = options
        self.query_groups = groups
        self.is_prob = is_prob
        self.loaded = loaded

    def whole_inference(
        self, inputs: Float[Tensor, "B 3 H W"], batch_img_metas: list[dict[str, Any]]
    ) -> Float[Tensor, "B C H W"]:
        """Refine what the segmentor sees in whole images."""
        boxes = _valid_boxes(inputs, batch_img_metas)
        logits = super().whole_inference(inputs, batch_img_metas)  # type: ignore[misc]
        check_tensors(seg_logits=(logits, "B C H W"), inputs=(inputs, "B 3 H W"))
        refined = []
        for seen, item, box in zip(inputs.split(1), logits.split(1), boxes, strict=True):
            image = self._image(_cut(seen, box))
            scores = self._probabilities(_cut(item, box))
            scores = self._refined(scores, self._affinity(image), image)
            refined.append(_padded(scores, box, seen))
        return _returned(torch.cat(refined), logits.shape[1])

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
            image = _padded(image - mean, box, seen) + mean
            found = self._affinity(windows.split(image))
            parts = []
            for crop in windows.split(seen).split(1):
                # A torch.Size here is how a decode head knows the size of a window.
                meta = metas[number] | {"img_shape": crop.shape[2:]}
                part: Tensor = self.encode_decode(crop, [meta])  # type: ignore[attr-defined]
                # Each at once on the grid of the feats: all windows' pixels would fill the memory.
                parts.append(_on_feats(self._probabilities(part), found.get("feats")))
            refined.append(self._refined(torch.cat(parts), found, image, windows=windows))
        return _returned(torch.cat(refined), part.shape[1])

    def _image(self, inputs: Tensor) -> Tensor:
        return input_image(inputs, self.data_preprocessor, loaded=self.loaded)  # type: ignore[attr-defined]

    def _affinity(self, images: Tensor) -> dict[str, Any]:
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
                expected="a tensor of feats, or an object that has either",
                fix="Pass a backbone that provides them, such as one for DINO.",
            )
        return kept

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of classes, at least two of them."""
        one = logits.shape[1] == 1
        if not self.is_prob:
            logits = logits.sigmoid() if one else logits.softmax(1)
        return torch.cat([1 - logits, logits], 1) if one else logits

    def _refined(
        self, probabilities: Tensor, found: dict[str, Any], image: Tensor, **windows: Any
    ) -> Tensor:
        logits = _on_feats(probabilities, found.get("feats"))
        scores = refine(logits, image=image, **found, **windows, **self.refine_options)
        return scores if self.query_groups is None else merge_classes(scores, self.query_groups)


def input_image(
    inputs: Float[Tensor, "B 3 H W"], data_preprocessor: Any, *, loaded: str = "bgr"
) -> Float[Tensor, "B 3 H W"]:
    """Undo what a `SegDataPreProcessor` does to colours: normalisation, and the order of channels.

    Its `bgr_to_rgb` and `rgb_to_bgr` both reverse the channels, and nothing tells them apart; so
    the order in which the pipeline loads decides.

    Args:
        inputs: (B, 3, H, W) what the segmentor is given.
        data_preprocessor: the segmentor's own, with `mean` and `std` on the scale of 0 to 255.
        loaded: "bgr" or "rgb".

    Returns:
        (B, 3, H, W) RGB in [0, 1], in float32.

    Raises:
        InputError: another kind of preprocessor, or inputs that it cannot have made.

    >>> from types import SimpleNamespace
    >>> preprocessor = SimpleNamespace(
    ...     mean=torch.tensor([51.0, 102.0, 153.0]), std=torch.ones(3), channel_conversion=True)
    >>> input_image(torch.zeros(1, 3, 1, 1), preprocessor).flatten()
    tensor([0.2000, 0.4000, 0.6000])
    """
    check_choice("loaded", loaded, ("bgr", "rgb"))
    reversed_ = getattr(data_preprocessor, "channel_conversion", None)
    if not isinstance(reversed_, bool):
        raise InputError.of(
            "data_preprocessor",
            got=type(data_preprocessor).__name__,
            expected="a SegDataPreProcessor, which says how it normalises",
            fix="Build the segmentor with data_preprocessor=dict(type='SegDataPreProcessor', ...).",
        )
    mean = getattr(data_preprocessor, "mean", torch.zeros(3))  # neither is there where neither is
    std = getattr(data_preprocessor, "std", torch.ones(3))  # used
    image = denormalized("inputs", inputs, mean / 255, std / 255)
    return image.flip(1) if (loaded == "bgr") != reversed_ else image


def _windows(segmentor: Any, size: tuple[int, int]) -> SlidingWindows:
    crop, stride = tuple(segmentor.test_cfg.crop_size), tuple(segmentor.test_cfg.stride)
    if len(set(crop)) != 1 or len(set(stride)) != 1:
        raise InputError.of(
            "test_cfg",
            got=f"crop_size {crop} and stride {stride}",
            expected="square windows and one stride",
            fix="Change test_cfg, or use mode 'whole'.",
        )
    return SlidingWindows(size, window=crop[0], stride=stride[0])


def _valid_boxes(
    inputs: Tensor, metas: Sequence[Mapping[str, Any]]
) -> list[tuple[int, int, int, int]]:
    """Return y1, y2, x1, x2 of each image without its padding."""
    height, width = inputs.shape[-2:]
    if len(metas) != len(inputs):
        raise InputError.of(
            "batch_img_metas",
            got=f"{len(metas)}",
            expected=f"{len(inputs)}, one for each image",
            fix="Pass the data samples of this very batch.",
        )
    boxes = []
    for number, meta in enumerate(metas):
        if "ori_shape" not in meta:
            raise InputError.of(
                f"data_samples[{number}].metainfo",
                got=f"{sorted(meta)}",
                expected="'ori_shape' among them",
                fix="End the pipeline with PackSegInputs, or pass data_samples=None.",
            )
        padding = tuple(meta.get("img_padding_size", meta.get("padding_size", (0, 0, 0, 0))))
        left, right, top, bottom = padding if len(padding) == 4 else (-1,) * 4
        if min(left, right, top, bottom, width - left - right - 1, height - top - bottom - 1) < 0:
            raise InputError.of(
                f"data_samples[{number}].metainfo",
                got=f"padding {padding} of {height} x {width} pixels",
                expected="left, right, top and bottom, which leave some",
                fix="Pass the data samples that the preprocessor returned with these inputs.",
            )
        boxes.append((top, height - bottom, left, width - right))
    return boxes


def _cut(x: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    y1, y2, x1, x2 = box
    return x[..., y1:y2, x1:x2]


def _padded(x: Tensor, box: tuple[int, int, int, int], like: Tensor) -> Tensor:
    """Put zeros where padding was cut off."""
    y1, y2, x1, x2 = box
    return F.pad(x, (x1, like.shape[-1] - x2, y1, like.shape[-2] - y2))


def _returned(scores: Tensor, channels: int) -> Tensor:
    """Bring two classes back to the one channel that the segmentor has."""
    if channels > 1:
        return scores
    logs = scores.clamp(min=torch.finfo(scores.dtype).tiny).log()
    return logs[:, 1:] - logs[:, :1]


def _on_feats(logits: Tensor, feats: Tensor | None) -> Tensor:
    return logits if feats is None else on_grid(logits, (feats.shape[-2], feats.shape[-1]))


def _groups(query_idx: Sequence[int]) -> list[list[int]]:
    """List the queries of each class."""
    classes = [check_integer(f"query_idx[{i}]", one, low=0) for i, one in enumerate(query_idx)]
    groups = [
        [i for i, one in enumerate(classes) if one == c] for c in range(max(classes, default=0) + 1)
    ]
    for number, group in enumerate(groups):
        if not group:
            raise InputError.of(
                "query_idx",
                got=f"no query of class {number}",
                expected="one or more of each class",
                fix="Number the classes from 0, without gaps.",
            )
    return groups
