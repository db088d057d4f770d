"""The dense float64 twin: label propagation written out from the equations, and nothing else.

Plain numpy in float64, with full matrices and one class at a time, so that it can be read beside
the equations. It imports nothing from the package under test, and it is slow on purpose.
"""

from __future__ import annotations

import numpy as np

# --------------------------------------------------------------------------- the linear system


def normalise(S):
    """Ŝ = D^-1/2 S D^-1/2 with the row sums D, where an empty row counts as 1."""
    D = S.sum(axis=1)
    root = np.sqrt(np.where(D == 0, 1.0, D))
    return S / root[:, None] / root[None, :]


def cg(A, b, *, tol, max_iter):
    """Conjugate gradients for ONE right-hand side, from zero; stop at ‖r‖ ≤ tol·‖b‖ or max_iter."""
    x = np.zeros_like(b)
    r = b.copy()
    p = r.copy()
    rr = float(r @ r)
    stop = tol * np.sqrt(float(b @ b))
    for _ in range(max_iter):
        if np.sqrt(rr) <= stop:
            break
        Ap = A @ p
        step = rr / float(p @ Ap)
        x = x + step * p
        r = r - step * Ap
        rr_next = float(r @ r)
        p = r + (rr_next / rr) * p
        rr = rr_next
    return x


def propagate(S, Y, *, alpha, max_iter, tol, exact=False):
    """Solve (I − alpha Ŝ) Ŷ = Y for Y (C, N): by CG class by class, or exactly."""
    system = np.eye(len(S)) - alpha * normalise(S)
    if exact:
        return np.linalg.solve(system, Y.T).T
    return np.stack([cg(system, y, tol=tol, max_iter=max_iter) for y in Y])


# --------------------------------------------------------------------------- the patch graph


def patch_centres(h, w, patch_size, corner=(0, 0)):
    """(h·w, 2) centres (y1 + p//2 + r·p, x1 + p//2 + c·p), row-major."""
    y1, x1 = corner
    p = patch_size
    return np.array(
        [(y1 + p // 2 + r * p, x1 + p // 2 + c * p) for r in range(h) for c in range(w)],
        dtype=np.float64,
    )


def unit_rows(X):
    """Rows of length one; a zero row stays zero."""
    norm = np.sqrt((X**2).sum(axis=1, keepdims=True))
    return X / np.where(norm == 0, 1.0, norm)


def similarities(X):
    """(N, N) cosines of the rows of X (N, D)."""
    X = unit_rows(np.asarray(X, dtype=np.float64))
    return X @ X.T


def neighbour_gap(X, k):
    """Least difference of a row's k-th and (k+1)-th similarity: 0 where kNN is ambiguous."""
    s = -np.sort(-similarities(X), axis=1)
    return np.inf if k >= len(s) else float((s[:, k - 1] - s[:, k]).min())


def patch_graph(
    X,
    centres,
    *,
    k=400,
    gamma=3.0,
    sigma=0.01,
    distance_power=1.0,
    appearance="power",
    sigma_a=1 / 3,
    spatial="rbf",
    times=None,
    sigma_time=0.0,
):
    """S (N, N), not yet normalised, of the patches with features X (N, D) at centres (N, 2).

    `times` (N,): when each patch was seen; k is the number of all neighbours, whenever they were.
    """
    s = similarities(X)
    N = len(s)
    W = np.zeros((N, N))
    for i in range(N):
        nearest = np.argsort(-s[i], kind="stable")[: min(k, N)]
        for j in nearest:
            if appearance == "power":
                A = max(s[i, j], 0.0) ** gamma
            else:
                A = np.exp(-(1 - s[i, j]) / sigma_a)
            d = np.hypot(*(centres[i] - centres[j]))
            if spatial == "rbf":
                P = np.exp(-sigma * d**distance_power)
            elif spatial == "linear":
                P = max(1 - sigma * d**distance_power, 0.0)
            else:
                P = 1.0
            if times is not None:
                P *= np.exp(-sigma_time * abs(times[i] - times[j]))
            W[i, j] = A * P
    S = W + W.T
    np.fill_diagonal(S, 0.0)
    return S


def propagate_patches(
    logits,
    feats,
    *,
    alpha=0.95,
    patch_size=16,
    windows=None,
    max_iter=10,
    tol=1e-6,
    exact=False,
    **graph,
):
    """The patch step for logits (B, C, h, w) and feats (B, D, h, w).

    With windows, boxes (n, 4) as y1, y2, x1, x2, one graph joins the patches of all items.
    """
    logits = np.asarray(logits, dtype=np.float64)
    feats = np.asarray(feats, dtype=np.float64)
    n, C, h, w = logits.shape
    solve = {"alpha": alpha, "max_iter": max_iter, "tol": tol, "exact": exact}

    def rows(x):
        return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])

    if windows is None:
        centres = patch_centres(h, w, patch_size)
        return np.stack(
            [
                propagate(
                    patch_graph(rows(x[None]), centres, **graph), rows(y[None]).T, **solve
                ).reshape(C, h, w)
                for x, y in zip(feats, logits, strict=True)
            ]
        )
    corners = [(y1, x1) for y1, _, x1, _ in np.asarray(windows)]
    centres = np.concatenate([patch_centres(h, w, patch_size, corner) for corner in corners])
    refined = propagate(patch_graph(rows(feats), centres, **graph), rows(logits).T, **solve)
    return np.moveaxis(refined.reshape(C, n, h, w), 0, 1)


# --------------------------------------------------------------------------- the pixel graph


def lab(image):
    """CIE Lab (D65, 2°) of sRGB (3, H, W) in [0, 1], by the CIE's piecewise definition."""
    image = np.asarray(image, dtype=np.float64)
    linear = np.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    # sRGB primaries to XYZ, and the D65 white, to the digits that colour libraries carry.
    to_xyz = np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    white = np.array([0.95047, 1.0, 1.08883])
    xyz = np.einsum("ij,jhw->ihw", to_xyz, linear) / white[:, None, None]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def lab_features(image):
    """f = Lab / (100, 128, 128) of one image (3, H, W)."""
    return lab(image) / np.array([100.0, 128.0, 128.0])[:, None, None]


def pixel_graph(f, *, tau=0.01, r=13, sigma=0.0, distance_power=1.0):
    """S (H·W, H·W), not yet normalised, of pixels with features f (F, H, W)."""
    _, H, W = f.shape
    reach = r // 2
    S = np.zeros((H * W, H * W))
    for y in range(H):
        for x in range(W):
            for v in range(max(y - reach, 0), min(y + reach, H - 1) + 1):
                for u in range(max(x - reach, 0), min(x + reach, W - 1) + 1):
                    if (v, u) == (y, x):
                        continue
                    weight = np.exp(-np.linalg.norm(f[:, y, x] - f[:, v, u]) / tau)
                    if sigma > 0:
                        weight *= np.exp(-sigma * np.hypot(y - v, x - u) ** distance_power)
                    S[y * W + x, v * W + u] = weight
    return S


def propagate_pixels(
    logits,
    image=None,
    *,
    alpha=0.95,
    max_iter=10,
    tol=1e-6,
    pixel_feats=None,
    exact=False,
    **graph,
):
    """The pixel step for logits (B, C, H, W) and image (B, 3, H, W) or pixel_feats (B, F, H, W)."""
    logits = np.asarray(logits, dtype=np.float64)
    features = [lab_features(i) for i in image] if pixel_feats is None else np.asarray(pixel_feats)
    solve = {"alpha": alpha, "max_iter": max_iter, "tol": tol, "exact": exact}
    return np.stack(
        [
            propagate(
                pixel_graph(np.asarray(f, dtype=np.float64), **graph),
                y.reshape(len(y), -1),
                **solve,
            ).reshape(y.shape)
            for y, f in zip(logits, features, strict=True)
        ]
    )


# --------------------------------------------------------------------------- windows and upsampling


def window_boxes(H, W, window, stride):
    """(n, 4) boxes y1, y2, x1, x2 in the order of mmsegmentation's slide inference."""
    rows = max(H - window + stride - 1, 0) // stride + 1
    columns = max(W - window + stride - 1, 0) // stride + 1
    boxes = []
    for i in range(rows):
        for j in range(columns):
            y2 = min(i * stride + window, H)
            x2 = min(j * stride + window, W)
            boxes.append((max(y2 - window, 0), y2, max(x2 - window, 0), x2))
    return np.array(boxes, dtype=np.int64)


def _taps(n_in, n_out, i):
    """The two source indices of output i and the weight of the second (align_corners False)."""
    source = max((i + 0.5) * n_in / n_out - 0.5, 0.0)
    low = min(int(source), n_in - 1)
    return low, min(low + 1, n_in - 1), source - low


def bilinear(x, size):
    """One map (h, w) at the given size, pixel by pixel."""
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros(size)
    for i in range(size[0]):
        top, bottom, fy = _taps(x.shape[0], size[0], i)
        for j in range(size[1]):
            left, right, fx = _taps(x.shape[1], size[1], j)
            upper = (1 - fx) * x[top, left] + fx * x[top, right]
            lower = (1 - fx) * x[bottom, left] + fx * x[bottom, right]
            out[i, j] = (1 - fy) * upper + fy * lower
    return out


def merge_windows(scores, boxes, size):
    """Each window (C, h, w) bilinearly at the size of its box; overlaps averaged: (C, H, W)."""
    C = len(scores[0])
    total = np.zeros((C, *size))
    count = np.zeros(size)
    for score, (y1, y2, x1, x2) in zip(scores, boxes, strict=True):
        for c in range(C):
            total[c, y1:y2, x1:x2] += bilinear(score[c], (y2 - y1, x2 - x1))
        count[y1:y2, x1:x2] += 1
    return total / count


# --------------------------------------------------------------------------- comparison


def class_error(got, expected):
    """The largest deviation of a class map, relative to the largest entry of that expected map.

    Classes are solved apart and differ by orders of magnitude: a tolerance over all of them would
    say nothing about the faint ones. A map that must be zero has to be exactly zero.
    """
    got = np.asarray(got, dtype=np.float64)
    expected = np.asarray(expected, dtype=np.float64)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert np.isfinite(got).all(), "not finite"
    axes = (-2, -1)
    scale = np.abs(expected).max(axis=axes)
    deviation = np.abs(got - expected).max(axis=axes)
    relative = deviation / np.where(scale == 0, np.finfo(float).tiny, scale)
    return float(np.where(deviation == 0, 0.0, relative).max())
