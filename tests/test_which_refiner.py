"""What docs/which_refiner.md advises can be called; its tables have tests with their benchmarks."""

import ast
import re
from pathlib import Path

import pytest
import torch

import lpprop

PAGE = (Path(__file__).parents[1] / "docs" / "which_refiner.md").read_text(encoding="utf-8")
DECISIONS = PAGE.split("## In short\n")[1].split("\n## ")[0]
ADVISED = sorted(set(re.findall(r'`"([\w+]+)"((?:, \w+=[\w."]+)*)`', DECISIONS)))


@pytest.mark.parametrize(("method", "options"), ADVISED)
def test_the_advice_is_a_method_with_these_options(method, options):
    found = ast.parse(f"f({options.removeprefix(', ')})", mode="eval").body.keywords
    given = {option.arg: ast.literal_eval(option.value) for option in found}
    chain = lpprop.presets.by_name(method, **given)
    built = {name: value for step in chain.steps for name, value in vars(step).items()}
    assert given.items() <= built.items()


def test_there_is_advice_to_test():
    assert {"lposs+", "max_velocity", "optimal_path", "pamr"} <= {method for method, _ in ADVISED}
    assert sum(bool(options) for _, options in ADVISED) >= 4


def test_the_pixel_step_as_it_is_spelt_there():
    (code,) = re.findall(r"^The pixel step is `(.+)`, as `method=`", PAGE, re.MULTILINE)
    method = eval(code, {"lpprop": lpprop})
    scores = lpprop.refine(torch.rand(1, 3, 4, 5), image=torch.rand(1, 3, 32, 40), method=method)
    assert scores.shape == (1, 3, 32, 40)


def test_every_method_is_placed():
    named = set(re.findall(r'`"?([\w+]+)"?`|method="([\w+]+)"', PAGE))
    assert set(lpprop.presets.METHODS) <= {name for pair in named for name in pair}
