"""The Gibbs kernel of entropic transport on a CPU: one pass over the cost, into pooled memory.

PyTorch takes two passes, and getting new pages of memory costs it more than the arithmetic.
"""

import itertools
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lpprop.kernels.llvm.builder import LANES, Array, Code, Index, Scalar
from lpprop.kernels.llvm.jit import Kernel, specialise
from lpprop.kernels.llvm.parallel import workers
from lpprop.kernels.memory import borrow_tensor

__all__ = ["build_gibbs_kernel"]

_MULTIPLICATIONS = 10  # per exponential
_LOG2_E = math.log2(math.e)


def build_gibbs_kernel(
    cost: Float[Tensor, "N N"], scale: float, shift: float
) -> Float[Tensor, "N N"]:
    """Compute exp(shift - scale cost), which must not exceed 1, without gradients."""
    x = cost.detach().contiguous().numpy().reshape(-1)
    result = borrow_tensor(tuple(cost.shape), x.dtype)
    y = result.numpy().reshape(-1)
    kernel = specialise(_gibbs_loop, x.dtype)
    factors = -scale * _LOG2_E, shift * _LOG2_E

    def fill(start: int, stop: int) -> None:
        kernel(x, y, *factors, start, stop)

    count, pieces = len(x) // LANES, torch.get_num_threads()
    edges = [count * piece // pieces * LANES for piece in range(pieces + 1)]
    with workers(_MULTIPLICATIONS * len(x)) as for_each:
        for_each(fill, itertools.pairwise(edges))
    if rest := len(x) % LANES:
        last = np.zeros(LANES, x.dtype)
        last[:rest] = x[-rest:]
        kernel(last, last, *factors, 0, LANES)
        y[-rest:] = last[:rest]
    return result


def _gibbs_loop() -> Kernel:
    def fill(
        code: Code, x: Array, y: Array, factor: Scalar, shift: Scalar, start: Index, stop: Index
    ) -> None:
        factors, shifts = code.splat(factor), code.splat(shift)
        with code.loop(start, stop, LANES) as i:
            y.store(i, code.exp2(code.fma(x.load(i), factors, shifts)))

    return fill
