"""The DSLO refiners in plain torch, written from the equations: the yardstick of the benchmark.

They are written as the paper suggests: a Python loop over the classes around matrix-vector
products, and upsampling by a loop over the neighbours. They compute in the dtype of the inputs,
check nothing, and keep no exponent in range.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def optimal_path(
    f: Tensor, cost: Tensor, *, epsilon: float = 0.1, iterations: int = 50, roundings: int = 0
) -> Tensor:
    """Sinkhorn's iteration, one class at a time: f (C, N), cost (N, N) -> (C, N).

    With `roundings` a class stops once the rows of its plan sum to f within so many roundings.
    """
    K = torch.exp(-cost / epsilon)
    weighted = K * cost
    N = len(cost)
    limit = roundings * torch.finfo(f.dtype).eps
    paths = []
    for f_c in f:
        mu, nu = torch.zeros_like(f_c), torch.ones_like(f_c)
        for _ in range(iterations):
            rows = K @ nu
            if roundings and (mu * rows - f_c).abs().sum() <= limit:
                break
            mu = f_c / rows
            nu = 1 / N / (K.T @ mu)
        paths.append((weighted.T @ mu) * nu)
    return torch.stack(paths)


def max_velocity(
    f: Tensor,
    attention: Tensor,
    *,
    tau: float = 0.3,
    ipf_iterations: int = 15,
    max_steps: int = 1000,
) -> Tensor:
    """The walk, one class at a time until its last patch arrives: (C, N), (N, N) -> (C, N)."""
    T = attention
    for _ in range(ipf_iterations):
        T = T / T.sum(0)
        T = T / T.sum(1, keepdim=True)
    velocities = []
    for f_c in f:
        p = f_c / f_c.max()
        waiting = p <= tau
        arrival = max_steps * waiting.to(p)
        for step in range(1, max_steps + 1):
            if not waiting.any():
                break
            before, p = p, p @ T
            p = p / p.max()
            arrives = waiting & (p > tau)
            rise = p - before if step > 1 else torch.full_like(p, 1 - tau)
            arrival[arrives] = step - ((p - tau) / rise)[arrives]
            waiting = waiting & ~arrives
        velocities.append(1 / (1 + arrival))
    return torch.stack(velocities)


def upsample_by_offsets(
    x: Tensor,
    image: Tensor,
    *,
    sigma_space: float = 1.0,
    sigma_range: float = 0.1**0.5,
    radius: int = 3,
) -> Tensor:
    """Joint bilateral upsampling by a loop over the offsets of the window: one image in memory."""
    (h, w), (H, W) = x.shape[-2:], image.shape[-2:]
    points = F.interpolate(image, (h, w), mode="bilinear")
    (py, cy), (px, cx) = _places(H, h, x), _places(W, w, x)
    weighted, total = x.new_zeros(*x.shape[:2], H, W), x.new_zeros(1, 1, H, W)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            qy, qx = cy + dy, cx + dx
            inside = ((qy >= 0) & (qy < h))[:, None] & (qx >= 0) & (qx < w)
            exponent = -((py - qy)[:, None] ** 2 + (px - qx) ** 2) / sigma_space**2
            qy, qx = qy.clamp(0, h - 1), qx.clamp(0, w - 1)
            colour = (image - points[:, :, qy][..., qx]).square().sum(1, keepdim=True)
            weight = inside * torch.exp(exponent - colour / sigma_range**2)
            weighted.addcmul_(weight, x[:, :, qy][..., qx])
            total += weight
    return weighted / total


def _places(pixels: int, points: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Where each pixel lies on the grid, and the grid point next to it."""
    places = (torch.arange(pixels, device=like.device).to(like) + 0.5) * (points / pixels) - 0.5
    return places, places.round().long()
