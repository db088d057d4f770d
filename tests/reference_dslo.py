"""The dense float64 twins of the discrepancy methods: written out from the equations, nothing else.

Plain numpy in float64, with full plans and chains, one class and one patch at a time, so that each
can be read beside its equation. It imports nothing from the package under test, and it is slow on
purpose.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

import reference

# --------------------------------------------------------------------------- distributions


def softmax(z):
    """The softmax of a vector."""
    e = np.exp(z - z.max())
    return e / e.sum()


def class_distribution(
    logits,
    *,
    nms=0.9,
    threshold="relative",
    confidence="softmax",
    logit_scale=1.0,
    early_rejection=False,
):
    """f (B, C, N) of logits (B, C, h, w), class by class."""
    logits = np.asarray(logits, dtype=np.float64)
    B, C = logits.shape[:2]
    plain = logits.reshape(B, C, -1)
    z = logit_scale * plain
    f = np.zeros_like(z)
    for b in range(B):
        shares = np.stack([softmax(column) for column in z[b].T], axis=1)
        winners = {int(np.argmax(column)) for column in plain[b].T}
        for c in range(C):
            if early_rejection and c not in winners:
                continue
            if confidence == "softmax":
                q = shares[c]
            else:
                low, high = plain[b, c].min(), plain[b, c].max()
                q = (plain[b, c] - low) / (high - low) if high > low else np.ones_like(z[b, c])
            kept = q >= (nms * q.max() if threshold == "relative" else nms)
            if not kept.any():
                kept = q == q.max()
            f[b, c, kept] = softmax(z[b, c, kept])
    return f


def kl_discrepancy(f):
    """f log(f / u), term by term."""
    f = np.asarray(f, dtype=np.float64)
    u = 1 / f.shape[-1]
    return np.array([x * np.log(x / u) if x > 0 else 0.0 for x in f.ravel()]).reshape(f.shape)


# --------------------------------------------------------------------------- transport


def transport_plan(cost, f, *, epsilon, iterations):
    """pi (N, N) after so many updates of mu and nu, both from 1."""
    K = np.exp(-cost / epsilon)
    u, nu = 1 / len(f), np.ones(len(f))
    for _ in range(iterations):
        mu = f / (K @ nu)
        nu = u / (K.T @ mu)
    return np.diag(mu) @ K @ np.diag(nu)


def log_sum_exp(x):
    """log of the sum of exp(x), also where all are minus infinity."""
    top = x.max()
    return -np.inf if top == -np.inf else top + np.log(np.exp(x - top).sum())


def transport_plan_log(cost, f, *, epsilon, iterations):
    """The same by logarithms of mu and nu, one patch at a time, for an epsilon of any size."""
    N = len(f)
    log_f = np.array([np.log(x) if x > 0 else -np.inf for x in f])
    log_K = -cost / epsilon
    log_nu = np.zeros(N)
    for _ in range(iterations):
        log_mu = np.array([log_f[i] - log_sum_exp(log_K[i] + log_nu) for i in range(N)])
        log_nu = np.array([-np.log(N) - log_sum_exp(log_K[:, j] + log_mu) for j in range(N)])
    return np.exp(log_mu[:, None] + log_K + log_nu[None, :])


def optimal_path(
    distribution,
    cost,
    *,
    epsilon=0.1,
    iterations=50,
    norm="none",
    complement=False,
    plan=transport_plan,
):
    """path_j = Norm(sum_i pi_ij C_ij) for distributions (B, C, N) and costs (B, N, N)."""
    distribution = np.asarray(distribution, dtype=np.float64)
    paths = np.zeros_like(distribution)
    for b, C in enumerate(np.asarray(cost, dtype=np.float64)):
        C = 1 - C if complement else C
        for c, f in enumerate(distribution[b]):
            if not f.any():
                continue
            pi = plan(C, f, epsilon=epsilon, iterations=iterations)
            for j in range(len(f)):
                paths[b, c, j] = sum(pi[i, j] * C[i, j] for i in range(len(f)))
            if complement:
                paths[b, c] = 1 / len(f) - paths[b, c]
        if norm == "image":
            paths[b] /= np.abs(paths[b]).max()
        for c, f in enumerate(distribution[b]):
            if f.any() and norm == "class":
                paths[b, c] /= np.abs(paths[b, c]).max()
            if f.any() and norm == "sum":
                paths[b, c] /= paths[b, c].sum()
    return paths


# --------------------------------------------------------------------------- the Markov chain


def ipf(matrix, iterations):
    """Columns, then rows, so many times."""
    T = np.asarray(matrix, dtype=np.float64).copy()
    for _ in range(iterations):
        for j in range(len(T)):
            T[:, j] /= T[:, j].sum()
        for i in range(len(T)):
            T[i, :] /= T[i, :].sum()
    return T


def chain(f, T, steps, criterion):
    """p(0), …, p(steps) of one class."""
    p = f / f.max() if criterion == "arrival" else f
    states = [p]
    for _ in range(steps):
        p = np.array([sum(p[i] * T[i, j] for i in range(len(p))) for j in range(len(p))])
        p = p / p.max() if criterion == "arrival" else p
        states.append(p)
    return states


def velocity_of_patch(states, i, *, tau, criterion, first_step):
    """1 / (1 + t_i) or 1 / l_i of one patch, from the states of its class's chain."""
    max_steps = len(states) - 1
    if criterion == "arrival":
        if states[0][i] > tau:
            return 1.0
        for step in range(1, max_steps + 1):
            before, now = states[step - 1][i], states[step][i]
            if now > tau:
                rise = 1 - tau if first_step == "m2n2" and step == 1 else now - before
                return 1 / (1 + step - (now - tau) / rise)
    else:
        for step in range(1, max_steps + 1):
            if abs(states[step][i] - states[step - 1][i]) <= tau:
                return 1 / step
    return 1 / (1 + max_steps)


def max_velocity(
    distribution,
    attention,
    *,
    tau=0.3,
    ipf_iterations=15,
    criterion="arrival",
    first_step="m2n2",
    max_steps=1000,
):
    """Velocities (B, C, N) of distributions (B, C, N) on attention (B, N, N)."""
    distribution = np.asarray(distribution, dtype=np.float64)
    velocity = np.zeros_like(distribution)
    for b, A in enumerate(np.asarray(attention, dtype=np.float64)):
        T = ipf(A, ipf_iterations)
        for c, f in enumerate(distribution[b]):
            if not f.any():
                continue
            states = chain(f, T, max_steps, criterion)
            for i in range(len(f)):
                velocity[b, c, i] = velocity_of_patch(
                    states, i, tau=tau, criterion=criterion, first_step=first_step
                )
    return velocity


# --------------------------------------------------------------------------- upsampling


def joint_bilateral_upsample(
    x, image, *, sigma_space=1.0, sigma_range=0.1**0.5, radius=3, size=None
):
    """Scores (B, C, H, W) of x (B, C, h, w), one pixel and one grid point at a time.

    Places are fractions, and Python rounds their ties to even.
    """
    x, image = np.asarray(x, dtype=np.float64), np.asarray(image, dtype=np.float64)
    B, C, h, w = x.shape
    H, W = image.shape[2:] if size is None else size
    out = np.zeros((B, C, H, W))
    for b in range(B):
        points = np.stack([reference.bilinear(plane, (h, w)) for plane in image[b]])
        pixels = np.stack([reference.bilinear(plane, (H, W)) for plane in image[b]])
        for y in range(H):
            place_y = Fraction(2 * y + 1, 2) * Fraction(h, H) - Fraction(1, 2)
            for z in range(W):
                place_x = Fraction(2 * z + 1, 2) * Fraction(w, W) - Fraction(1, 2)
                exponents, scores = [], []
                for r, s in np.ndindex(h, w):
                    if max(abs(r - round(place_y)), abs(s - round(place_x))) <= radius:
                        space = float((place_y - r) ** 2 + (place_x - s) ** 2)
                        colour = ((pixels[:, y, z] - points[:, r, s]) ** 2).sum()
                        exponents.append(-space / sigma_space**2 - colour / sigma_range**2)
                        scores.append(x[b, :, r, s])
                out[b, :, y, z] = softmax(np.array(exponents)) @ np.array(scores)
    return out


# --------------------------------------------------------------------------- attention


def attention_from_features(feats, temperature=0.1):
    """softmax(cosine / temperature) of feats (B, D, h, w)."""
    feats = np.asarray(feats, dtype=np.float64)
    items = [reference.similarities(x.reshape(len(x), -1).T) for x in feats]
    return np.stack([[softmax(row / temperature) for row in cosines] for cosines in items])


def sharpen_attention(attention, temperature=0.65):
    """softmax(log A / temperature), row by row over the positive entries."""
    attention = np.asarray(attention, dtype=np.float64)
    sharp = np.zeros_like(attention)
    for b, i in np.ndindex(attention.shape[:2]):
        positive = attention[b, i] > 0
        sharp[b, i, positive] = softmax(np.log(attention[b, i, positive]) / temperature)
    return sharp


def tent_weights(n_in, n_out):
    """(n_out, n_in) bilinear weights; where the grid becomes coarser the tent grows to span it."""
    width = max(n_in / n_out, 1.0)
    W = np.zeros((n_out, n_in))
    for i in range(n_out):
        centre = (i + 0.5) * n_in / n_out
        for j in range(n_in):
            W[i, j] = max(1 - abs(j + 0.5 - centre) / width, 0.0)
        W[i] /= W[i].sum()
    return W


def resample_attention(S, grid, size):
    """S (M, M) over the keys, rows summing to 1, and then over the queries."""
    if grid == size:
        return S
    rows, columns = (tent_weights(a, b) for a, b in zip(grid, size, strict=True))

    def resized(plane):
        return (rows @ plane.reshape(grid) @ columns.T).ravel()

    keys = np.stack([resized(row) for row in S])
    keys = keys / keys.sum(axis=1, keepdims=True)
    return np.stack([resized(column) for column in keys.T], axis=1)


def aggregate_attention(maps, weights, size, grids):
    """Sum of w_b times the average over heads of each block; maps of (B, heads, M, M).

    A weight is a number a block, or a list of one number a head.
    """
    total = 0.0
    for S, weight, grid in zip(maps, weights, grids, strict=True):
        S = np.asarray(S, dtype=np.float64)
        heads = S.shape[1]
        shares = weight if isinstance(weight, list) else [weight / heads] * heads
        if sum(shares) == 0:
            continue
        items = []
        for item in S:
            normalised = [head / head.sum(axis=1, keepdims=True) for head in item]
            mean = sum(w * head for w, head in zip(shares, normalised, strict=True)) / sum(shares)
            items.append(sum(shares) * resample_attention(mean, grid, size))
        total = total + np.stack(items)
    return total / total.sum(axis=2, keepdims=True)
