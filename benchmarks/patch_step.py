"""The patch step, against SciPy with faiss and the product of its features; both steps together."""

from functools import partial

from torch import Tensor

import lpprop

from . import scipy_reference
from .inputs import scene
from .work import Competitor, Work, aim


def patch_step(device: str, k: int, **sizes: int) -> Work:
    inputs = scene(**sizes)
    boxes, logits, feats = inputs.boxes, inputs.patch_logits, inputs.patch_feats
    patch_size = sizes["patch_size"]
    arrays = logits.numpy(), feats.numpy(), boxes.numpy()
    on_device = logits.to(device), feats.to(device)
    rows = feats.movedim(1, -1).flatten(0, 2).to(device)
    return Work(
        name="patch step",
        sizes=sizes | {"k": k, "windows": len(boxes), "patches": len(rows)},
        # One neighbour in a million is a tie in float32; which one wins makes 3e-4.
        tolerance=1e-3,
        competitors=[
            Competitor(
                "lpprop",
                "propagate_patches, float32",
                partial(
                    lpprop.propagate_patches, *on_device, k=k, patch_size=patch_size, windows=boxes
                ),
            ),
            Competitor(
                "SciPy + faiss-cpu",
                "IndexFlatIP, CSR, scipy.sparse.linalg.cg a class at a time, float32",
                partial(scipy_reference.propagate_patches, *arrays, k=k, patch_size=patch_size),
            ),
            Competitor(
                "X Xᵀ alone",
                "the similarities of all patches as one product of PyTorch, float32: a floor, "
                "unless another library is faster",
                lambda: rows @ rows.T,
                target=aim(device, 1 / 1.5),
                comparable=False,
            ),
        ],
    )


def both_steps(device: str, k: int, r: int, **sizes: int) -> Work:
    inputs = scene(**sizes)
    size, patch_size = (sizes["H"], sizes["W"]), sizes["patch_size"]
    windows = lpprop.SlidingWindows(size, sizes["window"], sizes["stride"])
    logits, feats, image = (
        x.to(device) for x in (inputs.patch_logits, inputs.patch_feats, inputs.image)
    )
    # One view of the whole image: a scene of patches whose windows are merged.
    grid = h, w = [s // patch_size for s in size]
    side = min(grid)
    view = scene(H=h, W=w, window=side, stride=side, patch_size=1, D=sizes["D"], C=sizes["C"])
    whole = [
        lpprop.SlidingWindows((h, w), side, side).merge(x).to(device)
        for x in (view.patch_logits, view.patch_feats)
    ]
    options = {"k": k, "r": r, "patch_size": patch_size}

    def by_hand() -> Tensor:
        patches = lpprop.propagate_patches(
            logits, feats, k=k, patch_size=patch_size, windows=windows
        )
        return lpprop.propagate_pixels(windows.merge(patches), image, r=r)

    return Work(
        name="both steps together",
        sizes=sizes | {"k": k, "r": r, "windows": len(windows)},
        tolerance=1e-5,
        competitors=[
            Competitor(
                "lpprop",
                "refine of all windows, float32; aim: below 1 s on two cores",
                lambda: lpprop.refine(logits, feats, image, windows=windows, **options),
            ),
            Competitor("lpprop by hand", "propagate_patches, merge, propagate_pixels", by_hand),
            Competitor(
                "lpprop, no windows",
                f"refine of one view with {grid[0]} x {grid[1]} patches; aim: below 1 s on two "
                "cores",
                lambda: lpprop.refine(*whole, image, **options),
                comparable=False,
            ),
        ],
    )
