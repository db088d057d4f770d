"""The one-liner: coarse scores in, sharp full-resolution scores out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lpprop._core.checks import check_image, check_size, check_tensors
from lpprop._core.convert import as_attention, as_grid, as_image
from lpprop._core.errors import InputError
from lpprop._core.precision import uncompiled
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.composite import steps_of
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import PatchPropagation, PixelPropagation, bilinear_upsample

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    ArrayLike = Tensor | np.ndarray[Any, Any]

__all__ = ["refine"]


@uncompiled
def refine(
    logits: ArrayLike | Sequence[ArrayLike],
    feats: ArrayLike | Sequence[ArrayLike] | None = None,
    image: ArrayLike | Image | None = None,
    *,
    attention: ArrayLike | None = None,
    method: str | Callable[..., Tensor] = "lposs+",
    windows: SlidingWindows | Sequence[SlidingWindows] | None = None,
    size: tuple[int, int] | None = None,
    pixel_feats: ArrayLike | None = None,
    **options: Any,
) -> Tensor:
    """Refine coarse segmentation scores to sharp ones at the image's size.

        scores = lpprop.refine(logits, feats, image)
        labels = scores.argmax(1)

    Arrays may be torch or NumPy; a single item may come without its batch axis. Logits on another
    grid than the feats are resized to it bilinearly.

    Distances between patches are in pixels of `image` (of the window, where there are windows).
    Where feats grid x patch_size misses that size by a patch or more, the distances are scaled by
    their ratio, with a warning; where height and width call for different ratios, the call is
    refused. If the backbone saw a smaller image than the one given, pass that smaller one as
    `image` and the large size as `size=`, so that sigma keeps its meaning.

    Args:
        logits: (B, C, h, w) or (C, h, w) scores, larger = likelier; with windows (n, C, h, w).
        feats: (B, D, h', w') or (D, h', w') affinity features, for the methods that need them.
        image: (B, 3, H, W), (B, H, W, 3), or one without B, float in [0, 1] or uint8; or a PIL
            image. With windows it is the one image that they cut.
        attention: (B, N, N) or (B, heads, N, N) attention maps, row i what patch i attends to, for
            the methods that need them; built from the feats if None. The N patches are those of
            the logits' grid, or of a finer or coarser grid of the same shape.
        method: a preset's name ("lposs+", "lposs", "max_velocity", "optimal_path", "kl",
            "fusion"; the baselines "bilinear", "joint_bilateral", "guided_filter", "pamr",
            "dense_crf"), a module of this package, or any callable
            `method(logits, *, feats, image, attention) -> scores`.
        windows: the `SlidingWindows` whose n crops the B = n items of logits and feats belong to.
            A list of them, with lists of logits and feats, averages the refined scores of several
            window sizes.
        size: (H, W) of the result; the image's size if None.
        pixel_feats: (B, F, H, W) features that replace Lab in the pixel step; the image is given
            all the same.
        options: options of the preset that `method` names, such as `k=200` or
            `backbone="dinov2"`.

    Returns:
        Scores (B, C, H, W) on the device and in the dtype of the logits; with windows B is 1.

    Raises:
        InputError: input that cannot be used, before any work: shapes that do not match, values
            that are not finite, an image outside [0, 1], a missing input, an unknown method or
            option.

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
    prepare = partial(
        _prepare, image=image, attention=attention, method=method, size=size,
        pixel_feats=pixel_feats, options=options,
    )  # fmt: skip
    if windows is None or isinstance(windows, SlidingWindows):
        return prepare(logits, feats, windows=windows)()
    settings = _window_settings(logits, feats, windows)
    steps = steps_of(_as_chain(method, options))
    if any(isinstance(step, PixelPropagation) and step.config["prune"] for step in steps):
        raise InputError.of(
            "prune",
            got="True, with a list of windows",
            expected="one setting of windows",
            fix="Leave it out: a class that one setting leaves out would lose in the average.",
        )
    # All are checked before the first is run.
    runs = [prepare(*arrays, windows=setting) for *arrays, setting in settings]
    return torch.stack([run() for run in runs]).mean(0)


def _prepare(
    logits: Any,
    feats: Any,
    *,
    image: Any,
    attention: Any,
    method: str | Callable[..., Tensor],
    windows: SlidingWindows | None,
    size: tuple[int, int] | None,
    pixel_feats: Any,
    options: dict[str, Any],
) -> Callable[[], Tensor]:
    """Convert and check everything; return the work itself, to be called."""
    scores = as_grid("logits", logits)
    inputs = {
        "feats": None if feats is None else as_grid("feats", feats),
        "image": None if image is None else as_image(image, like=scores),
        "attention": None if attention is None else as_attention(attention),
        "pixel_feats": None if pixel_feats is None else as_grid("pixel_feats", pixel_feats),
    }
    chain = _as_chain(method, options)
    target = _check(scores, inputs, windows, size)
    chain.check(scores, windows=windows, **inputs)
    chain = _fitted(chain, inputs, windows)

    def run() -> Tensor:
        refined = chain(scores, windows=windows, **inputs)
        if windows is not None and not chain.merges_windows:
            refined = windows.merge(refined)
        return refined if refined.shape[-2:] == target else bilinear_upsample(refined, target)

    return run


def _as_chain(method: str | Callable[..., Tensor], options: dict[str, Any]) -> Chain:
    if isinstance(method, str):
        return presets.by_name(method, **options)
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


def _check(
    logits: Tensor,
    inputs: dict[str, Tensor | None],
    windows: SlidingWindows | None,
    size: tuple[int, int] | None,
) -> tuple[int, int]:
    """Check everything against everything, and return the result's size."""
    pixels = "B" if windows is None else "1"
    axes = {
        "feats": "B D h' w'",
        "image": f"{pixels} 3 H W",
        "attention": "B heads N N" if _rank(inputs["attention"]) == 4 else "B N N",
        "pixel_feats": f"{pixels} F H W",
    }
    given = {name: (inputs[name], axes[name]) for name in axes if inputs[name] is not None}
    sizes = check_tensors(logits=(logits, "B C h w"), **given)
    if inputs["image"] is not None:
        check_image(inputs["image"])
    if windows is not None:
        _check_windows(sizes, windows)
    if size is not None:
        return check_size("size", size)
    if "H" in sizes:
        return sizes["H"], sizes["W"]
    if windows is not None:
        return windows.image_size
    raise InputError.of(
        "image",
        got="None, and no size",
        expected="an image, or the size of the result",
        fix="Pass image=, or size=(H, W).",
    )


def _rank(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.ndim


def _check_windows(sizes: dict[str, int], windows: SlidingWindows) -> None:
    if "H" in sizes and (sizes["H"], sizes["W"]) != windows.image_size:
        raise InputError.of(
            "windows",
            got=f"windows of a {windows.image_size[0]} x {windows.image_size[1]} image",
            expected=f"windows of this one, {sizes['H']} x {sizes['W']}",
            fix="Make the SlidingWindows with this image's size.",
        )
    if sizes["B"] != len(windows):
        raise InputError.of(
            "logits",
            got=f"{sizes['B']} items",
            expected=f"{len(windows)}, one a window",
            fix="Pass the logits of all windows of one image, in the order of windows.boxes.",
        )


def _fitted(
    chain: Chain, inputs: dict[str, Tensor | None], windows: SlidingWindows | None
) -> Chain:
    """Fit patch sizes to the image, and say so where that changes them."""
    feats, image = inputs["feats"], inputs["image"]
    if feats is None or (image is None and windows is None):
        return chain
    grid = (feats.shape[-2], feats.shape[-1])
    if windows is not None:
        pixels = windows.crop_size
    else:
        assert image is not None
        pixels = (image.shape[-2], image.shape[-1])
    fitted = chain.fitted(grid, pixels)
    for before, after in zip(_patch_sizes(chain), _patch_sizes(fitted), strict=True):
        if before != after:
            warnings.warn(
                f"the feats' grid of {grid[0]} x {grid[1]} patches of {before:g} pixels does not "
                f"span {pixels[0]} x {pixels[1]} pixels: distances are taken as if patches had "
                f"{after:.4g}. Pass patch_size={after:.4g} if that is right; if the backbone saw "
                "a resized image, pass that one as image and the full size as size=.",
                stacklevel=5,
            )
    return fitted


def _patch_sizes(chain: Chain) -> list[float]:
    return [step.patch_size for step in steps_of(chain) if isinstance(step, PatchPropagation)]


def _window_settings(logits: Any, feats: Any, windows: Any) -> list[tuple[Any, ...]]:
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
                expected=f"a list of {len(settings)}, one for each of windows",
                fix="Pass lists of equal length: logits=[small, large], feats=[...].",
            )
    return list(zip(logits, feats, settings, strict=True))
