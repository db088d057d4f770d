"""Where the time of the pixel step goes, part by part, and the least that the parts could take.

The parts are those of the compiled backend on a CPU, for one group of classes. The floors are
timed, not computed: as many multiply-adds from registers, and as many bytes read and written in
memory. Where a cache holds a whole vector, an update may take less.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

import lpprop
from lpprop.inputs.colour import lab_features
from lpprop.kernels import llvm
from lpprop.kernels.llvm.code import LANES, Array, Code, Index, Kernel, compiled
from lpprop.kernels.llvm.parallel import workers
from lpprop.kernels.llvm.stencil import _Work
from lpprop.numerics.graphs import stencil_graph

from .inputs import pixels
from .work import Competitor, Work

STEPS = 10
PIECE = 128 * 2**20  # bytes that a thread goes through, more than a cache holds
IN_FLIGHT = 12  # sums at once: more than the multiply-adds that a core works on at a time


def pixel_parts(r: int, **sizes: int) -> Work:
    inputs = pixels(**sizes)
    H, W, C = (sizes[name] for name in "HWC")
    labels = inputs.pixel_logits[0].flatten(1)
    parts = Parts(inputs.image[0], labels, r)
    assert parts.kept.weights is not None  # what is not stored would be made by the products
    weights, vector = parts.kept.weights.array, parts.warm.r.nbytes

    # What must be moved at least: arrays larger than the cache, once each time they are used.
    of_products = STEPS * (weights.nbytes + 2 * vector)  # q read, the product written
    of_updates = (STEPS + 1) * 3 * vector + STEPS * 5 * vector
    of_packing = 2 * labels.nbytes + 3 * vector
    neighbours = weights.shape[2] - 1  # the pixel itself has weight 0
    sums = STEPS * H * W * C * neighbours
    rows = [
        (
            "lpprop, llvm",
            'propagate_pixels, backend="llvm", float32',
            lambda: lpprop.propagate_pixels(
                inputs.pixel_logits, inputs.image, r=r, max_iter=STEPS, tol=0, backend="llvm"
            ),
        ),
        ("colours and weights", "Lab of the image, all weights", parts.graph),
        ("ten products", "of the graph with all classes", parts.products),
        (
            "vector updates",
            "11 of the residual, 10 of the rest",
            parts.updates,
        ),
        ("packing", "vectors made, classes put next to each other and back", parts.packing),
        (
            "floor of the products: arithmetic",
            f"{sums / 1e9:.2f}e9 multiply-adds from registers, in vectors of {LANES}",
            lambda: multiply_adds(sums),
        ),
        ("floor of the products: memory", moved(of_products), lambda: move(of_products)),
        ("floor of the updates: memory", moved(of_updates), lambda: move(of_updates)),
        ("floor of the packing: memory", moved(of_packing), lambda: move(of_packing)),
    ]
    return Work(
        name="pixel step, its parts",
        sizes=sizes | {"r": r, "steps": STEPS},
        tolerance=1e-4,  # not used: parts give no result
        competitors=[Competitor(*row, comparable=False) for row in rows],
    )


class Parts:
    """The parts of one solve, each of which can be called again and again."""

    def __init__(self, image: torch.Tensor, labels: torch.Tensor, r: int) -> None:
        self.image, self.labels, self.r = image, labels.numpy(), r
        self.one = np.ones(len(labels), self.labels.dtype)
        self.kept = self.graph()
        self.warm = self.work()
        with self.threads(self.warm) as work:
            work.start(self.labels, self.one)

    def graph(self) -> llvm.Stencil:
        graph = stencil_graph(
            lab_features(self.image[None])[0],
            tau=0.01,
            r=self.r,
            sigma=0.0,
            distance_power=1.0,
            kernels=llvm,
        )
        assert isinstance(graph, llvm.Stencil)
        return graph

    def work(self) -> _Work:
        scale = np.where(self.kept.degree > 0, self.kept.degree, 1) ** -0.5
        return _Work(self.kept, len(self.labels), scale, each=None)

    @contextmanager
    def threads(self, work: _Work) -> Iterator[_Work]:
        """Give it as many threads as a solve has."""
        with workers(self.labels.size * self.kept.decay.size) as work.each:
            yield work

    def products(self) -> None:
        with self.threads(self.warm) as work:
            for _ in range(STEPS):
                work.multiply(1.0, 0.95)

    def updates(self) -> None:
        # Steps of 0, whose cost is that of all others, leave everything as it is.
        nothing = np.zeros(self.warm.lanes)
        with self.threads(self.warm) as work:
            work.update(nothing)
            for _ in range(STEPS):
                work.update(nothing)
                work.turn(nothing, nothing)

    def packing(self) -> None:
        value = np.empty_like(self.labels)
        with self.threads(self.work()) as work:
            work.start(self.labels, self.one)
            work.finish(work.x, value, self.one)


def moved(size: int) -> str:
    return f"{size / 1e9:.2f} GB, half of them read and half written, in place"


def move(size: int) -> None:
    """Read and write pieces in memory until it is `size` bytes, in all threads."""
    pieces = buffers()
    share = size // 2 // pieces.itemsize // len(pieces)

    def pass_over(piece: np.ndarray) -> None:
        for count in (*[len(piece)] * (share // len(piece)), share % len(piece)):
            np.multiply(piece[:count], 1, out=piece[:count])

    with workers(np.inf) as each:
        each(pass_over, [(piece,) for piece in pieces])


def multiply_adds(count: int) -> np.ndarray:
    """Do at least as many multiply-adds, in all threads; return their sums."""
    kernel = in_registers()
    sums = np.zeros((torch.get_num_threads(), LANES * IN_FLIGHT), np.float32)
    rounds = -(-count // sums.size)

    with workers(np.inf) as each:
        each(lambda own: kernel(own, rounds), [(own,) for own in sums])
    return sums


@cache
def buffers() -> np.ndarray:
    return np.ones((torch.get_num_threads(), PIECE // 4), np.float32)


@cache
def in_registers() -> Kernel:
    def multiply_add(code: Code, sums: Array, rounds: Index) -> None:
        places = [code.index(i * LANES) for i in range(IN_FLIGHT)]
        totals = [code.variable(sums.load(place)) for place in places]
        factor = sums.load(places[0])
        with code.loop(0, rounds):
            for total in totals:
                total.set(code.fma(factor, factor, total.get()))
        for place, total in zip(places, totals, strict=True):
            sums.store(place, total.get())

    return compiled(multiply_add, np.dtype(np.float32))
