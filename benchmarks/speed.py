"""How fast every step is, against a yardstick each: `python -m benchmarks.speed`.

It times the pixel step against SciPy, DenseCRF and PAMR, its first call, its parts and large
images; the first call of `refine` against a later one; the patch step and the two discrepancy
methods against the bare matrix products that they consist of; both steps together; the upsampling
against kornia. All sides take the same float32 arrays, and all that belongs to a method (colours,
graph, weights, solve) is timed.

DenseCRF is left out if it is not installed, and `versions` of the result says so. Aims are for a
CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from . import discrepancy, products
from .command import publish, read_arguments
from .contract import measure
from .first_refine import first_refine
from .patch_step import both_steps, patch_step
from .pixel_step import first_call, large_image, pixel_step
from .upsampling import upsampling
from .work import Work

PACKAGES = "lpprop torch numpy scipy llvmlite kornia faiss-cpu pydensecrf2"

IMAGE = {"H": 448, "W": 597, "C": 21}
WINDOWS = IMAGE | {"window": 224, "stride": 112, "patch_size": 16, "D": 768}
# 128 x 128 patches of one image: too many for a matrix of all pairs.
GRID = {"H": 128, "W": 128, "C": 21, "window": 128, "stride": 128, "patch_size": 1, "D": 768}
LARGE = ({"H": 1024, "W": 2048, "C": 19}, {"H": 512, "W": 683, "C": 150})
PATCHES = {"side": 64, "C": 21}
ONE_VIEW = IMAGE | {"patch_size": 16, "D": 768, "k": 100}
TINY_IMAGE = {"H": 48, "W": 64, "C": 3}
TINY_VIEW = TINY_IMAGE | {"patch_size": 8, "D": 16, "k": 9}
TINY_WINDOWS = TINY_IMAGE | {"window": 32, "stride": 16, "patch_size": 8, "D": 16}


@dataclass(frozen=True)
class Plan:
    """A work at its full sizes and at tiny ones.

    `memory`: whether to measure its peak; `processes`: whether each call starts one, which takes
    so long that a quick run makes each call once.
    """

    step: partial[Work]
    full: Sequence[Mapping[str, Any]]
    tiny: Mapping[str, Any]
    repeats: int
    memory: bool = False
    processes: bool = False

    def run(self, device: str, quick: bool) -> list[dict[str, Any]]:
        if quick:
            repeats = 0 if self.processes else self.repeats
            return [measure(partial(self.step, **self.tiny), repeats=repeats, device=device)]
        return [
            measure(
                partial(self.step, **sizes),
                repeats=self.repeats,
                device=device,
                # As many classes, since the compiled code depends on them.
                tiny=partial(self.step, **self.tiny | {"C": sizes["C"]}) if self.memory else None,
            )
            for sizes in self.full
        ]


def plans(device: str, repeats: int) -> list[Plan]:
    few = -(-repeats // 2)  # of what takes seconds
    full, tiny = IMAGE | {"r": 13}, TINY_IMAGE | {"r": 5}
    large = [sizes | {"r": 13, "base": IMAGE} for sizes in LARGE]
    sized = {"h": 28, "w": 37} | IMAGE, {"h": 6, "w": 9} | TINY_IMAGE
    both = {"k": 400, "r": 13}, {"k": 9, "r": 5}
    step, velocity = (partial(f, device) for f in (patch_step, products.max_velocity))
    paths = [partial(products.optimal_path, device, cost) for cost in discrepancy.COSTS]
    return [
        Plan(partial(pixel_step, device), [full], tiny, few, memory=True),
        Plan(partial(first_call, device), [full], tiny, few, processes=True),
        Plan(partial(first_refine, device), [ONE_VIEW], TINY_VIEW, repeats, processes=True),
        Plan(partial(large_image, device), large, tiny | {"base": TINY_IMAGE}, few, memory=True),
        Plan(partial(upsampling, device), [sized[0]], sized[1], few, memory=True),
        Plan(step, [WINDOWS | {"k": 400}], TINY_WINDOWS | {"k": 9}, 2 * repeats, memory=True),
        Plan(step, [GRID | {"k": 400}], TINY_WINDOWS | {"k": 9}, 1, memory=True),
        Plan(partial(both_steps, device), [WINDOWS | both[0]], TINY_WINDOWS | both[1], few),
        Plan(paths[0], [PATCHES], discrepancy.TINY, repeats),
        Plan(paths[1], [PATCHES], discrepancy.TINY, few),
        Plan(velocity, [PATCHES], discrepancy.TINY, few),
    ]


def parts_plan(repeats: int) -> Plan:
    from .pixel_parts import pixel_parts  # which needs compiled code for a CPU

    return Plan(partial(pixel_parts), [IMAGE | {"r": 13}], TINY_IMAGE | {"r": 5}, repeats)


def main(arguments: list[str] | None = None) -> None:
    rounds = "rounds; twice as many for the patch step, half as many for what takes seconds"
    args = read_arguments("speed", arguments, rounds=rounds)

    planned = plans(args.device, args.repeats)
    if args.device == "cpu":
        planned.insert(2, parts_plan(args.repeats))
    works = list(chain.from_iterable(plan.run(args.device, args.quick) for plan in planned))
    publish("speed", works, args, PACKAGES)


if __name__ == "__main__":
    main()
