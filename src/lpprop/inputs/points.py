"""Points in a mask, far from its border and from each other, to prompt a model with."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.errors import InputError
from lpprop._core.options import check_integer
from lpprop._core.precision import uncompiled

__all__ = ["prompt_points"]


@uncompiled
def prompt_points(mask: Bool[Tensor, "H W"], n: int) -> Int[Tensor, "n 2"]:
    """Spread points over a mask by farthest-point sampling (RIM).

        x_i = argmax over x in the mask of dist(x, background ∪ {x_1, …, x_(i-1)})

    Of equal distances the first pixel in row-major order is taken. Beyond the image's edge there is
    nothing to be far from; only where the mask fills the image, the frame of pixels around it
    counts as background. Distances are Euclidean, and compared exactly, as whole squares.

    Args:
        mask: the mask of one object, boolean (H, W).
        n: how many points, at least 1.

    Returns:
        Row and column of each point, (n, 2) int64 on the device of `mask`, in the order in which
        they are found: the first k are the points for n = k.

    Raises:
        InputError: a mask that is not boolean (H, W) or has fewer than n pixels, or n below 1.

    >>> mask = torch.zeros(7, 9, dtype=torch.bool)
    >>> mask[1:6, 1:8] = True
    >>> prompt_points(mask, 3)
    tensor([[3, 3],
            [2, 5],
            [4, 5]])
    """
    # Imported here, since scipy would slow `import lpprop` down.
    from scipy.ndimage import distance_transform_edt

    check_tensors(mask=(mask, "H W", ("bool",)))
    n = check_integer("n", n)
    inside = mask.cpu().numpy()
    rows, columns = np.nonzero(inside)
    if len(rows) < n:
        raise InputError.of(
            "mask",
            got=f"a mask of {len(rows)} pixels",
            expected=f"at least n = {n}, one per point",
            fix="Ask for fewer points, or leave the mask out.",
        )
    # The box around the mask and a pixel more has the nearest background of each pixel in it.
    top, left = max(rows.min() - 1, 0), max(columns.min() - 1, 0)
    box = inside[top : rows.max() + 2, left : columns.max() + 2]
    if inside.all():
        box, top, left = np.pad(box, 1), -1, -1
    distance = distance_transform_edt(box)[rows - top, columns - left]
    square = np.rint(distance**2).astype(np.int64)
    points = []
    for _ in range(n):
        best = int(square.argmax())  # the first of equals
        points.append((int(rows[best]), int(columns[best])))
        square = np.minimum(square, (rows - rows[best]) ** 2 + (columns - columns[best]) ** 2)
    return torch.tensor(points, device=mask.device)
