"""DenseCRF's mean field from the paper's equations: dense kernels, float64, nothing approximate."""

from __future__ import annotations

import torch


def places(height, width):
    """(N, 2) pixels in row-major order."""
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    return torch.stack([rows, columns], -1).reshape(-1, 2)


def normalised_kernel(features, joined=1.0):
    """(N, F) features -> (N, N) Gaussian kernel, each pixel's own weight among them, k'.

    `joined` says which pixels are neighbours.
    """
    kernel = joined * torch.exp(-0.5 * torch.cdist(features, features).square())
    root = kernel.sum(1).rsqrt()
    return root[:, None] * kernel * root


def mean_field(
    log_probabilities,
    image,
    *,
    iterations=5,
    w1=10.0,
    theta_alpha=80.0,
    theta_beta=13.0,
    w2=3.0,
    theta_gamma=3.0,
    r=None,
):
    """(C, H, W) and (3, H, W) in [0, 1] -> (C, H, W) probabilities.

    With `r`, the kernels are cut to the r x r square around each pixel.
    """
    shape = log_probabilities.shape
    unary = log_probabilities.double().flatten(1).T
    place, colour = places(*shape[1:]), 255 * image.double().flatten(1).T
    appearance = torch.cat([place / theta_alpha, colour / theta_beta], 1)
    joined = torch.ones((), dtype=torch.float64)
    if r is not None:
        joined = (torch.cdist(place, place, p=float("inf")) <= r // 2).double()
    kernel = w1 * normalised_kernel(appearance, joined)
    kernel += w2 * normalised_kernel(place / theta_gamma, joined)
    marginals = unary.softmax(1)
    for _ in range(iterations):
        marginals = (unary + kernel @ marginals).softmax(1)
    return marginals.T.reshape(shape)
