"""What the checks of a call cost: `python -m benchmarks.checks` prints a table.

Each function that checks is replaced, in all modules that have it, by one that adds up the time
within it, less that of the checks it calls. So the parts of a call come from one and the same call.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any

import torch

import lpprop
from lpprop._core import checks, memory, options
from lpprop.compose import chain, composite, request
from lpprop.inputs import layout, left_out, regions, table
from lpprop.numerics import twins
from lpprop.refiners import BilinearUpsample  # noqa: F401  (which imports all refiners)

from .inputs import pixels, scene

KINDS = {
    "values": [
        checks.check_finite, checks.is_finite, checks.check_image, checks.finite_bounds,
        left_out.find_kept, request._warn_of_constant, regions.check_regions,
    ],
    "twins": [twins.match_twins],
    "memory": [memory.check_room, memory.available_bytes],
    "shapes and options": [
        checks.check_tensors, checks.check_axes, options.check_options, layout.check_layout,
        table.check_inputs, chain.Chain.check, composite.Composite.check_known,
    ],
}  # fmt: skip


class Spent:
    """Seconds by kind of check, each less what other checks take within it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.inner = [0.0]

    def watch(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            self.inner.append(0.0)
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[kind] += elapsed - self.inner.pop()
                self.inner[-1] += elapsed

        return watched


@contextmanager
def watching() -> Iterator[Spent]:
    """Replace the checks wherever they were imported, until the block ends."""
    spent, replaced = Spent(), []
    try:
        for kind, functions in KINDS.items():
            for function in functions:
                watched = spent.watch(kind, function)
                for owner in _owners():
                    for name, value in list(vars(owner).items()):
                        if value is function:
                            setattr(owner, name, watched)
                            replaced.append((owner, name, function))
        yield spent
    finally:
        for owner, name, function in replaced:
            setattr(owner, name, function)


def _owners() -> list[Any]:
    modules = [m for name, m in list(sys.modules.items()) if name.startswith("lpprop.")]
    return [*modules, chain.Chain, composite.Composite]


def calls(*, H: int, W: int, C: int, windows: bool) -> dict[str, Callable[[], torch.Tensor]]:
    inputs = pixels(H=H, W=W, C=C)
    logits, image = inputs.pixel_logits, inputs.image
    grid = torch.nn.functional.adaptive_avg_pool2d(logits, (H // 16, W // 16))
    cells = torch.arange(H)[:, None] // 32 * (W // 32 + 1) + torch.arange(W) // 32
    size = f"{H} x {W} x {C}"
    steps = {
        "propagate_pixels": partial(lpprop.propagate_pixels, logits, image, backend="llvm"),
        "joint_bilateral_upsample": partial(lpprop.joint_bilateral_upsample, grid, image),
        "region_vote": partial(lpprop.region_vote, logits, cells[None]),
    }
    if windows:
        cut = scene(H=H, W=W, window=224, stride=112, patch_size=16, D=768, C=C)
        boxes = lpprop.SlidingWindows((H, W), 224, 112)
        steps['refine("lposs+"), 15 windows'] = partial(
            lpprop.refine, cut.patch_logits, cut.patch_feats, image, windows=boxes, method="lposs+"
        )
    else:
        feats = torch.rand(1, 768, *grid.shape[-2:])
        steps['refine("lposs+")'] = partial(lpprop.refine, grid, feats, image, method="lposs+", k=4)
    return {f"{name}, {size}": call for name, call in steps.items()}


def measure(call: Callable[[], torch.Tensor], repeats: int) -> tuple[float, dict[str, float]]:
    """Return the median milliseconds of a call, and of each kind of check within it."""
    for _ in range(2):
        call()
    whole, parts = [], defaultdict(list)
    for _ in range(repeats):
        with watching() as spent:
            start = time.perf_counter()
            call()
            whole.append(1e3 * (time.perf_counter() - start))
        for kind in KINDS:
            parts[kind].append(1e3 * spent.seconds[kind])
    return statistics.median(whole), {kind: statistics.median(x) for kind, x in parts.items()}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="tiny calls alone")
    args = parser.parse_args(arguments)

    every = calls(H=64, W=64, C=2, windows=False)
    if not args.quick:
        every |= calls(H=448, W=597, C=21, windows=True)
    print("| milliseconds | the call |", " | ".join(KINDS), "| all checks |")
    print("|---|" + "--:|" * (len(KINDS) + 2))
    for name, call in every.items():
        whole, parts = measure(call, args.repeats)
        cells = " | ".join(f"{x:.2f}" for x in parts.values())
        print(f"| {name} | {whole:.2f} | {cells} | {sum(parts.values()) / whole:.1%} |", flush=True)


if __name__ == "__main__":
    main()
