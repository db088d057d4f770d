"""Logits from clicks: labelled points of an image, on any grid, for interactive segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lpprop._core.convert import as_tensor
from lpprop._core.errors import InputError, warn
from lpprop._core.memory import check_room
from lpprop._core.options import check_from_0, check_integer, check_names, check_size, is_listed
from lpprop._core.precision import uncompiled
from lpprop._core.tensors import as_int64

__all__ = ["seed_logits"]

# The hints of all cells together weigh this much of one click, so that they decide only where
# nothing else does.
_HINT = 1e-3
# Peak bytes per pixel of a disc of one click, and per class of a cell.
_PIXEL_BYTES, _CELL_BYTES = 128, 24


@uncompiled
def seed_logits(
    points: object,
    labels: object,
    size: tuple[int, int],
    *,
    classes: int | Sequence[str] | None = None,
    grid: tuple[int, int] | None = None,
    radius: float = 0,
) -> Float[Tensor, "1 C h w"]:
    """Make logits of clicks, which say for some pixels of an image what they show.

    A click marks the pixels within `radius` of it. A pixel that several clicks mark belongs to the
    nearest one; where clicks of m classes are equally near, each class has 1 / m of it. Pixel
    (r, c) lies in cell (floor((r + 0.5) h / H), floor((c + 0.5) w / W)), and

        logits_cp = share of class c in the marked pixels of cell p,    where p has marked pixels
                  = 0.001 / (h w) for the class of the nearest click, 0 for the others,  elsewhere

    So a marked cell sums to 1 however few of its pixels are marked, and no click is lost on a
    coarse grid. What is not marked has a hint only: all hints together weigh a thousandth of one
    click, so that any score which propagates from a click outweighs them. Where none arrives, as in
    a region without a click, or among patches that are like no other, the nearest click decides,
    and not the first class. Of equally near classes each has its part of the hint.

    A class without a click is -inf everywhere, which `lpprop.refine` and `lpprop.compare` leave out
    of the call: it never wins.

        logits = lpprop.seed_logits(points, labels, (H, W), grid=feats.shape[-2:])
        scores = lpprop.refine(logits, feats, image)

    Args:
        points: (n, 2) row and column of each click in pixels of the image, in [0, H) and [0, W); a
            tensor, an array or a list. A fraction counts as the pixel that it lies in, as in a
            browser, whose pixel 3 reaches from 3.0 to 4.0.
        labels: (n,) integers, the class of each click.
        size: (H, W) of the image in which the clicks are.
        classes: their number C, or their names; the largest label + 1 if None.
        grid: (h, w) of the result, that of the features; `size` if None.
        radius: of the disc that a click marks, in pixels of the image, from 0, which marks the
            clicked pixel alone. Distances are Euclidean, between centres of pixels.

    Returns:
        (1, C, h, w) in float32, in [0, 1] or -inf, on the device of the points.

    Raises:
        InputError: no click, points outside of the image, a label that is no class, shapes that do
            not match, numbers out of range, or discs that do not fit into memory.

    Warns:
        InputWarning: a class that wins nowhere, since its clicks share their cells with others.

    >>> logits = seed_logits([[0, 0], [3, 5]], [0, 1], (4, 6), grid=(2, 3))
    >>> logits.round(decimals=2)
    tensor([[[[1., 0., 0.],
              [0., 0., 0.]],
    <BLANKLINE>
             [[0., 0., 0.],
              [0., 0., 1.]]]])
    >>> logits.argmax(1)
    tensor([[[0, 0, 1],
             [0, 1, 1]]])
    """
    height, width = check_size("size", size)
    h, w = check_size("grid", grid) if grid is not None else (height, width)
    reach = check_from_0("radius", radius)
    places, device = _check_points(points, (height, width))
    owners = _check_labels(labels, len(places))
    count = _count_classes(classes, owners)

    _check_room(len(places), count, (height, width), (h, w), reach, device)

    logits = _nearest_clicks(places, owners, count, (height, width), (h, w)).flatten()
    pixels, found, shares = _mark(places, owners, (height, width), reach)
    row, column = pixels // width, pixels % width
    # (r + 0.5) h / H in whole numbers.
    cell = (2 * row + 1) * h // (2 * height) * w + (2 * column + 1) * w // (2 * width)
    key, where = (found * (h * w) + cell).unique(return_inverse=True)
    sums = torch.zeros(len(key), dtype=torch.float64).index_add_(0, where, shares)
    marked = torch.zeros(h * w, dtype=torch.float64).index_add_(0, cell, shares)
    logits.view(count, -1)[:, marked > 0] = 0
    logits[key] = (sums / marked[key % (h * w)]).float()
    logits = logits.view(1, count, h, w)
    clicked = owners.bincount(minlength=count) > 0
    logits[:, ~clicked] = -torch.inf
    _warn_of_hidden(logits, clicked)
    return logits.to(device)


def _check_room(
    clicks: int,
    classes: int,
    size: tuple[int, int],
    grid: tuple[int, int],
    reach: float,
    device: torch.device,
) -> None:
    """Refuse a result or discs that do not fit into memory."""
    check_room(
        "grid",
        f"{classes} classes on a grid of {grid[0]} x {grid[1]}, which need",
        _CELL_BYTES * classes * grid[0] * grid[1],
        device,
        "Pass grid=feats.shape[-2:], or fewer classes.",
    )
    rows, columns = (2 * int(min(reach, side)) + 1 for side in size)
    check_room(
        "radius",
        f"{clicks} discs of {rows} x {columns} pixels, which need",
        _PIXEL_BYTES * clicks * rows * columns,
        torch.device("cpu"),
        "Make it smaller.",
    )


def _nearest_clicks(
    places: Int64[Tensor, "n 2"],
    owners: Int64[Tensor, " n"],
    count: int,
    size: tuple[int, int],
    grid: tuple[int, int],
) -> Float[Tensor, "C h w"]:
    """Return the hint of each cell: a little for the class of the nearest click."""
    # Squared distances between centres times (2 h w)^2, in whole numbers, so that ties are exact.
    (height, width), (h, w) = size, grid
    rows = ((2 * torch.arange(h) + 1) * height - (2 * places[:, :1] + 1) * h) * w
    columns = ((2 * torch.arange(w) + 1) * width - (2 * places[:, 1:] + 1) * w) * h
    best = torch.full((count, *grid), torch.inf, dtype=torch.float64)
    for owner, down, across in zip(
        owners.tolist(), rows.double() ** 2, columns.double() ** 2, strict=True
    ):
        torch.minimum(best[owner], down[:, None] + across, out=best[owner])
    nearest = (best == best.amin(0)).float()
    return nearest * (_HINT / (h * w) / nearest.sum(0))


def _mark(
    places: Int64[Tensor, "n 2"], owners: Int64[Tensor, " n"], size: tuple[int, int], reach: float
) -> tuple[Int64[Tensor, " m"], Int64[Tensor, " m"], Float[Tensor, " m"]]:
    """Return the marked pixels, row by row, with the classes that have them and their shares."""
    offsets, squares = _disc(reach, size)
    around = places[:, None] + offsets
    inside = ((around >= 0) & (around < torch.tensor(size))).all(-1)
    row, column = around[inside].unbind(1)
    pixel = row * size[1] + column
    square = squares.expand(len(places), -1)[inside]
    owner = owners[:, None].expand(-1, len(offsets))[inside]

    pixels, where = pixel.unique(return_inverse=True)
    nearest = torch.full((len(pixels),), torch.iinfo(torch.int64).max)
    nearest = nearest.scatter_reduce(0, where, square, "amin")
    wins = square == nearest[where]
    # A class has its part once, however many of its clicks are equally near.
    pairs = torch.stack([where[wins], owner[wins]]).unique(dim=1)
    sharing = pairs[0].bincount(minlength=len(pixels))
    return pixels[pairs[0]], pairs[1], 1 / sharing[pairs[0]].double()


def _disc(reach: float, size: tuple[int, int]) -> tuple[Int64[Tensor, "k 2"], Int64[Tensor, " k"]]:
    """Return the offsets of the pixels within reach, and their squared distances."""
    # Farther than the image is long there is no pixel.
    rows, columns = (torch.arange(-n, n + 1) for n in (int(min(reach, side)) for side in size))
    offsets = torch.cartesian_prod(rows, columns)
    squares = (offsets**2).sum(1)
    within = squares <= reach * reach  # where ** raises beyond the largest float, * is infinite
    return offsets[within], squares[within]


def _check_points(
    points: object, size: tuple[int, int]
) -> tuple[Int64[Tensor, "n 2"], torch.device]:
    """Return the clicked pixels on the CPU, and the device on which the points are."""
    given = _as_tensor("points", points)
    real = given.dtype != torch.bool and not given.is_complex()
    if given.ndim != 2 or given.shape[1] != 2 or not len(given) or not real:
        raise InputError.of(
            "points",
            got=f"shape {tuple(given.shape)} of {given.dtype}",
            expected="(n, 2) numbers, the row and the column of at least one click",
            fix="Pass [[row, column], ...]; without a click there is nothing to start from.",
        )
    found = given.detach().cpu()
    wide = found.double() if found.is_floating_point() else as_int64("points", found)
    outside = ~((wide >= 0) & (wide < torch.tensor(size))).all(1)  # NaN is outside, too
    if bool(outside.any()):
        first = int(outside.nonzero()[0])
        at = ", ".join(f"{x:g}" for x in wide[first].tolist())
        raise InputError.of(
            "points",
            got=f"points[{first}] at ({at})"
            + (f" and {n} more" if (n := int(outside.sum()) - 1) else "")
            + f", outside of an image of {size[0]} x {size[1]} pixels",
            expected=f"rows in [0, {size[0]}) and columns in [0, {size[1]})",
            fix="Pass the row first, then the column, and size=(height, width).",
        )
    return wide.long(), given.device


def _check_labels(labels: object, count: int) -> Int64[Tensor, " n"]:
    given = _as_tensor("labels", labels)
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype == torch.bool)
    if given.ndim != 1 or not whole:
        raise InputError.of(
            "labels",
            got=f"shape {tuple(given.shape)} of {given.dtype}",
            expected="(n,) integers, the class of each click",
            fix="Number the classes from 0.",
        )
    if len(given) != count:
        raise InputError.of(
            "labels",
            got=f"{len(given)} labels beside {count} points",
            expected="a label per point",
            fix="Pass both in the same order.",
        )
    owners = as_int64("labels", given).detach().cpu()
    if bool((owners < 0).any()):
        first = int((owners < 0).nonzero()[0])
        raise InputError.of(
            "labels",
            got=f"labels[{first}] = {int(owners[first])}",
            expected="class indices from 0",
            fix="Leave out clicks without a class, or give the background a class of its own.",
        )
    return owners


def _count_classes(classes: int | Sequence[str] | None, owners: Int64[Tensor, " n"]) -> int:
    highest = int(owners.max())
    if classes is None:
        return highest + 1
    named = isinstance(classes, (Sequence, np.ndarray))
    count = len(check_names("classes", classes)) if named else check_integer("classes", classes)
    if highest >= count:
        raise InputError.of(
            "labels",
            got=f"labels[{int(owners.argmax())}] = {highest}",
            expected=f"class indices below {count}, the number of classes",
            fix="Check the number of classes, and how the clicks are numbered.",
        )
    return count


def _warn_of_hidden(logits: Float[Tensor, "1 C h w"], clicked: Bool[Tensor, " C"]) -> None:
    """Warn of classes that are clicked and win in no cell: methods may reject them."""
    wins = torch.zeros_like(clicked)
    wins[logits.argmax(1).unique()] = True
    hidden = (clicked & ~wins).nonzero().flatten().tolist()
    if hidden:
        warn(
            "hidden clicks",
            f"points: got clicks of class {', '.join(map(str, hidden))} in no cell but those where "
            f"another class has as many, on a grid of {logits.shape[2]} x {logits.shape[3]}, so "
            "that it wins nowhere and methods may reject it. Click farther from the others, or "
            "pass a finer grid.",
        )


def _as_tensor(name: str, values: object) -> Tensor:
    """Return a tensor of an array, or of a list of numbers or of rows of numbers."""
    if is_listed(values) and not isinstance(values, np.ndarray):
        # NumPy reads no tensor of bfloat16, none with a gradient and none of another device.
        rows = [[_read(name, x) for x in row] if isinstance(row, (list, tuple)) else row
                for row in (_read(name, row) for row in values)]  # fmt: skip
        try:
            values = np.array(rows)
        except ValueError:  # rows of several lengths
            values = np.array(rows, dtype=object)
    return as_tensor(name, values)


def _read(name: str, item: object) -> object:
    """Return the numbers of a tensor in a list, and every other item as it is."""
    return as_tensor(name, item).tolist() if isinstance(item, Tensor) else item
