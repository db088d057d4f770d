"""The DSLO refiners against plain torch: `python -m benchmarks.discrepancy`.

Optimal path and maximum velocity of 21 and 150 classes on 1,024 and 4,096 patches, against loops
over the classes. All sides take the same float32 tensors.

The optimal path is timed at the paper's setting, where a few updates reach rounding, and on a cost
that needs all 50. At the first, lpprop gains by stopping early as well as by taking the classes
together; a loop that stops by the same rule tells the two gains apart.
"""

import math
from functools import partial

import torch.nn.functional as F
from torch import Tensor

import lpprop
from lpprop.numerics.sinkhorn import sinkhorn

from . import torch_loops
from .command import publish, read_arguments
from .contract import measure
from .inputs import Scene, scene
from .work import Competitor, Work

# Each cost with its epsilon: the attention spans 3 to 5 epsilons, the distance 28.
COSTS = {"attention": 0.1, "1 - cosine": 0.05}
LEAST_SPEEDUP = {21: 2.0, 150: 5.0}  # by the number of classes
TINY = {"side": 8, "C": 3, "D": 16}


def patches(side: int, C: int, D: int = 64) -> tuple[Scene, Tensor]:
    """A scene of side x side patches, and the distributions of its classes over them."""
    inputs = scene(H=side, W=side, window=side, stride=side, patch_size=1, D=D, C=C)
    return inputs, lpprop.class_distribution(inputs.patch_logits.log())


def transport(device: str, cost_name: str, **sizes: int) -> tuple[Tensor, Tensor, float]:
    """Distributions (1, C, N), costs (1, N, N), and the epsilon of the cost."""
    inputs, f = patches(**sizes)
    if cost_name == "attention":
        cost = lpprop.attention_from_features(inputs.patch_feats)
    else:
        x = F.normalize(inputs.patch_feats.flatten(2), dim=1)
        cost = 1 - x.mT @ x
    return f.to(device), cost.to(device), COSTS[cost_name]


def optimal_path(device: str, cost_name: str, side: int, C: int, **sizes: int) -> Work:
    f, cost, epsilon = transport(device, cost_name, side=side, C=C, **sizes)
    updates = int(sinkhorn(cost[0], f[0], epsilon=epsilon).iterations.max())
    loop = partial(torch_loops.optimal_path, f[0], cost[0], epsilon=epsilon)
    return Work(
        name=f"optimal path, cost {cost_name}, epsilon {epsilon}",
        sizes={"N": side**2, "C": C, "iterations": updates},
        # A sum of 4,096 float32 is off by about √N roundings, 4e-6. On a slow cost the loop that
        # stops may be off by as much again: rows within 8 roundings are not yet the fixed point.
        tolerance=2e-5,
        competitors=[
            Competitor(
                "lpprop",
                "optimal_path, float32",
                lambda: lpprop.optimal_path(f, cost, epsilon=epsilon)[0],
            ),
            Competitor(
                "torch loop",
                "a class at a time, 50 iterations of matrix-vector products",
                loop,
                target=LEAST_SPEEDUP.get(C) if device == "cpu" else None,
            ),
            Competitor(
                "torch loop that stops",
                "the same, each class until its rows hold to 8 roundings",
                partial(loop, roundings=8),
            ),
        ],
    )


def max_velocity(device: str, side: int, C: int, **sizes: int) -> Work:
    inputs, f = patches(side, C, **sizes)
    f = f.to(device)
    attention = lpprop.attention_from_features(inputs.patch_feats.to(device))
    slowest = float(lpprop.max_velocity(f, attention).min())
    return Work(
        name="maximum velocity",
        sizes={"N": side**2, "C": C, "steps": math.ceil(1 / slowest - 1)},
        # After its steps p is off by up to 1.4e-5. The arrival divides this error by the rise of p
        # in the step, so the velocity's is up to 20 times as large: both measured in float64.
        tolerance=3e-4,
        competitors=[
            Competitor(
                "lpprop",
                "max_velocity, float32",
                lambda: lpprop.max_velocity(f, attention)[0],
            ),
            Competitor(
                "torch loop",
                "the same chain, a class at a time until its last patch arrives",
                partial(torch_loops.max_velocity, f[0], attention[0]),
            ),
        ],
    )


def main(arguments: list[str] | None = None) -> None:
    rounds = "rounds; a third of them on 4,096 patches, and one with 150 classes"
    args = read_arguments("discrepancy", arguments, rounds=rounds)

    many, few = args.repeats, -(-args.repeats // 3)
    small = [({"side": 32, "C": C}, many) for C in (21, 150)]
    large = {"side": 64, "C": 21}
    # A loop over 150 classes on 4,096 patches takes up to a minute: it is called once.
    largest = {"side": 64, "C": 150}
    attention, distance = (partial(optimal_path, args.device, cost) for cost in COSTS)
    works = []
    for step, full in (
        (attention, [*small, (large, few), (largest, 0)]),
        (distance, [*small, (large, few)]),
        (partial(max_velocity, args.device), [*small, (large, few), (largest, 0)]),
    ):
        tiny = partial(step, **TINY)
        if args.quick:
            works.append(measure(tiny, repeats=many, device=args.device))
            continue
        for sizes, repeats in full:
            build, warm_up = partial(step, **sizes), tiny if sizes["side"] == 32 else None
            works.append(measure(build, repeats=repeats, device=args.device, tiny=warm_up))
    publish("discrepancy", works, args, "lpprop torch")


if __name__ == "__main__":
    main()
