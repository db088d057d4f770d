"""The Gibbs kernel of entropic transport on a CPU: one pass over the cost, into kept memory.

PyTorch takes two passes, and new pages of memory cost it more than the arithmetic.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.llvm.code import LANES, Array, Code, Index, Scalar, variant
from lpprop.kernels.llvm.memory import kept_tensor
from lpprop.kernels.llvm.parallel import workers

__all__ = ["gibbs"]

_MULTIPLICATIONS = 10  # of an exponential
_LOG2_E = math.log2(math.e)


def gibbs(cost: Float[Tensor, "N N"], scale: float, shift: float) -> Float[Tensor, "N N"]:
    """Compute exp(shift - scale cost), which must not exceed 1, without gradients."""
    x = cost.detach().contiguous().numpy().reshape(-1)
    result = kept_tensor(tuple(cost.shape), x.dtype)
    y = result.numpy().reshape(-1)
    kernel = variant(_gibbs, x.dtype)

    def part(start: int, stop: int) -> None:
        kernel(x, y, -scale * _LOG2_E, shift * _LOG2_E, start, stop)

    count, pieces = len(x) // LANES, torch.get_num_threads()
    edges = [count * piece // pieces * LANES for piece in range(pieces + 1)]
    with workers(_MULTIPLICATIONS * len(x)) as each:
        each(part, itertools.pairwise(edges))
    if rest := len(x) % LANES:
        last = np.zeros(LANES, x.dtype)
        last[:rest] = x[-rest:]
        kernel(last, last, -scale * _LOG2_E, shift * _LOG2_E, 0, LANES)
        y[-rest:] = last[:rest]
    return result


def _gibbs() -> Callable[..., None]:
    def gibbs(
        code: Code, x: Array, y: Array, factor: Scalar, shift: Scalar, start: Index, stop: Index
    ) -> None:
        factors, shifts = code.spread(factor), code.spread(shift)
        with code.loop(start, stop, LANES) as i:
            y.store(i, code.exp2(code.fma(x.load(i), factors, shifts)))

    return gibbs
