"""Run several methods on one image, and measure each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lpprop._core.errors import InputError, collect_warnings
from lpprop._core.label_maps import check_ignore_index
from lpprop._core.measure import count_runs, measure
from lpprop._core.options import check_integer
from lpprop._core.refiner import COMMON, unknown_input
from lpprop._core.scans import one_call
from lpprop.comparison.inputs import as_class_names, named_chains
from lpprop.comparison.result import Comparison
from lpprop.comparison.rows import Row
from lpprop.compose.chain import Chain
from lpprop.compose.pipeline import as_chain
from lpprop.compose.request import Prepared, Request
from lpprop.inputs.background import add_name, find_background, lacks_background
from lpprop.inputs.proposals import Proposal, cover_regions
from lpprop.inputs.table import INPUTS
from lpprop.inputs.windows import SlidingWindows
from lpprop.numerics.region_pooling import Masks, Partition

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from lpprop.viz.palettes import Palette

    ArrayLike = Tensor | npt.NDArray[Any]
    Labels = npt.NDArray[np.int64]
    Method = str | Callable[..., Tensor]

__all__ = ["compare"]


def compare(
    logits: ArrayLike,
    feats: ArrayLike | None = None,
    image: ArrayLike | Image | None = None,
    *,
    methods: Sequence[Method] | Mapping[str, Method] | None = None,
    attention: ArrayLike | None = None,
    gt: ArrayLike | Image | None = None,
    class_names: Sequence[str] | None = None,
    windows: SlidingWindows | None = None,
    size: tuple[int, int] | None = None,
    span: tuple[int, int] | None = None,
    background: float | None = None,
    ignore_index: int = 255,
    palette: Palette = "default",
    repeats: int = 3,
    **others: Any,
) -> Comparison:
    """Refine the scores of one image by several methods, and set them side by side.

        comparison = lpprop.compare(logits, feats, image, gt=gt, class_names=names)
        comparison                                       # in a notebook: table and figure
        comparison.figure(errors=True).save("figure.png")

    Args:
        logits: scores as `lpprop.refine` takes them, of one image; with windows those of its n
            windows.
        feats: affinity features, for the methods that need them.
        image: the image, for the methods that need it, and for the figure.
        methods: presets' names, modules or callables, as `lpprop.refine` takes them; a preset is
            called by its name and what differs from its defaults, such as "lposs(k=100)". Or a
            mapping from names of your own to them, such as `{"few": presets.lposs(k=100)}`. If
            None, those of `lpprop.presets.METHODS` that are meant for it, whose inputs are given
            and whose packages are installed.
        attention: attention maps, for the methods that take them; built from the feats if None.
        gt: (H, W) true labels, integers in [0, C) or `ignore_index`: an array, a tensor or a PIL
            image of class indices, of the result's size. The table says how many classes occur, and
            how many pixels are ignored. Gt is warned of in which every pixel has the same class, or
            in which class 0 alone counts beside ignored pixels (a mask of 0 and 255); if fewer than
            one pixel in a hundred counts; and if its labels look like those of the logits plus or
            minus one.
        class_names: a list of strings, one per class; their numbers if None.
        windows: the `SlidingWindows` that logits and feats belong to.
        size: (H, W) of the results; the image's size if None.
        span: (H, W) of the pixels that the grids cover, as `lpprop.refine` takes it.
        background: the threshold below which a pixel is none of the classes, as `lpprop.refine`
            takes it. Such pixels are misses of their true class; where a class is called
            "background", they are its own.
        ignore_index: marks pixels of `gt` that do not count.
        palette: the figure's colours: a name in `lpprop.viz.palettes`, or uint8 RGB (n, 3).
        repeats: how often each method is timed; the median counts. Two runs come before, to warm up
            and to measure the memory.
        others: further inputs, by name, as `lpprop.refine` takes them; a method is handed those
            that it takes.

    Returns:
        A `Comparison`: `rows`, `agreement`, `labels`, `.figure()`, `.to_markdown()`, `.to_csv()`.
        A method that lacks an input or an optional package, or runs out of memory, has a row that
        says so. A row's `warnings` hold what is doubtful about its input, those of the comparison
        what is doubtful for all rows; the tables show both, and Python's `warnings` see each once.

    Raises:
        InputError: input that cannot be used, several images, an unknown method, or no method that
            can run.
        ImportError: gt without OpenCV, which Boundary IoU needs.

    >>> import torch
    >>> logits, feats = torch.rand(5, 6, 6), torch.rand(64, 6, 6)
    >>> comparison = compare(logits, feats, torch.rand(3, 96, 96), methods=["lposs", "lposs+"])
    >>> [row.method for row in comparison.rows]
    ['lposs', 'lposs+']
    >>> comparison.labels["lposs+"].shape
    (96, 96)
    """
    # What only a call needs, so that to import the package stays quick.
    from lpprop.comparison.ground_truth import as_gt, warn_of_gt
    from lpprop.viz.palettes import colours

    inputs = {
        "feats": feats, "image": image, "attention": attention, "windows": windows, **others
    }  # fmt: skip
    with collect_warnings():  # Python shows each message once, whatever rows it belongs to
        with collect_warnings() as of_all, one_call():
            request = Request.of(logits, inputs, size=size, span=span, background=background)
            _check_one_image(request)
            target = request.size
            names = as_class_names(class_names, request.n_classes)
            nameless = background is not None and find_background(names) is None
            shown = add_name(names) if nameless else names
            colours(palette, len(names))
            ignore_index = check_ignore_index(ignore_index, len(names))
            true = None if gt is None else as_gt(gt, target, len(names), ignore_index)
            repeats = check_integer("repeats", repeats)
        chains = named_chains(methods, request.inputs)
        prepared = _prepare(request, chains)
        with torch.no_grad():
            label = partial(_labels, request, find_background(names))
            with collect_warnings(shown=False):  # the rows say it of their own scores
                start = label(request.only(()).prepare(as_chain("bilinear")).run())
            with collect_warnings() as of_gt:
                if true is not None:
                    warn_of_gt(true, start, names, ignore_index)
            rows, labels = _measure_all(prepared, request, label, repeats)
    if not labels:
        raise InputError.of(
            "methods",
            got="none that can run",
            expected="one or more",
            fix=" ".join(f"{row.method}: {row.skipped}" for row in rows),
        )
    rows = [
        row if row.skipped
        else _judge(row, labels[row.method], start, true, request.n_classes, ignore_index)
        for row in rows
    ]  # fmt: skip
    picture = _picture(request.inputs.get("image"), target)
    return Comparison(
        rows,
        labels,
        start,
        picture,
        true,
        shown,
        palette,
        ignore_index,
        (*of_all, *of_gt),
        _region_map(request, target),
    )


# What a method may raise and is then skipped: a package is missing, a user's own method returned
# scores that cannot be used, or the memory is too small.
_UNABLE = (ImportError, InputError, MemoryError, torch.cuda.OutOfMemoryError)


def _check_one_image(request: Request) -> None:
    if "windows" not in request.inputs and len(request.logits) > 1:
        raise InputError.of(
            "logits",
            got=f"{len(request.logits)} items",
            expected="those of one image",
            fix="Compare images one by one: logits[i:i+1], feats[i:i+1], image[i:i+1].",
        )


class _Ready(NamedTuple):
    """A method that is checked, or why it cannot run, and what was warned of meanwhile."""

    run: Prepared | str
    warnings: list[str]


def _prepare(request: Request, chains: Mapping[str, Chain | str]) -> dict[str, _Ready]:
    """Check every method before the first runs.

    Raises:
        InputError: an input that no method takes.
    """
    able = [chain for chain in chains.values() if isinstance(chain, Chain)]
    common = (*COMMON, "windows", *(() if request.background is None else ("saliency",)))
    for name in request.inputs:
        if name not in common and not any(name in chain.takes for chain in able):
            if name == "saliency":
                raise lacks_background()
            known = {name for chain in able for name in chain.takes.names}
            raise unknown_input(
                name, "these methods", sorted(known - set(COMMON)), known=name in INPUTS
            )
    prepared: dict[str, _Ready] = {}
    for name, chain in chains.items():
        run: Prepared | str
        with collect_warnings() as doubts:
            try:
                run = chain if isinstance(chain, str) else request.only(chain.takes).prepare(chain)
            except (ImportError, InputError) as error:
                run = str(error)
        prepared[name] = _Ready(run, doubts)
    return prepared


def _measure_all(
    prepared: Mapping[str, _Ready],
    request: Request,
    label: Callable[[Tensor], Labels],
    repeats: int,
) -> tuple[list[Row], dict[str, Labels]]:
    """Run each method; return its costs, and the labels of those that ran."""
    from lpprop._core.progress import Progress  # later, as above

    rows: list[Row] = []
    labels: dict[str, Labels] = {}
    able = [name for name, ready in prepared.items() if not isinstance(ready.run, str)]
    with Progress(len(able) * count_runs(repeats), unit="run") as bar:
        for name, ready in prepared.items():
            bar.describe(name)
            with collect_warnings() as doubts:
                row, scores = _measure(name, ready.run, request, repeats, bar.update)
                if scores is not None:
                    labels[name] = label(scores)
                    del scores  # frees memory before the next method is measured
            rows.append(row._replace(warnings=tuple(dict.fromkeys([*ready.warnings, *doubts]))))
    return rows, labels


def _measure(
    name: str, run: Prepared | str, request: Request, repeats: int, tick: Callable[[], object]
) -> tuple[Row, Tensor | None]:
    """Run a method; return its costs and scores, or the row that says why there are none."""
    if isinstance(run, str):
        return Row(name, skipped=run), None
    try:
        scores, seconds, memory = measure(run.run, request.logits.device, repeats, tick)
        _check_classes(scores, request.n_classes)
    except (*_UNABLE, RuntimeError) as error:
        # For a CPU whose memory is full torch has no exception of its own.
        if not isinstance(error, _UNABLE) and "can't allocate memory" not in str(error):
            raise
        return Row(name, skipped=str(error) or "out of memory"), None
    return Row(name, seconds, memory), scores


def _check_classes(scores: Tensor, classes: int) -> None:
    if scores.shape[1] != classes:
        raise InputError.of(
            "it returned scores",
            got=f"{scores.shape[1]} classes",
            expected=f"{classes}, those of the logits",
            fix="Labels are compared by number: keep the classes.",
        )


def _labels(request: Request, own: int | None, scores: Tensor) -> Labels:
    """Return the labels of refined scores; those of no class go to the background `own`, if any."""
    labels: Labels = request.finish(scores)[0].argmax(0).cpu().numpy()
    return labels if own is None else np.where(labels == request.n_classes, own, labels)


def _judge(
    row: Row, own: Labels, start: Labels, gt: Labels | None, classes: int, ignore_index: int
) -> Row:
    """Compare a method's labels with those of the start and with the true ones."""
    row = row._replace(changed=float((own != start).mean()))
    if gt is None:
        return row
    from lpprop.evaluation.metrics import SegmentationMetrics

    metrics = SegmentationMetrics(classes, ignore_index=ignore_index)
    metrics = metrics.update(own, gt, background=True)
    return row._replace(miou=metrics.miou, boundary_iou=metrics.mean_boundary_iou)


def _picture(image: Tensor | None, size: tuple[int, int]) -> Image | None:
    """Convert the image to PIL, at the results' size."""
    if image is None:
        return None
    from PIL.Image import Resampling

    from lpprop.viz.drawing import to_picture

    return to_picture(image).resize(size[::-1], Resampling.BICUBIC)


def _region_map(request: Request, size: tuple[int, int]) -> Labels | None:
    """Return the region of each pixel, of masks that overlap the smallest one."""
    regions = request.inputs.get("regions")
    if isinstance(regions, Proposal):
        regions = regions.found
        if regions is not None and request.span is not None:  # in the image of that span
            regions = cover_regions(regions, request.span, request.pixels)
            assert not isinstance(regions, Proposal)
    if regions is None:
        return None
    if isinstance(regions, Tensor):
        partition = Partition.of(regions[0], size)
    else:
        masks = Masks(regions[0], size, torch.float32)
        partition = masks.owners(masks.areas > 0, largest=False)
    numbers = partition.numbers.masked_fill(~partition.covered, -1)
    found: Labels = numbers.view(size).cpu().numpy()
    return found
