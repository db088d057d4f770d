"""What a backend offers: four functions, and the graph that one of them returns.

Each backend is a package of `lpprop.kernels` with these functions at its top. They take tensors
that are checked already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Columns",
    "Graph",
    "IteratingGraph",
    "Kernels",
    "Offsets",
    "PropagatingGraph",
    "Rows",
]

#: Places (dy, dx) of neighbours, relative to a pixel.
Offsets = tuple[tuple[int, int], ...]
#: The grid row nearest to each pixel row, and the exponents of the k grid rows around it: minus
#: infinity outside the grid; k is odd.
Rows = tuple[Int[Tensor, " y"], Float[Tensor, "y a"]]
#: The same for pixel columns.
Columns = tuple[Int[Tensor, " x"], Float[Tensor, "x b"]]


@runtime_checkable
class Graph(Protocol):
    """A symmetric weighted graph over N nodes."""

    def product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours j of weight_ij x_j."""
        ...


@runtime_checkable
class PropagatingGraph(Graph, Protocol):
    """A graph whose backend fuses its product with conjugate gradients, without gradients."""

    def normalised_product(self, x: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
        """Sum over each node's neighbours by D^-1/2 W D^-1/2; differentiable in x."""
        ...

    def propagate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, max_iter: int, tol: float
    ) -> tuple[Float[Tensor, "C N"], Float[Tensor, " C"], Int[Tensor, " C"], Bool[Tensor, " C"]]:
        """Solve (I - alpha D^-1/2 W D^-1/2) x = scores from zero.

        The steps and the stopping rule are those of `numerics.cg`.

        Returns:
            The fields of a `CGResult`: the solutions, and per class the relative residual, the
            steps taken, and whether it converged.
        """
        ...


@runtime_checkable
class IteratingGraph(PropagatingGraph, Protocol):
    """A graph whose backend also fuses its product with steps that are known beforehand."""

    def iterate(
        self, scores: Float[Tensor, "C N"], *, alpha: float, steps: Sequence[tuple[float, float]]
    ) -> Float[Tensor, "C N"]:
        """Take the steps of `numerics.chebyshev.schedule` for (I - alpha D^-1/2 W D^-1/2).

        A pixel's result is the same to the last bit wherever it stands in an image, and whatever
        stands farther from it than its edges reach.
        """
        ...


@runtime_checkable
class Kernels(Protocol):
    """The hot loops of one backend; a package satisfies this by functions of these names."""

    def build_stencil(
        self,
        f: Float[Tensor, "F H W"],
        offsets: Offsets,
        spatial: tuple[float, ...],
        tau: float,
        *,
        squared: bool = False,
    ) -> Graph:
        """Join pixels at these offsets, both ways, by exp(-|f_i - f_j| / tau) times a factor.

        Args:
            f: features; float32 or float64.
            offsets: half of a square in reading order, from `portable.half_offsets`.
            spatial: the factor of each offset.
            tau: feature distance at which a weight falls to 1/e.
            squared: whether to square the distance: exp(-|f_i - f_j|^2 / tau).
        """
        ...

    def forecast_stencil(
        self, classes: int, size: tuple[int, int], features: int, neighbours: int, itemsize: int
    ) -> int:
        """Estimate the bytes of a stencil, and of what its own `propagate` takes, if it has one.

        Args:
            classes: number of classes that will be propagated.
            size: (H, W) of the image.
            features: features per pixel.
            neighbours: neighbours per pixel.
            itemsize: bytes per number.
        """
        ...

    def upsample(
        self,
        x: Float[Tensor, "C h w"],
        points: Float[Tensor, "3 h w"],
        pixels: Float[Tensor, "3 y x"],
        rows: Rows,
        columns: Columns,
    ) -> Float[Tensor, "C y x"]:
        """Average the scores of the grid points around each pixel (joint bilateral upsampling).

        The weights are the softmax of exponents: those of the pixel's row and column, less the
        squared distance of the colours.

        Args:
            x: scores at the grid points.
            points: colours of the grid points, divided by sigma_range.
            pixels: colours of the pixels, likewise.
            rows: grid rows around each pixel row, with their exponents.
            columns: grid columns around each pixel column, likewise.
        """
        ...

    def build_gibbs_kernel(
        self, cost: Float[Tensor, "N N"], scale: float, shift: float
    ) -> Float[Tensor, "N N"]:
        """Compute exp(shift - scale cost), which must not exceed 1."""
        ...
