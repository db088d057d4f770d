"""`lpprop.video.refine`: scores of a clip's frames, each refined together with those around it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, TypedDict

from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop.compose.chain import Chain
from lpprop.compose.pipeline import as_chain, split_options
from lpprop.compose.request import Request
from lpprop.inputs.windows import SlidingWindows
from lpprop.video.joint import Frame, check_method, refine_joined

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    ArrayLike = Tensor | np.ndarray[Any, Any]

__all__ = ["check_window", "naming", "pair", "prepare_frames", "refine", "slide"]

_ENDED = object()


class _Result(TypedDict):
    size: tuple[int, int] | None
    span: tuple[int, int] | None
    background: float | None


def refine(
    frames: Iterable[ArrayLike | Image],
    logits: Iterable[ArrayLike],
    feats: Iterable[ArrayLike | None],
    *,
    window: int = 3,
    times: Iterable[float] | None = None,
    method: str | Callable[..., Tensor] = "auto",
    windows: SlidingWindows | None = None,
    size: tuple[int, int] | None = None,
    span: tuple[int, int] | None = None,
    background: float | None = None,
    **others: Any,
) -> Iterator[Tensor]:
    """Refine the frames of a clip, each together with its neighbours in time.

        for scores in lpprop.video.refine(frames, logits, feats, window=3):
            labels = scores.argmax(1)

    The patch step of LPOSS gets one graph over the patches of `window` frames, the one to refine in
    their middle, so that labels do not flicker:

        P_ij = exp(-sigma d_ij^q - sigma_time |t_i - t_j|)

    All further steps, such as those on pixels, see that one frame. At the ends of the clip the
    frames that are missing are left out. `window=1` is `lpprop.refine`, frame by frame.

    Results come as soon as the frames after them are there, one for each frame in order. Never more
    than `window` frames are held, so that a clip may be of any length.

    The neighbours that a patch may have, `k`, are counted per frame: the graph over T frames
    gives each patch T k of them, in whichever frames they are.

    Args:
        frames: the images in order, each as `lpprop.refine` takes one; any iterable, such as a
            generator.
        logits: (C, h, w) scores of each frame, larger = likelier; with windows (n, C, h, w).
        feats: (D, h', w') affinity features of each frame, likewise; None for a method without.
        window: T, how many frames the graph joins, an odd number.
        times: when each frame was seen, in the unit of `sigma_time`, never falling; the frames'
            numbers if None.
        method: as `lpprop.refine` takes it; where frames are joined, it begins with patch
            propagation.
        windows: the `SlidingWindows` that cut each frame.
        size: (H, W) of the results; that of the frames if None.
        span: as `lpprop.refine` takes it.
        background: as `lpprop.refine` takes it.
        others: options of the method, such as `sigma_time=0.5`, and inputs that hold for every
            frame, such as `regions="slic"`.

    Returns:
        An iterator of scores (1, C, H, W), or with a background of probabilities (1, C + 1, H, W).

    Raises:
        InputError: at once for options that cannot be used; while iterating for a frame that
            cannot be used, with its number, or if one of the iterables ends before the others.

    >>> import torch
    >>> frames, logits = torch.rand(4, 3, 64, 64), torch.rand(4, 5, 8, 8)
    >>> refined = refine(frames, logits, torch.rand(4, 16, 8, 8), method="lposs", k=9, patch_size=8)
    >>> [tuple(scores.shape) for scores in refined]
    [(1, 5, 64, 64), (1, 5, 64, 64), (1, 5, 64, 64), (1, 5, 64, 64)]
    """
    window = check_window(window)
    if windows is not None and not isinstance(windows, SlidingWindows):
        raise InputError.of(
            "windows",
            got=type(windows).__name__,
            expected="one lpprop.SlidingWindows for all frames",
            fix="Make them with SlidingWindows((H, W), window, stride).",
        )
    inputs, options = split_options(others, method)
    chain = as_chain(method, windowed=windows is not None, **options)
    if window > 1:
        check_method(chain)
    keywords: _Result = {"size": size, "span": span, "background": background}
    series = {"frames": frames, "logits": logits, "feats": feats}
    steps = pair({**series, "times": count() if times is None else times})

    def requests() -> Iterator[tuple[float, Request]]:
        for number, (frame, scores, own, time) in enumerate(steps):
            given = {"feats": own, "image": frame, "windows": windows, **inputs}
            with naming(number):
                yield time, Request.of(scores, given, **keywords)

    return slide(prepare_frames(requests(), chain), window, refine_joined)


def check_window(window: object) -> int:
    """Return a number of frames that has a middle."""
    checked = check_integer("window", window)
    if checked % 2 == 0:
        raise InputError.of(
            "window",
            got=str(checked),
            expected="an odd number of frames, as many before the middle one as after it",
            fix=f"Pass {checked - 1} or {checked + 1}.",
        )
    return checked


def prepare_frames(requests: Iterable[tuple[float, Request]], chain: Chain) -> Iterator[Frame]:
    """Fit a chain to each frame, and refuse one that no graph could join with the first.

    Raises:
        InputError: a frame of another size, grid, number of classes or of channels, dtype or
            device than the first, or a time that is not after the one before.
    """
    before, first = -math.inf, None
    for number, (time, request) in enumerate(requests):
        with naming(number):
            if not before < time < math.inf:
                raise InputError.of(
                    "times",
                    got=f"{time!r} after {before!r}",
                    expected="rising numbers",
                    fix="Leave out frames that are there twice, or pass times=None.",
                )
            frame = Frame.of(float(time), request, chain)
            described = _describe(frame)
            first = described if first is None else first
            for name, got in described.items():
                if got != first[name]:
                    raise InputError.of(
                        name,
                        got=str(got),
                        expected=f"{first[name]}, as in the first frame",
                        fix="Give all frames one size and one list of classes, or start anew "
                        "where they change.",
                    )
        before = time
        yield frame


def slide(
    frames: Iterable[Any], window: int, work: Callable[[Sequence[Any], int], Any]
) -> Iterator[Any]:
    """Call `work(neighbours, place)` for each frame, with those within half a window of it.

    Never more than `window` frames are held. At the ends there are fewer neighbours.

    >>> list(slide("abcd", 3, lambda near, place: (near, place)))
    [(['a', 'b'], 0), (['a', 'b', 'c'], 1), (['b', 'c', 'd'], 1), (['c', 'd'], 1)]
    """
    reach, place = window // 2, 0  # of the next frame in what is held
    held: list[Any] = []

    def step() -> Any:
        nonlocal place
        result = work(held[: place + reach + 1], place)
        if place == reach:
            del held[0]
        else:
            place += 1
        return result

    for frame in frames:
        held.append(frame)
        del frame  # so that nothing but the window holds it
        if len(held) > place + reach:
            yield step()
    while place < len(held):
        yield step()


@contextmanager
def naming(number: int) -> Iterator[None]:
    """Say which frame an error is about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"frame {number}: {error}") from None


def pair(series: dict[str, Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    """Take an item of each at a time, the frames first; refuse one that ends before another."""
    for name, items in series.items():
        if not isinstance(items, Iterable):
            raise InputError.of(
                name,
                got=type(items).__name__,
                expected="an iterable with an item per frame",
                fix="Pass a list, an array whose first axis is that of the frames, or a generator.",
            )
    iterators = {name: iter(items) for name, items in series.items()}

    def steps() -> Iterator[tuple[Any, ...]]:
        for number in count():
            items = {name: next(iterator, _ENDED) for name, iterator in iterators.items()}
            # A count of frames never ends.
            ended = [
                name for name, item in items.items()
                if item is _ENDED or isinstance(iterators[name], count)
            ]  # fmt: skip
            if len(ended) == len(items):
                return
            for name, item in items.items():
                if item is _ENDED:
                    raise InputError.of(
                        name,
                        got=f"{number} items",
                        expected="as many as the others have, one per frame",
                        fix="Make one for each frame, in the same order.",
                    )
            yield tuple(items.values())

    return steps()


def _describe(frame: Frame) -> dict[str, Any]:
    """Return what frames of one graph have alike, by the argument that it comes from."""
    request, kept = frame.prepared.request, frame.prepared.request.kept
    feats = request.inputs.get("feats")
    seen = None if feats is None else f"{tuple(feats.shape)} in {feats.dtype} on {feats.device}"
    return {
        "frames": f"{request.pixels[0]} x {request.pixels[1]} pixels",
        "feats": seen,
        "logits": f"{tuple(frame.scores.shape)} in {frame.scores.dtype} on {frame.scores.device}"
        + ("" if kept is None else f", of the classes {kept.nonzero().flatten().tolist()} alone"),
    }
