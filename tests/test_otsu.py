"""Otsu's threshold against scikit-image's, and against all splits of a small map."""

import numpy as np
import pytest
import torch

from lpprop import InputError
from lpprop.inputs.otsu import otsu_threshold


@pytest.mark.parametrize("bins", [16, 256])
def test_against_scikit_image(bins):
    filters = pytest.importorskip("skimage.filters")
    generator = torch.Generator().manual_seed(0)
    for shape in ((20, 30), (1, 7), (64, 64)):
        values = torch.rand(shape, generator=generator, dtype=torch.float64)
        for made in (values, values**4, -values, values.round(decimals=1), 1e6 + values):
            expected = filters.threshold_otsu(made.numpy(), nbins=bins)
            assert otsu_threshold(made, bins=bins) == pytest.approx(expected, rel=1e-12)


def test_the_split_is_the_best_of_all():
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(0, 11, (9, 9), generator=generator).double()  # one value per bin
    found = values.numpy().ravel()

    def within(split):
        return sum(part.var() * len(part) for part in (found[found <= split], found[found > split]))

    best = min(within(split) for split in range(10))
    assert within(otsu_threshold(values, bins=11)) == pytest.approx(best)


def test_two_values_and_one():
    values = torch.tensor([[0.25, 0.25, 0.75]])
    assert torch.equal(values > otsu_threshold(values), values > 0.5)
    assert otsu_threshold(torch.full((3, 3), 0.3)) == pytest.approx(0.3)
    assert not (torch.full((3, 3), 0.3) > otsu_threshold(torch.full((3, 3), 0.3))).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype(dtype):
    values = torch.linspace(0, 1, 64).reshape(8, 8).to(dtype)
    assert otsu_threshold(values) == otsu_threshold(values.double())


def test_what_is_no_map_is_refused():
    with pytest.raises(InputError, match=r"^values: got shape \(4,\)"):
        otsu_threshold(torch.rand(4))
    with pytest.raises(InputError, match=r"^values: "):
        otsu_threshold(torch.tensor([[0.0, np.nan]]))
    with pytest.raises(InputError, match=r"^bins: got 1, expected an integer >= 2"):
        otsu_threshold(torch.rand(4, 4), bins=1)
