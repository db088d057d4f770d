"""Label propagation in SciPy and faiss, written from the equations: the yardstick of the benchmark.

float32 throughout, int32 indices, faiss's exact search, one `scipy.sparse.linalg.cg` per class.
Every step is the fastest that we found in these libraries (see docs/benchmarks.md).
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

Array = NDArray[np.float32]
Slices = tuple[slice, slice]


def propagate_patches(
    logits: Array,
    feats: Array,
    boxes: NDArray[np.int64],
    *,
    k: int = 400,
    gamma: float = 3.0,
    sigma: float = 0.01,
    alpha: float = 0.95,
    patch_size: int = 16,
    max_iter: int = 10,
    tol: float = 1e-6,
) -> Array:
    """One graph over the patches of all windows.

    logits (n, C, h, w), feats (n, D, h, w), boxes (n, 4) of y1, y2, x1, x2 -> (n, C, h, w).
    """
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    n, C, h, w = logits.shape
    N = n * h * w
    x = np.ascontiguousarray(feats.transpose(0, 2, 3, 1).reshape(N, -1))
    faiss.normalize_L2(x)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    similarity, neighbour = index.search(x, min(k, N))

    # W = A ∘ P: a power of the similarity times an RBF of the distance of the patch centres.
    rows = boxes[:, 0, None, None] + patch_size // 2 + patch_size * np.arange(h)[:, None]
    cols = boxes[:, 2, None, None] + patch_size // 2 + patch_size * np.arange(w)
    cy, cx = (np.broadcast_to(c, (n, h, w)).ravel().astype(np.float32) for c in (rows, cols))
    distance = np.hypot(cy[neighbour] - cy[:, None], cx[neighbour] - cx[:, None])
    weights = np.maximum(similarity, 0) ** np.float32(gamma)
    weights *= np.exp(distance * np.float32(-sigma))
    weights[neighbour == np.arange(N)[:, None]] = 0
    starts = np.arange(N + 1, dtype=np.int32) * neighbour.shape[1]
    W = sparse.csr_array((weights.ravel(), neighbour.ravel().astype(np.int32), starts), (N, N))
    labels = logits.transpose(1, 0, 2, 3).reshape(C, N)
    refined = _propagate(W + W.T.tocsr(), labels, alpha, max_iter, tol)
    return refined.reshape(C, n, h, w).transpose(1, 0, 2, 3)


def propagate_pixels(
    logits: Array,
    image: Array,
    *,
    matrix: str = "csr",
    tau: float = 0.01,
    r: int = 13,
    alpha: float = 0.95,
    max_iter: int = 10,
    tol: float = 1e-6,
) -> Array:
    """logits (C, H, W), image (3, H, W) in [0, 1] -> (C, H, W).

    matrix "csr": an edge list made into CSR, as in the published code. "dia": the same matrix by
    its diagonals, which SciPy multiplies three times faster than CSR.
    """
    C, H, W = logits.shape
    N = H * W
    f = _lab(image) / np.array([100, 128, 128], np.float32)[:, None, None]
    edges = _half_edges(f, np.float32(tau), r)
    pixel = np.arange(N, dtype=np.int32).reshape(H, W)
    if matrix == "csr":
        i, j, w = (
            np.concatenate(parts)
            for parts in zip(
                *(
                    (pixel[here].ravel(), pixel[there].ravel(), w.ravel())
                    for here, there, w in edges
                ),
                strict=True,
            )
        )
        half = sparse.coo_array((w, (i, j)), (N, N)).tocsr()
        S = half + half.T.tocsr()
    else:
        diagonals: dict[int, Array] = {}
        for here, there, w in edges:
            offset = int(pixel[there].flat[0] - pixel[here].flat[0])
            for place, o in ((there, offset), (here, -offset)):  # a diagonal is stored by column
                diagonals.setdefault(o, np.zeros((H, W), np.float32))[place] += w
        values = np.reshape(list(diagonals.values()), (-1, N))
        S = sparse.dia_array((values, list(diagonals)), (N, N))
    return _propagate(S, logits.reshape(C, N), alpha, max_iter, tol).reshape(C, H, W)


def _half_edges(f: Array, tau: np.float32, r: int) -> Iterator[tuple[Slices, Slices, Array]]:
    """Yield each pair of neighbours once: the places of both ends, and exp(-|f_i - f_j| / tau)."""
    _, H, W = f.shape
    for dy in range(min(r // 2 + 1, H)):
        for dx in range(-(r // 2), r // 2 + 1):
            if (dy, dx) > (0, 0) and abs(dx) < W:
                here = slice(0, H - dy), slice(max(-dx, 0), W - max(dx, 0))
                there = slice(dy, H), slice(max(dx, 0), W - max(-dx, 0))
                difference = f[(..., *here)] - f[(..., *there)]
                norm = np.sqrt(np.einsum("fyx,fyx->yx", difference, difference))
                yield here, there, np.exp(norm / -tau)


def _propagate(S, labels: Array, alpha: float, max_iter: int, tol: float) -> Array:
    """Solve (I - alpha D^-1/2 S D^-1/2) y = labels, one class at a time, from zero."""
    degree = S @ np.ones(S.shape[0], np.float32)
    scale = np.sqrt(np.float32(alpha) / np.where(degree == 0, np.float32(1), degree))
    system = LinearOperator(
        S.shape, matvec=lambda y: y - scale * (S @ (scale * y)), dtype=np.float32
    )
    return np.stack([cg(system, y, rtol=tol, atol=0, maxiter=max_iter)[0] for y in labels])


def _lab(image: Array) -> Array:
    """CIE Lab (D65, 2 degrees) of sRGB (3, H, W) in [0, 1]."""
    linear = np.where(image > 0.04045, ((image + 0.055) / 1.055) ** 2.4, image / 12.92)
    to_xyz = np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    white = np.array([0.95047, 1.0, 1.08883])
    xyz = np.tensordot(to_xyz / white[:, None], linear, 1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)]).astype(np.float32)
