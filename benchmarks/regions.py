"""The region vote against bilinear upsampling, and other sums over regions: `python -m
benchmarks.regions`.

The regions are blocks of pixels, about as many as superpixels have. The other ways take the mean
over them too: all differ in how the scores of a region are summed.
"""

import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import lpprop

from .command import publish, read_arguments
from .contract import measure
from .inputs import pixels
from .work import Competitor, Work, aim

PACKAGES = "lpprop torch numpy"

FULL = {"h": 28, "w": 37, "H": 448, "W": 597, "C": 21, "side": 21}
TINY = {"h": 6, "w": 9, "H": 48, "W": 64, "C": 3, "side": 8}
BY = ("mean", "vote", "probability")

#: How values (C, N) are summed over the numbers (N,) of count regions: (C, count).
SUMS: dict[str, tuple[str, Callable[[Tensor, Tensor, int], Tensor]]] = {
    "index_add": (
        "all classes at once, float32",
        lambda x, numbers, count: x.new_zeros(len(x), count).index_add_(1, numbers, x),
    ),
    "index_add, rows": (
        "of pixels by classes, float32",
        lambda x, numbers, count: x.new_zeros(count, len(x)).index_add_(0, numbers, x.T).T,
    ),
    "bincount": (
        "a class at a time, float64",
        lambda x, numbers, count: torch.stack(
            [torch.bincount(numbers, row.double(), count) for row in x]
        ).to(x.dtype),
    ),
    "sorted segments": (
        "pixels by classes in the order of their regions, float32",
        lambda x, numbers, count: _sum_segments(x, numbers, count),
    ),
    "CSR": (
        "a sparse matrix of regions by pixels, float32",
        lambda x, numbers, count: _sum_by_matrix(x, numbers, count),
    ),
}


def region_vote(device: str, by: str, h: int, w: int, H: int, W: int, C: int, side: int) -> Work:
    inputs = pixels(H, W, C)
    scores = inputs.pixel_logits.to(device)
    coarse = F.adaptive_avg_pool2d(scores, (h, w))
    rows, columns = torch.arange(H) // side, torch.arange(W) // side
    maps = (rows[:, None] * (int(columns[-1]) + 1) + columns)[None].to(device)
    others = SUMS if by == "mean" else {}
    return Work(
        name=f"region vote, {by}",
        sizes={"h": h, "w": w, "H": H, "W": W, "C": C, "regions": int(maps.max()) + 1},
        tolerance=1e-4,
        competitors=[
            Competitor(
                "lpprop",
                f'region_vote, by="{by}", float32',
                partial(lpprop.region_vote, scores, maps, by=by),
            ),
            *(
                Competitor(name, note, partial(_mean, scores, maps, sums))
                for name, (note, sums) in others.items()
            ),
            Competitor(
                "bilinear",
                "bilinear_upsample of the patches; aim: the vote takes at most 3 times as long",
                partial(lpprop.bilinear_upsample, coarse, (H, W)),
                target=aim(device, 1 / 3),
                comparable=False,
            ),
        ],
    )


def _mean(scores: Tensor, maps: Tensor, sums: Callable[[Tensor, Tensor, int], Tensor]) -> Tensor:
    """The mean over regions, and back at their pixels; the areas are summed as the scores are."""
    numbers, values = maps.flatten(), scores[0].flatten(1)
    count = int(numbers.max()) + 1
    means = sums(values, numbers, count) / torch.bincount(numbers, minlength=count)
    return means.gather(1, numbers.expand(len(values), -1)).view_as(scores)


def _sum_segments(values: Tensor, numbers: Tensor, count: int) -> Tensor:
    lengths = torch.bincount(numbers, minlength=count)
    return torch.segment_reduce(values.T[numbers.argsort()], "sum", lengths=lengths).T


def _sum_by_matrix(values: Tensor, numbers: Tensor, count: int) -> Tensor:
    columns = numbers.argsort()
    starts = F.pad(torch.bincount(numbers, minlength=count).cumsum(0), (1, 0))
    ones = values.new_ones(len(numbers))
    size = (count, len(numbers))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch's CSR may change
        matrix = torch.sparse_csr_tensor(starts, columns, ones, size, check_invariants=False)
    return (matrix @ values.T).T


def main(arguments: list[str] | None = None) -> None:
    args = read_arguments("regions", arguments, rounds="rounds")
    sizes = TINY if args.quick else FULL
    works = [
        measure(
            partial(region_vote, args.device, by, **sizes),
            repeats=args.repeats,
            device=args.device,
            tiny=None if args.quick else partial(region_vote, args.device, by, **TINY | {"C": 21}),
        )
        for by in BY
    ]
    publish("regions", works, args, PACKAGES)


if __name__ == "__main__":
    main()
