"""Optimal path and maximum velocity against the products of matrices in them, by PyTorch."""

import torch
from torch import Tensor

import lpprop
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

from .discrepancy import patches, transport
from .work import Competitor, Work, aim

# How long a method may take, relative to its products.
MOST_OVER_PRODUCTS = 1.5


def optimal_path(device: str, cost_name: str, side: int, C: int, **sizes: int) -> Work:
    f, cost, epsilon = transport(device, cost_name, side=side, C=C, **sizes)
    sums = f[0].sum(-1, keepdim=True)  # optimal_path scales f so, and may stop an update later
    counts = sinkhorn(cost[0], f[0] / sums, epsilon=epsilon).iterations
    updates = int(counts.max())
    # Each class stops by itself: an update takes the rows of the classes that still run.
    rows = [int((counts >= step).sum()) for step in range(1, updates + 1)]
    K = torch.exp(-cost[0] / epsilon)
    weighted = K * cost[0]

    def products() -> Tensor:
        for n in rows:
            f[0, :n] @ K.T, f[0, :n] @ K
        return f[0] @ weighted

    def plain() -> Tensor:
        K = torch.exp(-cost[0] / epsilon)
        nu = torch.ones_like(f[0])
        for _ in range(updates):
            mu = f[0] / (nu @ K.T)
            nu = 1 / f.shape[-1] / (mu @ K)
        return (mu @ (K * cost[0])) * nu

    return Work(
        name=f"optimal path and its products, cost {cost_name}, epsilon {epsilon}",
        sizes={"N": side**2, "C": C, "updates": updates, "products": 2 * updates + 1},
        # A sum of 4,096 float32 is off by about √N roundings, 4e-6.
        tolerance=2e-5,
        competitors=[
            Competitor(
                "lpprop",
                "optimal_path, float32",
                lambda: lpprop.optimal_path(f, cost, epsilon=epsilon)[0],
            ),
            Competitor(
                "products alone",
                "what the equations need: two (n, N) x (N, N) an update, n the classes that still "
                f"go ({sum(rows)} rows in all), and one (C, N) x (N, N) with the weighted kernel; "
                "kernels made beforehand: a floor",
                products,
                target=aim(device, 1 / MOST_OVER_PRODUCTS),
                comparable=False,
            ),
            Competitor(
                "plain torch",
                "all classes together, as many updates, kernels made; nothing is held in range",
                plain,
            ),
        ],
    )


def max_velocity(device: str, side: int, C: int, **sizes: int) -> Work:
    inputs, f = patches(side, C, **sizes)
    f = f.to(device)
    attention = lpprop.attention_from_features(inputs.patch_feats.to(device))
    sweeps = ipf(attention[0]).iterations
    # A class walks until its last patch has arrived: 1 / velocity - 1 steps, rounded up.
    slowest = lpprop.max_velocity(f, attention)[0].amin(-1).double()
    steps = (1 / slowest - 1).ceil().int()
    rows = [int((steps >= step).sum()) for step in range(1, int(steps.max()) + 1)]
    ones = torch.ones_like(f[0, 0])

    def products() -> Tensor:
        for _ in range(sweeps):
            attention[0] @ ones, ones @ attention[0]
        for n in rows:
            following = f[0, :n] @ attention[0]
        return following

    return Work(
        name="maximum velocity and its products",
        sizes={"N": side**2, "C": C, "sweeps": sweeps, "steps": len(rows), "rows": sum(rows)},
        # Not used: benchmarks.discrepancy compares the result with that of a loop.
        tolerance=3e-4,
        competitors=[
            Competitor(
                "lpprop",
                "max_velocity, float32",
                lambda: lpprop.max_velocity(f, attention)[0],
            ),
            Competitor(
                "products alone",
                f"what the equations need: {sweeps} sweeps of two (N, N) x (N) each, and one "
                f"(n, N) x (N, N) a step, n the classes that still walk ({sum(rows)} rows in all): "
                "a floor",
                products,
                target=aim(device, 1 / MOST_OVER_PRODUCTS),
                comparable=False,
            ),
        ],
    )
