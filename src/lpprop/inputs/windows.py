"""Sliding windows over one image: cut the image, and merge the scores of the windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lpprop._core.checks import check_axes, check_finite, check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer, check_size
from lpprop._core.precision import compute_dtype
from lpprop._core.scans import pass_on

__all__ = ["SlidingWindows", "window_corners"]

# More are a mistake, such as a stride of 1: no memory holds one graph over so many windows.
_MOST_WINDOWS = 100_000


@dataclass(frozen=True)
class SlidingWindows:
    """Windows of one size that cover an image; the last of a row or column is shifted back inside.

    A column has max(H - window + stride - 1, 0) // stride + 1 windows, as in MMSegmentation's
    slide inference. A side of the image that is shorter than the window is spanned by one window.

    Args:
        image_size: (H, W) in pixels.
        window: side of the square windows in pixels; the papers use 224, or 448.
        stride: step between windows in pixels, at most `window` so that no pixel is missed.

    Raises:
        InputError: a size, window or stride that is not a positive integer, or stride > window.

    >>> windows = SlidingWindows((448, 597), window=224, stride=112)
    >>> len(windows), windows.boxes[-1]
    (15, tensor([224, 448, 373, 597]))
    >>> crops = windows.split(torch.rand(1, 3, 448, 597))
    >>> crops.shape
    torch.Size([15, 3, 224, 224])
    >>> windows.merge(torch.rand(15, 21, 14, 14)).shape
    torch.Size([1, 21, 448, 597])
    """

    image_size: tuple[int, int]
    window: int = 224
    stride: int = 112

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "image_size", check_size("image_size", self.image_size))
        object.__setattr__(self, "window", check_integer("window", self.window))
        object.__setattr__(self, "stride", check_integer("stride", self.stride))
        if self.stride > self.window:
            raise InputError.of(
                "stride",
                got=str(self.stride),
                expected=f"at most window = {self.window}",
                fix="A larger stride leaves pixels that no window covers.",
            )
        if self._count(0) * self._count(1) > _MOST_WINDOWS:
            raise InputError.of(
                "stride",
                got=f"{self.stride}, which makes {self._count(0) * self._count(1)} windows",
                expected=f"at most {_MOST_WINDOWS} windows",
                fix="Take a larger stride, or a smaller image.",
            )

    def __len__(self) -> int:
        """Return the number n of windows."""
        return len(self.boxes)

    @property
    def crop_size(self) -> tuple[int, int]:
        """Size of every window in pixels: (window, window), or the image's side if smaller."""
        height, width = self.image_size
        return min(self.window, height), min(self.window, width)

    @cached_property
    def boxes(self) -> Int[Tensor, "n 4"]:
        """Windows as rows y1, y2, x1, x2 (ends excluded), row by row."""
        (height, width), (crop_h, crop_w) = self.image_size, self.crop_size
        boxes = [
            (y, y + crop_h, x, x + crop_w)
            for y in self._list_starts(0, height - crop_h)
            for x in self._list_starts(1, width - crop_w)
        ]
        return torch.tensor(boxes)

    def _count(self, axis: int) -> int:
        return max(self.image_size[axis] - self.window + self.stride - 1, 0) // self.stride + 1

    def _list_starts(self, axis: int, last: int) -> list[int]:
        return [min(i * self.stride, last) for i in range(self._count(axis))]

    def split(self, image: Float[Tensor, "1 F H W"]) -> Float[Tensor, "n F y x"]:
        """Cut the windows out of an image of `image_size` with any number of channels."""
        sizes = check_axes(image=(image, "1 F H W"))
        check_finite("image", image)  # features need not be RGB in [0, 1]
        if (sizes["H"], sizes["W"]) != self.image_size:
            raise InputError.of(
                "image",
                got=f"{sizes['H']} x {sizes['W']} pixels",
                expected=f"{self.image_size[0]} x {self.image_size[1]}",
                fix="Make the SlidingWindows with this image's size.",
            )
        crops = torch.cat([image[..., y1:y2, x1:x2] for y1, y2, x1, x2 in self.boxes.tolist()])
        return pass_on(image, crops)

    def merge(self, scores: Float[Tensor, "n C h w"]) -> Float[Tensor, "1 C H W"]:
        """Upsample each window's scores bilinearly to its pixels, and average where they overlap.

        Args:
            scores: scores on any grid, one item per window in the order of `boxes`.

        Returns:
            Scores of the whole image in the dtype of `scores`.

        Raises:
            InputError: not one item of scores per window.
        """
        sizes = check_tensors(scores=(scores, "n C h w"))
        if sizes["n"] != len(self):
            raise InputError.of(
                "scores",
                got=f"{sizes['n']} items",
                expected=f"{len(self)}, one per window",
                fix="Pass the scores of all windows of this image, in the order of boxes.",
            )
        dtype = compute_dtype(scores)
        # Sums of large scores would overflow. A power of two, at least the number of windows over a
        # pixel, changes no digit.
        overlap = min(len(self), (-(-self.window // self.stride) + 1) ** 2)
        shrink = 2.0 ** (overlap - 1).bit_length()
        total = scores.new_zeros((1, sizes["C"], *self.image_size), dtype=dtype)
        count = scores.new_zeros(self.image_size, dtype=dtype)
        for item, (y1, y2, x1, x2) in zip(scores.split(1), self.boxes.tolist(), strict=True):
            item = item.to(dtype) / shrink
            pixels = F.interpolate(item, (y2 - y1, x2 - x1), mode="bilinear")
            total[..., y1:y2, x1:x2] += pixels
            count[y1:y2, x1:x2] += 1
        return pass_on(scores, (total / (count / shrink)).to(scores.dtype))  # their means


def window_corners(windows: SlidingWindows | Tensor | None, count: int) -> Tensor:
    """Return the (y1, x1) of each window, or of the whole image."""
    if windows is None:
        return torch.zeros(1, 2)
    boxes = windows.boxes if isinstance(windows, SlidingWindows) else windows
    if not isinstance(boxes, Tensor):
        raise InputError.of(
            "windows",
            got=type(boxes).__name__,
            expected="SlidingWindows or a tensor of boxes (n, 4)",
            fix="Convert boxes with torch.as_tensor.",
        )
    check_finite("windows", boxes)
    if tuple(boxes.shape) != (count, 4):
        raise InputError.of(
            "windows",
            got=f"boxes of shape {tuple(boxes.shape)}",
            expected=f"({count}, 4), one box per item of logits",
            fix="Pass the logits of all windows of one image, in the order of the boxes.",
        )
    if not bool(((boxes[:, 0] < boxes[:, 1]) & (boxes[:, 2] < boxes[:, 3])).all()):
        raise InputError.of(
            "windows",
            got="a box that ends before it begins",
            expected="rows y1, y2, x1, x2 with y1 < y2 and x1 < x2",
            fix="Check the order of the columns.",
        )
    return boxes[:, [0, 2]]
