"""Convert what users pass to tensors: arrays, PIL images, items without a batch axis.

Grids and images come out row by row in memory, since PyTorch rounds otherwise for other strides.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError, warn
from lpprop._core.label_maps import refuse_masked
from lpprop._core.precision import move_to
from lpprop._core.tensors import check_kind, densify, resolve

__all__ = ["as_attention", "as_grid", "as_image", "as_maps", "as_tensor", "only_item"]


# The field of EXIF that says how a camera was held.
_ORIENTATION = 0x0112


def as_grid(name: str, array: object) -> Tensor:
    """Return (B, X, h, w) from a torch or NumPy array with or without B; dtype and device stay."""
    tensor = as_tensor(name, array).contiguous()
    return tensor[None] if tensor.ndim == 3 else tensor


def as_attention(array: object) -> Tensor:
    """Return (B, N, N) or (B, heads, N, N) from an array with or without B."""
    tensor = as_tensor("attention", array)
    return tensor[None] if tensor.ndim == 2 else tensor


def as_maps(name: str, array: object) -> Tensor:
    """Return (B, H, W) from an array (H, W), (B, H, W) or (B, 1, H, W)."""
    tensor = as_tensor(name, array).contiguous()
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        return tensor[:, 0]
    return tensor[None] if tensor.ndim == 2 else tensor


def as_image(image: object, like: Tensor) -> Tensor:
    """Return (B, 3, H, W) floats in [0, 1] from an array or a PIL image.

    Arrays and PIL images go to the device of `like`. Integers other than uint8 are refused, since
    their range is unknown.
    """
    trusted = isinstance(image, Tensor)
    if hasattr(image, "convert") and hasattr(image, "mode"):  # a PIL image, without importing PIL
        image, trusted = _read_pil(image), True
    tensor = as_tensor("image", image)
    if not isinstance(image, Tensor):
        tensor = move_to(like.device, tensor)
    tensor = _move_channels_first(tensor, trusted=trusted).contiguous()
    if tensor.dtype == torch.uint8:
        return tensor.to(torch.promote_types(like.dtype, torch.float32)) / 255
    if not tensor.is_floating_point():
        raise InputError.of(
            "image",
            got=f"dtype {tensor.dtype}",
            expected="uint8, or floats in [0, 1]",
            fix="Convert it: uint8 for 0-255, or divide by its largest possible value.",
        )
    return tensor


def only_item(maps: Any) -> Any:
    """Return the map (H, W) of a batch of one, in an array, a tensor or a list; all else as is."""
    if isinstance(maps, (list, tuple)):
        return maps[0] if len(maps) == 1 and getattr(maps[0], "ndim", 0) == 2 else maps
    return maps[0] if getattr(maps, "ndim", 0) == 3 and len(maps) == 1 else maps


def _read_pil(image: Any) -> NDArray[np.uint8]:
    if image.mode.startswith(("I", "F")):
        raise InputError.of(
            "image",
            got=f"a PIL image of mode {image.mode!r}",
            expected="8 bits per channel",
            fix="Scale it to 0-255 and convert it to mode 'RGB'.",
        )
    orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        warn(
            "orientation",
            f"image: got a PIL image whose EXIF orientation is {orientation}; its pixels are taken "
            "as they are stored, to which arrays and labels usually belong. To take it upright, "
            "pass PIL.ImageOps.exif_transpose(image).",
        )
    # Channels come first, so that the shape of an image three pixels wide is not ambiguous.
    pixels: NDArray[np.uint8] = np.array(image.convert("RGB"))
    return np.moveaxis(pixels[None], -1, 1)


def as_tensor(name: str, array: object) -> Tensor:
    """Return a plain tensor of what an array holds; dtype and device stay.

    Raises:
        InputError: no array, or one that torch cannot hold or compute with.
    """
    if isinstance(array, Tensor):
        tensor: Tensor = resolve(densify(array))
        check_kind(name, tensor)
        return tensor
    if not isinstance(array, np.ndarray):
        raise InputError.of(
            name,
            got=type(array).__name__,
            expected="a torch.Tensor or a NumPy array",
            fix=_advise(name, array),
        )
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise InputError.of(
            name,
            got=f"dtype {array.dtype}",
            expected="a dtype that torch has",
            fix="Convert it with .astype.",
        )
    refuse_masked(name, array)
    # A copy, since torch reads neither foreign byte order nor negative strides, and since a write
    # to the tensor must not change the user's array.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


def _advise(name: str, array: object) -> str:
    """Say how to make an array of what came instead."""
    if isinstance(array, (str, os.PathLike)):
        opened = "PIL.Image.open" if name == "image" else "numpy.load"
        return f"That looks like a file: open it with {opened}."
    return "Convert it with numpy.asarray or torch.as_tensor."


def _move_channels_first(image: Tensor, *, trusted: bool) -> Tensor:
    """Return (B, 3, H, W) from (3, H, W), (H, W, 3) or a batch of either.

    An image three pixels wide can be read both ways. If it is `trusted`, its channels are taken to
    come first, as everywhere in torch; otherwise it is refused.
    """
    shape = tuple(image.shape)
    if image.ndim in (3, 4):
        first, last = shape[-3] == 3, shape[-1] == 3
        if first and (trusted or not last):
            return image if image.ndim == 4 else image[None]
        if last and not first:
            return (image if image.ndim == 4 else image[None]).movedim(-1, 1)
        if first and last:
            raise InputError.of(
                "image",
                got=f"an array of shape {shape}, which can be read both ways",
                expected="channels first or last, not both of size 3",
                fix="Pass a torch tensor (B, 3, H, W).",
            )
    raise InputError.of(
        "image",
        got=f"shape {shape}",
        expected="(3, H, W) or (H, W, 3), or a batch of them",
        fix="Give it three colour channels: repeat a grey one, drop alpha.",
    )
