"""The one-liner: coarse scores in, sharp full-resolution scores out."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.precision import uncompiled
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.composite import steps_of
from lpprop.compose.request import NAMED, Request
from lpprop.inputs.proposals import Proposal
from lpprop.inputs.table import INPUTS
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import PixelPropagation

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    ArrayLike = Tensor | np.ndarray[Any, Any]

__all__ = ["as_chain", "refine", "split_options"]


@uncompiled
def refine(
    logits: ArrayLike | Sequence[ArrayLike],
    feats: ArrayLike | Sequence[ArrayLike] | None = None,
    image: ArrayLike | Image | None = None,
    *,
    attention: ArrayLike | None = None,
    method: str | Callable[..., Tensor] = "auto",
    windows: SlidingWindows | Sequence[SlidingWindows] | None = None,
    size: tuple[int, int] | None = None,
    span: tuple[int, int] | None = None,
    background: float | None = None,
    **others: Any,
) -> Tensor:
    """Refine coarse segmentation scores to sharp ones at the image's size.

        scores = lpprop.refine(logits, feats, image)
        labels = scores.argmax(1)

    Arrays may be torch or NumPy; a single item may lack its batch axis. Logits on another grid than
    the feats are resized to it bilinearly.

    Distances between patches are in pixels of `image`, or of the window if there are windows. If
    feats grid x patch_size misses that size by a patch or more, the distances are scaled by their
    ratio, with a warning; if height and width need different ratios, the call is refused. If the
    backbone saw a smaller image than the one to label, pass the smaller one as `image` and the
    large size as `size=`, so that sigma keeps its meaning. If it saw the image padded or cropped
    at the bottom and right, pass the size that it saw as `span=`.

    The default method is label propagation over patches and pixels. On a single image its settings
    follow from the image; with windows they are LPOSS+'s published ones, which are made for them.
    By name, `method="lposs+"` has the published ones on a single image too, where its k = 400 is
    often more than a quarter of the patches, which blurs the scores; a warning says so.

    A class that is -inf everywhere is left out, and comes back as -inf.

    Args:
        logits: (B, C, h, w) or (C, h, w) scores, larger = likelier; with windows (n, C, h, w).
        feats: (B, D, h', w') or (D, h', w') affinity features, for the methods that need them.
        image: (B, 3, H, W), (B, H, W, 3), or either without B, float in [0, 1] or uint8; or a PIL
            image. With windows it is the one image that they cut.
        attention: (B, N, N) or (B, heads, N, N) attention maps, for the methods that need them; row
            i says what patch i attends to. They are built from the feats if None. The N patches are
            those of the logits' grid, or of a finer or coarser grid of the same aspect ratio.
        method: a preset of `lpprop.presets`, or its name:
            {methods};
            "auto" is "lposs+" where there are windows;
            a module of this package; or any callable whose first argument is the scores and whose
            keywords name the inputs that it takes.
        windows: the `SlidingWindows` that cut the image; item i of logits and feats is crop i's.
            A list of them, with lists of logits and feats, averages the refined scores of several
            window sizes.
        size: (H, W) of the result; the image's size if None.
        span: (H, W) of the pixels that the grids of logits, feats and attention cover, from the
            image's top left corner; the image's size if None. If it is larger, as if the image was
            padded to whole patches, the image's last row and column are repeated up to it; if it is
            smaller, the scores' last ones are.
        background: in [0, 1], a threshold below which a pixel is none of the classes; the result
            then has a last channel for it. For that, refined scores become probabilities: those of
            an image of which none is negative are divided by their sum over the classes, others go
            through a softmax. `lpprop.add_background` has the rule, and how `saliency=` joins it.
        others: further inputs that the method takes, by name: {inputs}. Regions are integers
            (B, H, W) or (H, W), negative = in no region; masks (M, H, W) of one image, bool or in
            [0, 1], or a list of such; a proposer, a function of the image, or of the image and the
            `scores` of the step that asks; or its name, "slic" or "felzenszwalb". An input that
            only a step of your own names, such as `depth=`, is passed to it unchanged. With a
            preset also its options, such as `k=200` or `feats_from="dinov2"`.

    Returns:
        Scores (B, C, H, W) on the device and in the dtype of the logits; with windows B is 1. With
        a background, probabilities (B, C + 1, H, W), the background last.

    Raises:
        InputError: input that cannot be used, before any work: shapes that do not match, values
            that are not finite, an image outside [0, 1], a missing input, one that no step takes,
            an unknown method or option; a grid that is made of tokens, or has its axes in another
            order.

    Warns:
        InputWarning: input that is probably not what was meant: patches that are not square in the
            image, or do not span it; one class; features that are the same everywhere; scores so
            close that their softmax is flat; k of more than a quarter of the patches; a background
            that takes every pixel, or that none can be; regions of pixels for scores of patches.

    >>> import torch
    >>> logits, feats = torch.rand(2, 5, 6, 6), torch.rand(2, 64, 6, 6)
    >>> image = torch.rand(2, 3, 96, 96)
    >>> refine(logits, feats, image).shape
    torch.Size([2, 5, 96, 96])
    >>> refine(logits, feats, image, method="lposs", k=20, size=(48, 48)).shape
    torch.Size([2, 5, 48, 48])
    >>> attention = torch.rand(2, 8, 36, 36).softmax(-1)
    >>> refine(logits, attention=attention, image=image, method="max_velocity").shape
    torch.Size([2, 5, 96, 96])
    """
    extra, options = split_options(others, method)
    chain = as_chain(method, windowed=windows is not None, **options)
    given = {"image": image, "attention": attention, **extra}
    if windows is None or isinstance(windows, SlidingWindows):
        inputs = {"feats": feats, "windows": windows, **given}
        request = Request.of(logits, inputs, size=size, span=span, background=background)
        return request.finish(request.prepare(chain).run())
    settings = _pair_settings(logits, feats, windows)
    if isinstance(given.get("regions"), str) or callable(given.get("regions")):
        given["regions"] = Proposal.of(given["regions"])  # which asks once for all settings
    if any(isinstance(x, PixelPropagation) and x.config["prune"] for x in steps_of(chain)):
        raise InputError.of(
            "prune",
            got="True, with a list of windows",
            expected="one setting of windows",
            fix="Remove prune: a class that one setting leaves out would lose in the average.",
        )
    # All settings are checked before the first one runs.
    requests = [
        Request.of(
            scores, {"feats": own, "windows": setting, **given},
            size=size, span=span, background=background,
        )
        for scores, own, setting in settings
    ]  # fmt: skip
    runs = [request.prepare(chain) for request in requests]
    # Divided first, since the sum of scores that fit into their dtype may not.
    average = torch.stack([prepared.run() / len(runs) for prepared in runs]).sum(0)
    return requests[0].finish(average)


refine.__doc__ = str(refine.__doc__).format(
    methods="\n            ".join(
        textwrap.wrap(", ".join(f'"{name}"' for name in presets.METHODS), 80)
    ),
    inputs=", ".join(f"`{name}`" for name in INPUTS if name not in NAMED),
)


def as_chain(
    method: str | Callable[..., Tensor], *, windowed: bool = False, **options: Any
) -> Chain:
    """Return the chain that a preset, its name, a module or a callable stands for.

    Args:
        method: as `lpprop.refine` takes it.
        windowed: whether windows cut the image.
        options: options of the preset, if the method is one.

    Raises:
        InputError: an unknown name or option, options beside a method that is configured already,
            or an object that is no method.
    """
    if isinstance(method, (str, presets.Preset)):
        preset = presets.find(method)
        return presets.find((windowed and preset.windowed) or preset)(**options)
    if not callable(method):
        raise InputError.of(
            "method",
            got=repr(method),
            expected="a preset's name, a module or a callable",
            fix=f"Names are {', '.join(map(repr, presets.METHODS))}.",
        )
    if options:
        raise InputError.of(
            ", ".join(options),
            got="options beside a method that is configured already",
            expected="none",
            fix="Configure the module itself, or pass a preset's name as method.",
        )
    return method if isinstance(method, Chain) else Chain(method)


def split_options(
    others: Mapping[str, Any], method: str | Callable[..., Tensor]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Separate inputs from options: an input is in the table, or the method takes it."""
    if isinstance(method, (str, presets.Preset)):
        takes = presets.find(method).takes
        inputs = {name: x for name, x in others.items() if name in INPUTS or name in takes}
    else:
        inputs = dict(others)
    return inputs, {name: x for name, x in others.items() if name not in inputs}


def _pair_settings(logits: Any, feats: Any, windows: Any) -> list[tuple[Any, ...]]:
    """Pair the logits and feats of several window settings with their windows."""
    settings = list(windows) if isinstance(windows, Sequence) else []
    if not settings or not all(isinstance(setting, SlidingWindows) for setting in settings):
        raise InputError.of(
            "windows",
            got=repr(windows) if settings else type(windows).__name__,
            expected="SlidingWindows, or a list of them",
            fix="Make them with SlidingWindows((H, W), window, stride).",
        )
    feats = [None] * len(settings) if feats is None else feats
    for name, value in (("logits", logits), ("feats", feats)):
        listed = isinstance(value, (list, tuple))
        if not listed or len(value) != len(settings):
            raise InputError.of(
                name,
                got=f"a list of {len(value)}" if listed else type(value).__name__,
                expected=f"a list of {len(settings)}, one per entry of windows",
                fix="Pass lists of equal length: logits=[small, large], feats=[...].",
            )
    return list(zip(logits, feats, settings, strict=True))
