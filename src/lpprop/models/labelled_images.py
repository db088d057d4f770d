"""Images with a class index per pixel, as references are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lpprop._core.convert import as_image
from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map

__all__ = ["read_labelled", "span_labels"]


def read_labelled(
    images: Iterable[Any], labels: Iterable[Any], classes: int, ignore_index: int
) -> Iterator[tuple[Float[Tensor, "1 3 H W"], Tensor]]:
    """Read images with their labels, pair after pair.

    Raises:
        InputError: what is no list, more of the ones than of the others, or a pair that cannot be
            used.

    >>> image, label = next(read_labelled([torch.rand(3, 2, 2)], [[[0, 1], [0, 1]]], 2, 255))
    >>> image.shape, label
    (torch.Size([1, 3, 2, 2]), tensor([[0, 1],
            [0, 1]]))
    """
    for name, given in (("images", images), ("labels", labels)):
        if not _is_iterable(given):
            raise InputError.of(
                name,
                got=type(given).__name__,
                expected="a list of them",
                fix="Pass [image] and [labels] for a single one.",
            )
    missing = object()
    for number, (image, label) in enumerate(zip_longest(images, labels, fillvalue=missing)):
        if image is missing or label is missing:
            fewer, more = ("images", "label maps")[:: 1 if image is missing else -1]
            raise InputError.of(
                "labels",
                got=f"{number} {fewer}, and more {more}",
                expected="a label map for each image",
                fix="Pass as many of the ones as of the others, in the same order.",
            )
        yield _read_pair(number, image, label, classes, ignore_index)


def _is_iterable(given: object) -> bool:
    try:
        iter(given)  # type: ignore[call-overload]
    except TypeError:
        return False
    return not isinstance(given, (str, bytes))


def _read_pair(
    number: int, image: Any, label: Any, classes: int, ignore_index: int
) -> tuple[Float[Tensor, "1 3 H W"], Tensor]:
    pixels = as_image(image, like=torch.empty(0))
    given = torch.as_tensor(as_label_map(f"labels[{number}]", label).astype("int64"))
    wrong = given[(given >= classes) & (given != ignore_index)]
    size = tuple(pixels.shape[-2:])
    if len(wrong) or len(pixels) != 1 or tuple(given.shape) != size:
        raise InputError.of(
            f"labels[{number}]",
            got=f"the label {int(wrong[0])}"
            if len(wrong)
            else f"shape {tuple(given.shape)} for {len(pixels)} images of {size}",
            expected=f"labels below {classes} (or {ignore_index}), one for each pixel of one image",
            fix="Check how labels and images were resized, and how the classes are numbered.",
        )
    return pixels.float(), given


def span_labels(labels: Tensor, size: tuple[int, int], span: tuple[int, int]) -> Tensor:
    """Bring labels to the pixels that the grid spans: what the model padded belongs to no class."""
    # Resized by nearest neighbour only where the grid spans more than the image, since areas are
    # exact on any grid.
    if span == size:
        return labels[None]
    nearest = F.interpolate(labels[None, None].double(), size, mode="nearest-exact").long()[0]
    return F.pad(nearest, (0, span[1] - size[1], 0, span[0] - size[0]), value=-1)
