"""Everything on a device without float64, as MPS is one: the fake device that refuses it.

What needs float64 is computed on the CPU then, so that no digit is lost.
"""

import numpy as np
import pytest
import torch

import lpprop
from lpprop.numerics.sinkhorn import sinkhorn
from test_contract import attention_of, call, close, distributions, mapped, placed, random, same
from test_devices import CALLS, ON_THE_CPU, ROWS, table


def single(inputs):
    return mapped(inputs, torch.Tensor.float)


@table(ROWS)
def test_the_contract(row, narrow):
    """Scores and gradients are float64's; float32 on the CPU is off from them by as much."""
    pytest.importorskip(row.package)
    inputs = single(row.inputs(2))
    wanted = ("logits", *row.differentiable) if row.smooth else ()

    def solve(device, change):
        here = placed(mapped(inputs, change), device)
        here |= {name: here[name].clone().requires_grad_() for name in wanted}
        scores = call(row, here)
        assert scores.device.type == torch.device(device).type
        if wanted:
            scores.square().sum().backward()
        return [x.detach().cpu().double() for x in (scores, *(here[n].grad for n in wanted))]

    exact = solve("cpu", torch.Tensor.double)
    there, here = solve(narrow, torch.Tensor.float), solve("cpu", torch.Tensor.float)
    for got, other, expected in zip(there, here, exact, strict=True):
        slack = 1e-5 * float(expected.abs().max())  # as much as in `close`
        allowed = slack + 4 * float((other - expected).abs().max())
        assert float((got - expected).abs().max()) <= allowed


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ON_THE_CPU])
def test_calls(name, narrow):
    """A float64 tensor anywhere on the device would raise."""
    CALLS[name](lambda x: (x.float() if x.is_floating_point() else x).to(narrow))


# What is computed in float64, by whichever processor: to the bit what the CPU gives.
EXACT = {
    "guided": lambda to: lpprop.guided_filter(
        to(random(0, 2, 3, 9, 8)), to(random(1, 2, 3, 9, 8, low=0, high=1)), radius=2, eps=1e-9
    ),
    "small epsilon": lambda to: lpprop.optimal_path(
        to(distributions(2)["logits"]), to(attention_of(1, 2, 12, 12)), epsilon=1e-4, iterations=3
    ),
    "vote": lambda to: lpprop.region_vote(
        to(random(0, 1, 2, 40, 30)), to(random(1, 1, 40, 30, low=0, high=3).long()), by="mean"
    ),
    "majority": lambda to: lpprop.region_vote(
        to(random(0, 1, 2, 9, 8)), to(random(1, 1, 9, 8, low=0, high=3).long()), by="vote"
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_no_digit_is_lost(name, narrow):
    def to(x, device):
        return (x.float() if x.is_floating_point() else x).to(device)

    got, expected = (EXACT[name](lambda x, d=d: to(x, d)) for d in (narrow, "cpu"))
    assert got.device.type == narrow.type
    same(got.cpu(), expected)


@pytest.mark.parametrize(("epsilon", "device"), [(1.0, "fake"), (1e-4, "cpu")])
def test_sinkhorn_says_where_it_is(epsilon, device, narrow):
    cost, f = attention_of(1, 12, 12).float(), distributions(1)["logits"][0].float()
    result = sinkhorn(cost.to(narrow), f.to(narrow), epsilon=epsilon, iterations=3)
    assert result.value[0].device.type == device
    for got, expected in zip(
        result.value, sinkhorn(cost, f, epsilon=epsilon, iterations=3).value, strict=True
    ):
        same(got.cpu(), expected)


def test_arrays_of_float64_are_narrowed(narrow):
    """An array, which NumPy makes of float64 by itself, goes where the scores are."""
    scores, image = random(0, 1, 2, 4, 5).float(), random(1, 1, 3, 8, 10, low=0, high=1).numpy()
    masks = np.stack([image[0, 0] > 0.5, image[0, 1] > 0.5]).astype(np.float64)
    for options in ({"method": "joint_bilateral"}, {"method": "region_vote", "regions": masks}):
        got = lpprop.refine(scores.to(narrow), image=image, **options)
        expected = lpprop.refine(scores, image=image.astype(np.float32), **options)
        assert got.device.type == narrow.type
        close(got.cpu(), expected)


REFUSED = {
    "made": lambda device: torch.zeros(2, dtype=torch.float64, device=device),
    "made of a list": lambda device: torch.tensor([0.5], dtype=torch.float64, device=device),
    "moved": lambda device: torch.zeros(2, dtype=torch.float64).to(device),
    "cast": lambda device: torch.zeros(2, device=device).double(),
    "cast while moved": lambda device: torch.zeros(2, device=device).to("cpu", torch.float64),
    "summed": lambda device: torch.zeros(2, device=device).sum(dtype=torch.float64),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_device_refuses_float64(name, narrow):
    with pytest.raises(TypeError, match="float64"):
        REFUSED[name](narrow)


def test_the_other_fake_device_has_float64(there):
    for make in REFUSED.values():
        assert make(there).dtype == torch.float64
