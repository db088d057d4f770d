"""What several methods make of one start, as label maps that a page can lay over its picture."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from lpprop._core.errors import InputError, collect_warnings
from lpprop.app.models import Models
from lpprop.app.picture import Picture
from lpprop.app.starts import Start
from lpprop.viz.drawing import mark_borders
from lpprop.viz.palettes import named_colours

__all__ = ["MOST_METHODS", "Layer", "as_data_url", "check_methods", "draw_labels", "make_layers"]

#: How many methods a page shows side by side.
MOST_METHODS = 4

# The index of the line between classes, in the palette of the drawn labels.
_LINE = 255


class Layer(NamedTuple):
    """What one method made of a picture, or why it could not.

    Attributes:
        method: the method's name.
        names: a name per class; "none of these" comes last where there is a background.
        labels: (H, W) class indices; None where the method could not run.
        seconds: how long it took.
        said: what the method warned of, or why it could not run.
    """

    method: str
    names: list[str]
    labels: UInt8[Tensor, "H W"] | None
    seconds: float
    said: tuple[str, ...]

    @property
    def shares(self) -> list[float]:
        """The share of the pixels that each class has."""
        if self.labels is None:
            return []
        counts = torch.bincount(self.labels.flatten().long(), minlength=len(self.names))
        shares: list[float] = (counts / self.labels.numel()).tolist()
        return shares


def check_methods(methods: Sequence[str]) -> list[str]:
    """Return the methods, or refuse none or too many.

    Raises:
        InputError: none, or more than `MOST_METHODS`.
    """
    if not 0 < len(methods) <= MOST_METHODS:
        raise InputError.of(
            "methods",
            got=f"{len(methods)}" if methods else "none",
            expected=f"one to {MOST_METHODS}",
            fix="Choose fewer." if methods else "Choose one from the list.",
        )
    return list(dict.fromkeys(methods))


def make_layers(
    start: Start,
    picture: Picture,
    models: Models,
    methods: Sequence[str],
    options: Mapping[str, Mapping[str, Any]],
    background: float | None = None,
) -> list[Layer]:
    """Refine one start by several methods.

    Args:
        start: clicks, or classes in words.
        picture: the picture.
        models: the networks.
        methods: names in `lpprop.presets.METHODS`.
        options: the options that differ from the preset's, by method.
        background: the threshold below which a pixel is none of the classes.

    Returns:
        A layer per method. One that cannot run says so, if another can.

    Raises:
        InputError: a start that cannot be used, or no method that can run.
        ImportError: no method can run, for want of a package.
    """
    layers: list[Layer] = []
    refused: list[InputError | ImportError] = []
    names = start.names()
    for method in check_methods(methods):
        begin = time.perf_counter()
        with collect_warnings(shown=False) as said:
            try:
                found = start.refine(picture, models, method, options.get(method, {}), background)
            except (InputError, ImportError) as error:
                refused.append(error)
                layers.append(Layer(method, names, None, 0.0, (str(error),)))
                continue
        seconds = time.perf_counter() - begin
        labels = found.scores.argmax(0).to(torch.uint8)
        layers.append(Layer(method, found.names, labels, seconds, tuple(said)))
    if len(refused) == len(layers):
        raise refused[0]
    return layers


def draw_labels(labels: Tensor, names: Sequence[str]) -> Image.Image:
    """Paint labels in the classes' colours, with a white line between classes.

    >>> draw_labels(torch.tensor([[0, 0, 1]]), ["cat", "sofa"]).convert("RGB").getpixel((0, 0))
    (0, 114, 178)
    """
    drawn = labels.cpu().numpy().astype(np.uint8)
    drawn[mark_borders(drawn)] = _LINE
    image = Image.fromarray(drawn)
    palette = np.full((256, 3), 255, dtype=np.uint8)
    palette[: len(names)] = named_colours("default", names)
    image.putpalette(palette.tobytes())
    return image


def as_data_url(image: Image.Image, kind: str = "PNG") -> str:
    """Return an image as a URL that holds it, so that the server keeps no file.

    >>> as_data_url(Image.new("RGB", (1, 1)))[:22]
    'data:image/png;base64,'
    """
    file = io.BytesIO()
    image.save(file, kind, quality=88)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
