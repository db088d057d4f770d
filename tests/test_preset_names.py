"""Methods under the name that one would write: each name, evaluated, builds the same chain."""

import copy
import pickle
import re

import numpy as np
import pytest

import lpprop
from lpprop import Chain, Fusion, presets
from lpprop.comparison import compare
from lpprop.compose.presets.naming import name_method

# Other values of the options whose defaults are no numbers and no choices.
OTHERS = {"size": (8, 9), "dilations": (3,), "scale": 7.0, "temperature": 0.5}
ROWS = [row for row in presets.METHODS.values() if row.is_installed]
OPTIONS = [(row, option) for row in ROWS for option in row.options]


def read(name):
    """Read a name as it is written: a preset, and options as keywords."""
    head, bracket, rest = name.partition("(")
    return presets.find(head), eval(f"dict({rest}") if bracket else {}


def built(name):
    preset, options = read(name)
    return preset(**options)


def other(row, option):
    """Return a value that differs from an option's default."""
    default = row.options[option]
    if option in OTHERS:
        return OTHERS[option]
    if isinstance(default, bool):
        return not default
    if isinstance(default, str):  # the error lists the choices
        with pytest.raises(lpprop.InputError) as refused:
            row(**{option: "?"})
        if "number" in str(refused.value) or "integer" in str(refused.value):
            return 3 if option == "k" else 0.625  # "auto", or a number
        choices = re.findall(r"'([^']+)'", str(refused.value).partition("expected")[2])
        return next(choice for choice in choices if choice != default)
    return default + 2 if isinstance(default, int) else default / 2 + 0.125


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_preset_is_called_by_its_name(row):
    assert name_method(row) == name_method(row.name) == name_method(row()) == row.name


@pytest.mark.parametrize(("row", "option"), OPTIONS, ids=lambda x: getattr(x, "name", x))
def test_one_other_option_is_the_only_one_that_is_named(row, option):
    value = other(row, option)
    chain = row(**{option: value})
    assert read(name_method(chain)) == (row, {option: value})
    assert repr(built(name_method(chain))) == repr(chain)
    assert name_method(row(**{option: row.options[option]})) == row.name


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_names_of_many_options_build_the_same_chain(row):
    random = np.random.default_rng(0)
    for _ in range(20):
        some = [option for option in row.options if random.random() < 0.4]
        chain = row(**{option: other(row, option) for option in some})
        for same in (chain, copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
            assert repr(built(name_method(same))) == repr(chain)


def test_what_feats_from_sets_is_named_by_it():
    assert name_method(presets.lposs(feats_from="dinov2")) == "lposs(feats_from='dinov2')"
    assert name_method(presets.lposs(feats_from="dinov2", k=9)) == "lposs(feats_from='dinov2', k=9)"
    assert name_method(presets.lposs(gamma=7)) == "lposs(gamma=7.0)"


def test_a_chain_is_named_after_what_it_is_now():
    chain = presets.lposs_plus()
    chain.steps[0].k = 50
    assert name_method(chain) == "lposs+(k=50)"
    chain.steps[2].alpha = 0.5  # which the preset sets for both steps at once
    # The other preset of these steps sets it for each by itself.
    assert name_method(chain) == "auto(k=50, gamma=3.0, alpha=0.95, pixel_alpha=0.5)"


def test_chains_that_no_preset_makes():
    path, velocity = lpprop.OptimalPath(), lpprop.MaxVelocity(tau=0.5)

    def mine(logits):
        return logits

    assert name_method(Chain(presets.lposs(k=9), lpprop.PAMR())) == "lposs(k=9) + PAMR"
    assert name_method(Chain(path, mine)) == "OptimalPath + mine"
    assert name_method(Chain(Fusion(path, velocity))) == "Fusion"
    assert name_method(Chain(path, velocity, temperature=0.5)) == (
        "OptimalPath + MaxVelocity(tau=0.5), temperature=0.5"
    )
    assert name_method(velocity) == "MaxVelocity(tau=0.5)"
    assert name_method(mine) == "mine"
    # The steps of the preset "fusion", in sequence.
    steps = presets.fusion().steps
    every = Chain(steps[0], *steps[1].steps, steps[2])
    assert name_method(every).startswith("ClassDistribution(early_rejection=True) + OptimalPath(")


def test_rows_of_a_comparison():
    logits = feats = np.eye(4, dtype=np.float32).reshape(4, 2, 2)
    methods = [presets.lposs(k=3), presets.lposs(), presets.lposs, "lposs", presets.lposs(k=3)]
    comparison = compare(logits, feats, size=(8, 8), methods=methods, repeats=1)
    assert [row.method for row in comparison.rows] == [
        "lposs(k=3)", "lposs", "lposs (2)", "lposs (3)", "lposs(k=3) (2)",
    ]  # fmt: skip
