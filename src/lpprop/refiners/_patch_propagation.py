"""LPOSS: label propagation over the patches of an image.

Stojnic, Kalantidis, Matas, Tolias: LPOSS: Label Propagation Over Patches and Pixels for
Open-vocabulary Semantic Segmentation, CVPR 2025.

For each class, LPOSS and LPOSS+ (`_pixel_propagation.py`) minimise the distance to the initial
scores plus the differences along the edges of a graph. The minimum solves (I - alpha S) Y' = Y up
to the factor (1 - alpha), which is left out as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Num
from torch import Tensor

from lpprop._core.checks import check_tensors
from lpprop._core.memory import check_room
from lpprop._core.options import (
    check_above_0,
    check_choice,
    check_from_0,
    check_integer,
    check_number,
    checked,
    or_auto,
)
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.inputs.patch_grid import fit_patch_size, patch_centres
from lpprop.inputs.windows import SlidingWindows, window_corners
from lpprop.numerics.adaptive import (
    LARGEST_ALPHA,
    MOST_NEIGHBOURS,
    choose_alpha,
    choose_gamma,
    choose_k,
    mark_winners,
)
from lpprop.numerics.graphs import (
    check_storage,
    forecast_graph,
    nearest_neighbours,
    spatial_affinity,
    symmetric_graph,
)
from lpprop.numerics.propagation import SOLVER_CHECKS, forecast_solver, propagate
from lpprop.numerics.twins import match_twins

__all__ = ["PatchPropagation", "propagate_patches"]


@full_precision
@checked(
    **SOLVER_CHECKS | {"alpha": or_auto(SOLVER_CHECKS["alpha"])},
    k=or_auto(check_integer),
    gamma=or_auto(check_above_0),
    sigma=check_from_0,
    sigma_time=check_from_0,
    patch_size=partial(check_number, low=0, high=1e9, open_low=True),
    distance_power=check_above_0,
    appearance=partial(check_choice, choices=("power", "exponential")),
    sigma_a=check_above_0,
    spatial=partial(check_choice, choices=("rbf", "linear", "none")),
    storage=check_storage,
)
def propagate_patches(
    logits: Float[Tensor, "B C h w"],
    feats: Float[Tensor, "B D h w"],
    *,
    k: int | Literal["auto"] = 400,
    gamma: float | Literal["auto"] = 3.0,
    sigma: float = 0.01,
    alpha: float | Literal["auto"] = 0.95,
    patch_size: float = 16,
    distance_power: float = 1.0,
    windows: SlidingWindows | Tensor | None = None,
    times: Num[Tensor, " B"] | None = None,
    sigma_time: float = 0.0,
    max_iter: int = 10,
    tol: float = 1e-6,
    appearance: str = "power",
    sigma_a: float = 1 / 3,
    spatial: str = "rbf",
    storage: str = "auto",
) -> Float[Tensor, "B C h w"]:
    """Propagate scores over the patches of an image (LPOSS).

    With x_i the L2-normalised feature of patch i and s_ij = x_i . x_j,

        A_ij = max(s_ij, 0)^gamma for j among the k patches most similar to i, else 0
        P_ij = exp(-sigma d_ij^q - sigma_time |t_i - t_j|),  d in pixels, q = distance_power
        W = A * P,  S = (W + W^T without diagonal),  S' = D^-1/2 S D^-1/2
        solve (I - alpha S') Y' = Y for each class

    The published numbers come from 10 steps of conjugate gradients, which is not convergence; for
    the converged solution pass `max_iter=1000`.

    The published k, gamma and alpha belong to the features of one model and to the patches of
    fifteen windows. "auto" takes each from the image instead: 5 to 50 neighbours, the more the
    larger the smallest class is that wins anywhere; the power at which the last of them counts a
    quarter of the nearest one; and the strength that the scores ask for, which is 0.85 where the
    best classes of similar patches differ as by chance, and falls to 0 where they agree
    (`lpprop.numerics.adaptive` has the equations).

    Args:
        logits: (B, C, h, w) scores, larger = likelier; any real numbers.
        feats: (B, D, h, w) affinity features; need not be normalised.
        k: neighbours per patch, including itself; more than there are patches means all. With
            `times` it is their number per frame: k = 20 and three frames give 60.
        gamma: exponent of the similarity, > 0.
        sigma: decay with distance, >= 0, per pixel (to the power q).
        alpha: strength of propagation, in [0, 1); 0 returns the logits. "auto" is chosen per image,
            from the best class of each patch.
        patch_size: pixels between neighbouring patches, > 0, in the image that the backbone saw.
        distance_power: exponent q of the distance, > 0.
        windows: `SlidingWindows`, or boxes (n, 4) of y1, y2, x1, x2: the B items are the n windows
            of ONE image, and one graph joins the patches of all of them.
        times: (B,) when each item was seen: the B items are frames of ONE clip, or windows of its
            frames, and one graph joins the patches of all of them; t_i is the time of patch i.
        sigma_time: decay with the time between two patches, >= 0, per unit of `times`; without
            effect where there are none.
        max_iter: budget of conjugate gradient steps.
        tol: stop a class when its residual is at most tol |Y_c|.
        appearance: "power" as above, or "exponential": A_ij = exp(-(1 - s_ij) / sigma_a).
        sigma_a: scale of the exponential appearance, > 0; at 1/3 its slope at s = 1 is that of
            gamma = 3.
        spatial: "rbf" as above, "linear": P_ij = max(1 - sigma d^q, 0), or "none": P = 1.
        storage: how the graph is stored: "dense", "csr", "torch-sparse" (the extra of that name),
            or "auto", which takes dense for well-filled graphs and csr for large sparse ones.

    Returns:
        Refined scores (B, C, h, w), in the dtype of `logits`; computed in that dtype, float32 at
        least. Differentiable in `logits` and `feats` (the choice of neighbours, and what "auto"
        chooses, are held fixed).

    Raises:
        InputError: shapes that do not match, values that are not finite, an option out of range,
            a storage that is not installed, or too little memory.

    >>> logits = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 0.0, 3.0]]]])     # 2 classes, 3 patches
    >>> feats = torch.tensor([[[[1.0, 0.9, 0.0]], [[0.0, 0.1, 1.0]]]])
    >>> propagate_patches(logits, feats).argmax(1)        # the middle patch joins the first
    tensor([[[0, 0, 1]]])
    """
    sizes = check_tensors(logits=(logits, "B C h w"), feats=(feats, "B D h w"))
    corners = window_corners(windows, sizes["B"])
    if times is not None:
        kinds = ("float", "integer")  # integers count frames
        check_tensors(logits=(logits, "B C h w"), times=(times, "B", kinds))
        corners = corners.expand(sizes["B"], 2)  # frames share the corner of the image
    joined = windows is not None or times is not None
    frames = 1 if times is None else len(times.unique())
    most = frames * (MOST_NEIGHBOURS if k == "auto" else k)
    _check_room(logits, feats, most, storage, joined, alpha, max_iter, tol)

    dtype = compute_dtype(logits)
    scores, nodes = logits.to(dtype).flatten(2), feats.flatten(2).mT
    if joined:  # the patches of all windows, or frames, are the nodes of one graph
        scores, nodes = scores.transpose(0, 1).flatten(1)[None], nodes.flatten(0, 1)[None]
    grid, corners = (sizes["h"], sizes["w"]), corners.to(logits.device, dtype)
    y, x = patch_centres(grid, patch_size, corners).unbind(1)
    t = None if times is None else times.to(dtype).repeat_interleave(grid[0] * grid[1])

    def propagate_graph(scores: Tensor, nodes: Tensor) -> Tensor:
        count = choose_k(mark_winners(scores), frames) if k == "auto" else frames * k
        neighbours, similarity = nearest_neighbours(nodes, count, dtype)
        if appearance == "power":
            exponent = choose_gamma(similarity) if gamma == "auto" else gamma
            # Clamped above 0, where a power below 1 has an infinite derivative.
            power = similarity.clamp(min=torch.finfo(dtype).tiny) ** exponent
            weights = torch.where(similarity > 0, power, 0.0)
        else:
            weights = torch.exp((similarity - 1) / sigma_a)
        if spatial != "none":
            distance = torch.hypot(y[neighbours] - y[:, None], x[neighbours] - x[:, None])
            weights = weights * spatial_affinity(distance, spatial, sigma, distance_power)
        if t is not None:
            apart = (t[neighbours] - t[:, None]).abs()
            weights = weights * spatial_affinity(apart, "rbf", sigma_time, 1.0)
        graph = symmetric_graph(neighbours, weights, storage)
        strength = choose_alpha(mark_winners(scores), graph) if alpha == "auto" else alpha
        return propagate(scores, graph, alpha=strength, max_iter=max_iter, tol=tol)

    # One graph at a time: memory does not grow with the batch, and a batch equals a loop in bits.
    scores = torch.stack([propagate_graph(*item) for item in zip(scores, nodes, strict=True)])
    if joined:
        scores = scores[0].unflatten(1, (sizes["B"], -1)).transpose(0, 1)
    scores = match_twins(scores.reshape(logits.shape), logits, joined=joined)
    return cast_back(scores, logits)


def _check_room(
    logits: Float[Tensor, "B C *grid"],
    feats: Float[Tensor, "B D h w"],
    k: int,
    storage: str,
    joined: bool,
    alpha: float | Literal["auto"],
    max_iter: int,
    tol: float,
) -> None:
    """Refuse a graph over the feats' grid that does not fit into memory."""
    nodes = feats.shape[-2] * feats.shape[-1] * (len(feats) if joined else 1)
    solver: dict[str, Any] = {
        "alpha": LARGEST_ALPHA if alpha == "auto" else alpha, "max_iter": max_iter, "tol": tol
    }  # fmt: skip
    size, classes = compute_dtype(logits).itemsize, logits.shape[1]
    slope = torch.is_grad_enabled() and feats.requires_grad
    gradient = slope or (torch.is_grad_enabled() and logits.requires_grad)
    needed = forecast_graph(nodes, k, storage, size, feats.device, gradient=slope)
    needed += forecast_solver(classes, nodes * size, **solver, gradient=gradient)
    check_room(
        "feats",
        f"{nodes} patches with {min(k, nodes)} neighbours each, whose graph needs",
        needed,
        feats.device,
        "Lower k, use a coarser grid (lpprop.bilinear_upsample also makes grids smaller), or "
        "fewer windows.",
    )


class PatchPropagation(
    Refiner, function=propagate_patches, needs=("feats",), takes=("windows", "times")
):
    """`propagate_patches` as a module; it takes that function's options.

    >>> step = PatchPropagation(k=100)
    >>> step(torch.rand(1, 5, 8, 8), feats=torch.rand(1, 16, 8, 8)).shape
    torch.Size([1, 5, 8, 8])
    """

    patch_size: float
    k: int | Literal["auto"]
    gamma: float | Literal["auto"]
    storage: str

    def check_room(self, logits: Tensor, inputs: Mapping[str, Any]) -> None:
        """Refuse feats whose graph does not fit into memory."""
        if inputs.get("feats") is not None:
            solver = {option: self.config[option] for option in SOLVER_CHECKS}
            joined = any(inputs.get(name) is not None for name in ("windows", "times"))
            k = MOST_NEIGHBOURS if self.k == "auto" else self.k
            _check_room(logits, inputs["feats"], k, self.storage, joined, **solver)

    def fitted(self, grid: tuple[int, int], pixels: tuple[int, int]) -> PatchPropagation:
        """Return this step with the patch size at which the grid spans the pixels.

        It is the step itself if grid x patch_size is within a patch of the pixels' size already.
        """
        size = fit_patch_size(self.patch_size, grid, pixels)
        return self if size == self.patch_size else type(self)(**self.config | {"patch_size": size})
