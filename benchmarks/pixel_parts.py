"""Where the time of the pixel step goes, part by part, and the least that each part could take.

The parts are those of the compiled backend on a CPU, for one group of classes. The floors are
timed, not computed: as many multiply-adds from registers, and as many bytes read and written in
memory. If a cache holds a whole vector, an update may take less.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch

import lpprop
from lpprop.inputs.colour import lab_features
from lpprop.kernels import llvm
from lpprop.kernels.llvm.builder import Array, Code, Index
from lpprop.kernels.llvm.jit import Kernel, compile_kernel
from lpprop.kernels.llvm.parallel import workers
from lpprop.kernels.llvm.stencil import ClassGroup
from lpprop.numerics.graphs import stencil_graph

from .inputs import pixels
from .work import Competitor, Work

STEPS = 10
PIECE = 128 * 2**20  # bytes per thread, more than a cache holds
IN_FLIGHT = 12  # sums at once, more than the multiply-adds that a core has in flight


def pixel_parts(r: int, **sizes: int) -> Work:
    inputs = pixels(**sizes)
    H, W, C = (sizes[name] for name in "HWC")
    labels = inputs.pixel_logits[0].flatten(1)
    parts = Parts(inputs.image[0], labels, r)
    kept, vector = parts.kept.weights.kept, parts.warm.r.nbytes
    assert kept is not None  # weights that are not stored are made by the products

    # The least to be moved: arrays larger than the cache, once for each use.
    of_products = STEPS * (kept.array.nbytes + 2 * vector)  # q read, the product written
    of_updates = (STEPS + 1) * 3 * vector + STEPS * 5 * vector
    of_packing = labels.nbytes + 2 * vector
    neighbours = parts.kept.weights.turns.size - 1  # the pixel itself has weight 0
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
        ("packing", "vectors made from scores", parts.packing),
        (
            "floor of the products: arithmetic",
            f"{sums / 1e9:.2f}e9 multiply-adds from registers, in vectors of {parts.warm.lanes}",
            lambda: multiply_adds(sums, parts.warm.lanes),
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
    """The parts of one solve, each of which can be called repeatedly."""

    def __init__(self, image: torch.Tensor, labels: torch.Tensor, r: int) -> None:
        self.image, self.labels, self.r = image, labels.numpy(), r
        self.one = np.ones(len(labels), self.labels.dtype)
        self.kept = self.graph()
        self.warm = self.group()
        with self.threads(self.warm) as group:
            group.pack(self.labels, self.one)

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

    def group(self) -> ClassGroup:
        degree = self.kept.weights.degree
        scale = np.where(degree > 0, degree, 1) ** -0.5
        return ClassGroup(self.kept, len(self.labels), scale, for_each=None)

    @contextmanager
    def threads(self, group: ClassGroup) -> Iterator[ClassGroup]:
        """Give the group as many threads as a solve has."""
        with workers(len(self.labels) * self.kept.weights.work) as group.for_each:
            yield group

    def products(self) -> None:
        with self.threads(self.warm) as group:
            for _ in range(STEPS):
                group.multiply(1.0, 0.95)

    def updates(self) -> None:
        # Steps of 0 cost as much as others, and leave everything as it is.
        nothing, x = np.zeros(self.warm.count), np.zeros_like(self.labels)
        with self.threads(self.warm) as group:
            group.lower_residual(nothing)
            for _ in range(STEPS):
                group.lower_residual(nothing)
                group.advance(x, nothing, nothing)

    def packing(self) -> None:
        with self.threads(self.group()) as group:
            group.pack(self.labels, self.one)


def moved(size: int) -> str:
    return f"{size / 1e9:.2f} GB, half of them read and half written, in place"


def move(size: int) -> None:
    """Read and write `size` bytes of memory in total, in all threads."""
    pieces = buffers()
    share = size // 2 // pieces.itemsize // len(pieces)

    def pass_over(piece: np.ndarray) -> None:
        for count in (*[len(piece)] * (share // len(piece)), share % len(piece)):
            np.multiply(piece[:count], 1, out=piece[:count])

    with workers(np.inf) as for_each:
        for_each(pass_over, [(piece,) for piece in pieces])


def multiply_adds(count: int, lanes: int) -> np.ndarray:
    """Do at least `count` multiply-adds, in all threads; return their sums."""
    kernel = in_registers(lanes)
    sums = np.zeros((torch.get_num_threads(), lanes * IN_FLIGHT), np.float32)
    rounds = -(-count // sums.size)

    with workers(np.inf) as for_each:
        for_each(lambda own: kernel(own, rounds), [(own,) for own in sums])
    return sums


@cache
def buffers() -> np.ndarray:
    return np.ones((torch.get_num_threads(), PIECE // 4), np.float32)


@cache
def in_registers(lanes: int) -> Kernel:
    def multiply_add(code: Code, sums: Array, rounds: Index) -> None:
        places = [code.index(i * lanes) for i in range(IN_FLIGHT)]
        totals = [code.variable(sums.load(place)) for place in places]
        factor = sums.load(places[0])
        with code.loop(0, rounds):
            for total in totals:
                total.set(code.fma(factor, factor, total.get()))
        for place, total in zip(places, totals, strict=True):
            sums.store(place, total.get())

    return compile_kernel(multiply_add, np.dtype(np.float32), lanes)
