"""LPOSS and LPOSS+: label propagation over patches and over pixels.

Stojnic, Kalantidis, Matas, Tolias: LPOSS: Label Propagation Over Patches and Pixels for
Open-vocabulary Semantic Segmentation, CVPR 2025.

Both minimise, for each class, the sum of the distance to the initial scores and of the differences
along the edges of a graph, whose solution is (I - alpha S) Y' = Y up to the factor (1 - alpha),
left out as in the authors' code.
"""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from lpprop.affinity import (
    Graph,
    PropagatingGraph,
    check_storage,
    fitted_patch_size,
    lab_features,
    nearest_neighbours,
    patch_centres,
    propagation_system,
    spatial_affinity,
    stencil_graph,
    symmetric_graph,
)
from lpprop.backends import check_backend, kernels_for
from lpprop.checks import (
    Check,
    check_boolean,
    check_choice,
    check_finite,
    check_image,
    check_integer,
    check_number,
    check_options,
    check_tensors,
    needed,
)
from lpprop.classes import possible_winners
from lpprop.precision import compute_dtype, full_precision, returned
from lpprop.refiner import Refiner
from lpprop.solvers import cg
from lpprop.windows import SlidingWindows, window_corners

__all__ = ["PatchPropagation", "PixelPropagation", "propagate_patches", "propagate_pixels"]

# Conjugate gradients hold about six vectors a class; classes are solved in groups that keep them
# under this many bytes together.
_SOLVER_BYTES = 512 * 2**20

_positive = partial(check_number, low=0, open_low=True)
_non_negative = partial(check_number, low=0)
_SOLVER_CHECKS: dict[str, Check] = {
    "alpha": partial(check_number, low=0, high=1, open_high=True),
    "max_iter": check_integer,
    "tol": _non_negative,
}
_PATCH_CHECKS: dict[str, Check] = _SOLVER_CHECKS | {
    "k": check_integer,
    "gamma": _positive,
    "sigma": _non_negative,
    "patch_size": partial(check_number, low=0, high=1e9, open_low=True),
    "distance_power": _positive,
    "appearance": partial(check_choice, choices=("power", "exponential")),
    "sigma_a": _positive,
    "spatial": partial(check_choice, choices=("rbf", "linear", "none")),
    "backend": check_storage,
}
_PIXEL_CHECKS: dict[str, Check] = _SOLVER_CHECKS | {
    "tau": _positive,
    "r": check_integer,
    "sigma": _non_negative,
    "distance_power": _positive,
    "backend": check_backend,
    "prune": check_boolean,
}


@full_precision
def propagate_patches(
    logits: Float[Tensor, "B C h w"],
    feats: Float[Tensor, "B D h w"],
    *,
    k: int = 400,
    gamma: float = 3.0,
    sigma: float = 0.01,
    alpha: float = 0.95,
    patch_size: float = 16,
    distance_power: float = 1.0,
    windows: SlidingWindows | Tensor | None = None,
    max_iter: int = 10,
    tol: float = 1e-6,
    appearance: str = "power",
    sigma_a: float = 1 / 3,
    spatial: str = "rbf",
    backend: str = "auto",
) -> Float[Tensor, "B C h w"]:
    """Propagate scores over the patches of an image (LPOSS).

    With x_i the L2-normalised feature of patch i and s_ij = x_i . x_j,

        A_ij = max(s_ij, 0)^gamma for j among the k patches most similar to i, else 0
        P_ij = exp(-sigma d_ij^q),  d in pixels, q = distance_power
        W = A * P,  S = (W + W^T without diagonal),  S' = D^-1/2 S D^-1/2
        solve (I - alpha S') Y' = Y for each class

    The published numbers come from 10 steps of conjugate gradients, which is not convergence; for
    the converged solution pass `max_iter=1000`.

    Args:
        logits: (B, C, h, w) scores, larger = likelier; any real numbers.
        feats: (B, D, h, w) affinity features; need not be normalised.
        k: neighbours a patch, itself counted; more than there are patches means all.
        gamma: exponent of the similarity, > 0.
        sigma: decay with distance, >= 0, per pixel (to the power q).
        alpha: strength of propagation, in [0, 1); 0 returns the logits.
        patch_size: pixels between neighbouring patches, > 0, in the image that the backbone saw.
        distance_power: exponent q of the distance, > 0.
        windows: `SlidingWindows`, or boxes (n, 4) of y1, y2, x1, x2: the B items are the n windows
            of ONE image, and one graph joins the patches of all of them.
        max_iter: budget of conjugate gradient steps.
        tol: stop a class when its residual is at most tol |Y_c|.
        appearance: "power" as above, or "exponential": A_ij = exp(-(1 - s_ij) / sigma_a).
        sigma_a: scale of the exponential appearance, > 0; at 1/3 its slope at s = 1 is that of
            gamma = 3.
        spatial: "rbf" as above, "linear": P_ij = max(1 - sigma d^q, 0), or "none": P = 1.
        backend: how the graph is stored: "dense", "csr", "torch-sparse" (the extra of that name),
            or "auto", which takes dense for well-filled graphs and csr for large sparse ones.

    Returns:
        Refined scores (B, C, h, w), in the dtype of `logits`; computed in that dtype, float32 at
        least. Differentiable in `logits` and `feats` (the choice of neighbours is held fixed).

    Raises:
        InputError: shapes that do not match, values that are not finite, an option out of range,
            or a backend that is not installed.

    >>> logits = torch.tensor([[[[4.0, 0.0, 0.0]], [[0.0, 0.0, 3.0]]]])     # 2 classes, 3 patches
    >>> feats = torch.tensor([[[[1.0, 0.9, 0.0]], [[0.0, 0.1, 1.0]]]])
    >>> propagate_patches(logits, feats).argmax(1)        # the middle patch joins the first
    tensor([[[0, 0, 1]]])
    """
    sizes = check_tensors(logits=(logits, "B C h w"), feats=(feats, "B D h w"))
    options = {
        "k": k, "gamma": gamma, "sigma": sigma, "alpha": alpha, "patch_size": patch_size,
        "distance_power": distance_power, "max_iter": max_iter, "tol": tol,
        "appearance": appearance, "sigma_a": sigma_a, "spatial": spatial, "backend": backend,
    }  # fmt: skip
    check_options(_PATCH_CHECKS, options)
    corners = window_corners(windows, sizes["B"])

    dtype = compute_dtype(logits)
    labels, nodes = logits.to(dtype).flatten(2), feats.flatten(2).mT
    if windows is not None:  # the patches of all windows are the nodes of one graph
        labels, nodes = labels.transpose(0, 1).flatten(1)[None], nodes.flatten(0, 1)[None]
    grid, corners = (sizes["h"], sizes["w"]), corners.to(logits.device, dtype)
    y, x = patch_centres(grid, patch_size, corners).unbind(1)

    def refined(labels: Tensor, nodes: Tensor) -> Tensor:
        neighbours, similarity = nearest_neighbours(nodes, k, dtype)
        if appearance == "power":
            # Clamped above 0, where a power below 1 has an infinite slope.
            power = similarity.clamp(min=torch.finfo(dtype).tiny) ** gamma
            weights = torch.where(similarity > 0, power, 0.0)
        else:
            weights = torch.exp((similarity - 1) / sigma_a)
        if spatial != "none":
            distance = torch.hypot(y[neighbours] - y[:, None], x[neighbours] - x[:, None])
            weights = weights * spatial_affinity(distance, spatial, sigma, distance_power)
        graph = symmetric_graph(neighbours, weights, backend)
        return _propagate(labels, graph, alpha=alpha, max_iter=max_iter, tol=tol)

    # A graph at a time: memory does not grow with the batch, and a batch equals a loop to the bit.
    scores = torch.stack([refined(*item) for item in zip(labels, nodes, strict=True)])
    if windows is not None:
        scores = scores[0].unflatten(1, (sizes["B"], -1)).transpose(0, 1)
    return returned(scores.reshape(logits.shape), logits)


@full_precision
def propagate_pixels(
    logits: Float[Tensor, "B C H W"],
    image: Float[Tensor, "B 3 H W"] | None,
    *,
    tau: float = 0.01,
    r: int = 13,
    alpha: float = 0.95,
    max_iter: int = 10,
    tol: float = 1e-6,
    pixel_feats: Float[Tensor, "B F H W"] | None = None,
    sigma: float = 0.0,
    distance_power: float = 1.0,
    backend: str = "auto",
    prune: bool = False,
) -> Float[Tensor, "B C H W"]:
    """Propagate scores over the pixels of an image, which sharpens their borders (LPOSS+).

    With f = Lab(image) / (100, 128, 128),

        w_ij = exp(-|f_i - f_j| / tau) for |dy| <= r//2, |dx| <= r//2, i != j, else 0
        S' = D^-1/2 w D^-1/2;  solve (I - alpha S') Y' = Y for each class

    The graph is a stencil: no edge is listed, and memory grows with pixels x (r^2 + classes).

    Args:
        logits: (B, C, H, W) scores at the image's size.
        image: (B, 3, H, W) RGB in [0, 1]; may be None where `pixel_feats` is given.
        tau: feature distance at which a weight falls to 1/e, > 0.
        r: side of the square neighbourhood in pixels; 13 gives 168 neighbours, 1 gives none, and
            an even side acts as the next odd one.
        alpha: strength of propagation, in [0, 1); 0 returns the logits.
        max_iter: budget of conjugate gradient steps; 10 is published, 1000 converges.
        tol: stop a class when its residual is at most tol |Y_c|.
        pixel_feats: (B, F, H, W) features in place of Lab, compared at the same tau: depth scaled
            to [0, 1], or `torch.cat([lab_features(image), depth], 1)`.
        sigma: decay with distance, >= 0; above 0 the weight is multiplied by exp(-sigma d^q).
        distance_power: exponent q of the distance d in pixels, > 0.
        backend: "torch", "llvm" (compiled code for a CPU), "triton" (a GPU), or "auto", the
            fastest that is installed and worth while; all agree to rounding.
        prune: whether to leave out classes that cannot win at any pixel, which saves their time.
            They get a score below all others, and no gradient. The argmax is exact for the
            converged solution, and nearly so after 10 steps, which differ from class to class.

    Returns:
        Refined scores (B, C, H, W), in the dtype of `logits`; computed in that dtype, float32 at
        least. Differentiable in `logits`; in `image` and `pixel_feats`, once, by backend "torch",
        which "auto" then takes.

    Raises:
        InputError: shapes that do not match, values that are not finite, an image outside [0, 1],
            an option out of range, or a backend that is not installed or cannot do this.

    >>> image = torch.zeros(1, 3, 4, 6)
    >>> image[..., 3:] = 1                                  # a black and a white half
    >>> logits = torch.zeros(1, 2, 4, 6)
    >>> logits[:, 0, :, :2] = 1                             # class 0 seen in two columns
    >>> logits[:, 1, :, 4:] = 1
    >>> propagate_pixels(logits, image).argmax(1)[0, 0]     # it spreads up to the edge
    tensor([0, 0, 0, 1, 1, 1])
    """
    if pixel_feats is None:
        guide = needed("image", image)
        check_tensors(logits=(logits, "B C H W"), image=(guide, "B 3 H W"))
        check_image(guide)
    else:
        guide = pixel_feats
        check_tensors(logits=(logits, "B C H W"), pixel_feats=(guide, "B F H W"))
    options = {
        "tau": tau, "r": r, "alpha": alpha, "max_iter": max_iter, "tol": tol, "sigma": sigma,
        "distance_power": distance_power, "backend": backend, "prune": prune,
    }  # fmt: skip
    check_options(_PIXEL_CHECKS, options)
    name = "image" if pixel_feats is None else "pixel_feats"
    taps = min(r, 2 * logits.shape[-2]) * min(r, 2 * logits.shape[-1])
    kernels = kernels_for(backend, logits, (name, guide), logits[0].numel() * taps * max_iter)

    dtype = compute_dtype(logits)

    def refined(labels: Tensor, guide: Tensor) -> Tensor:
        f = lab_features(guide[None])[0] if pixel_feats is None else guide
        graph = stencil_graph(
            f, tau=tau, r=r, sigma=sigma, distance_power=distance_power, kernels=kernels
        )
        solve = partial(_propagate, graph=graph, alpha=alpha, max_iter=max_iter, tol=tol)
        labels = labels.flatten(1)
        if not prune:
            return solve(labels)
        wins = possible_winners(labels.detach())
        solved = solve(labels[wins])
        # Below all others at every pixel, also when it is rounded to half precision.
        low, high = (float(bound) for bound in torch.aminmax(solved.detach()))
        below = low - 0.1 * (high - low) - max(abs(low), abs(high)) / 64
        rest = torch.full_like(labels, below)
        return rest.index_copy(0, wins.nonzero().flatten(), solved)

    guide = guide.to(dtype)
    check_finite("pixel_feats", guide)
    items = [refined(*pair) for pair in zip(logits.to(dtype), guide, strict=True)]
    scores = torch.stack(items) if len(items) > 1 else items[0][None]
    return returned(scores.reshape(logits.shape), logits)


def _propagate(
    labels: Float[Tensor, "C N"], graph: Graph, *, alpha: float, max_iter: int, tol: float
) -> Float[Tensor, "C N"]:
    """Solve (I - alpha S') Y' = Y, classes in groups that keep the solver's memory bounded."""
    gradient = labels.requires_grad and torch.is_grad_enabled()
    gradient = gradient or forward_ad.unpack_dual(labels).tangent is not None
    if isinstance(graph, PropagatingGraph) and not gradient:
        return graph.propagate(labels, alpha=alpha, max_iter=max_iter, tol=tol)[0]
    system = propagation_system(graph, torch.ones_like(labels[:1]), alpha)
    group = max(1, _SOLVER_BYTES // (6 * labels[0].nbytes))
    solved = [cg(system, part, tol=tol, max_iter=max_iter).value for part in labels.split(group)]
    return torch.cat(solved)


class PatchPropagation(Refiner, function=propagate_patches, needs=("feats",), checks=_PATCH_CHECKS):
    """`propagate_patches` as a module; it takes that function's options.

    >>> step = PatchPropagation(k=100)
    >>> step(torch.rand(1, 5, 8, 8), feats=torch.rand(1, 16, 8, 8)).shape
    torch.Size([1, 5, 8, 8])
    """

    patch_size: float

    def fitted(self, grid: tuple[int, int], pixels: tuple[int, int]) -> PatchPropagation:
        """Return this step with the patch size at which the grid spans the pixels.

        Left alone when grid x patch_size is within a patch of the pixels' size already.
        """
        size = fitted_patch_size(self.patch_size, grid, pixels)
        return self if size == self.patch_size else type(self)(**self.config | {"patch_size": size})

    def forward(
        self,
        logits: Float[Tensor, "B C h w"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
        windows: SlidingWindows | None = None,
    ) -> Float[Tensor, "B C h w"]:
        """Propagate over patches; `image` and `attention` are ignored."""
        return propagate_patches(logits, needed("feats", feats), windows=windows, **self.config)


class PixelPropagation(Refiner, function=propagate_pixels, needs=("image",), checks=_PIXEL_CHECKS):
    """`propagate_pixels` as a module; it takes that function's options.

    >>> step = PixelPropagation(r=5)
    >>> step(torch.rand(1, 5, 8, 8), image=torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 5, 8, 8])
    """

    def forward(
        self,
        logits: Float[Tensor, "B C H W"],
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
        pixel_feats: Tensor | None = None,
    ) -> Float[Tensor, "B C H W"]:
        """Propagate over pixels; `feats` and `attention` are ignored."""
        return propagate_pixels(logits, image, pixel_feats=pixel_feats, **self.config)
