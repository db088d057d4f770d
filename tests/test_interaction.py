"""What the page and the notebook view share: clicks, a control per option, the code."""

import ast

import pytest
import torch

import lpprop
from lpprop.evaluation.tuning.space import RANGES, tuned_options
from lpprop.interaction.clicks import Click, Clicks
from lpprop.interaction.code import code
from lpprop.interaction.controls import changed_options, controls

METHODS = lpprop.presets.METHODS


class TestClicks:
    def test_none_are_tensors_of_no_rows(self):
        assert Clicks().points.shape == (0, 2)
        assert Clicks().labels.dtype == torch.int64
        assert Clicks().undo() == Clicks().remove_nearest(1, 2) == Clicks()

    def test_each_change_leaves_the_clicks_as_they_were(self):
        first = Clicks([(1, 2, 0)])
        second = first.add(3, 4, 1)
        assert (len(first), len(second)) == (1, 2)
        assert second.undo() == first
        assert second[1] == Click(3, 4, 1)
        assert second[:1] == first
        assert hash(second[:1]) == hash(first)

    def test_the_nearest_goes_and_of_two_alike_the_later_one(self):
        clicks = Clicks([(0, 0, 0), (10, 0, 1), (10, 0, 2), (10, 9, 3)])
        assert clicks.remove_nearest(9, 3) == Clicks([(0, 0, 0), (10, 0, 1), (10, 9, 3)])

    @pytest.mark.parametrize(
        ("click", "named"),
        [
            ((-1, 0, 0), "row"),
            ((0, float("nan"), 0), "column"),
            ((0, 0, -1), "label"),
            ((0, 0, True), "label"),
        ],
    )
    def test_what_is_no_click(self, click, named):
        with pytest.raises(lpprop.InputError, match=f"^{named}: got"):
            Clicks().add(*click)


@pytest.mark.parametrize("method", METHODS)
def test_every_control_of_every_method_can_be_used(method):
    """The preset takes each end and each choice, and the text is that of the docstring."""
    preset = METHODS[method]
    shown = controls(method, patches=196)
    assert [control.name for control in shown] == list(tuned_options(preset, ["feats", "image"]))
    for control in shown:
        assert control.what
        assert "\n" not in control.what
        assert control.default == preset.options[control.name]
        if control.kind in ("float", "int"):
            assert control.low <= control.start <= control.high
            values = [control.low, control.start, control.high]
            assert all(isinstance(x, int) for x in values) or control.kind == "float"
            assert control.low > 0 or not control.log
        else:
            values = control.choices or (True, False)
            assert control.start in values
        if preset.is_installed:
            for value in values:
                preset(**{control.name: value})


def test_numbers_of_controls_are_those_of_the_tuner():
    shown = {control.name: control for control in controls("auto", patches=200)}
    assert shown["alpha"][1:6] == ("float", "auto", 0.55, 0.1, 0.99)
    assert shown["gamma"].start == 10  # the middle of 1 to 100, by factors
    assert (shown["r"].kind, shown["r"].step) == ("int", RANGES["PixelPropagation"]["r"].step)
    assert shown["k"].high == 200
    assert "temperature" not in [
        control.name for control in controls("max_velocity", given=["attention", "image"])
    ]


def test_controls_that_were_not_moved_keep_the_preset():
    shown = controls("auto")
    values = {control.name: control.start for control in shown}
    assert changed_options(shown, values) == {}
    assert changed_options(shown, values | {"k": 9}) == {"k": 9}


@pytest.mark.parametrize(("method", "patches"), [("lpos", 10), ("lposs", 1), ("lposs", True)])
def test_controls_of_what_is_not_there(method, patches):
    with pytest.raises(lpprop.InputError):
        controls(method, patches=patches)


class TestCode:
    def test_it_does_what_refine_does(self):
        logits, feats, image = (
            torch.rand(1, 3, 5, 6),
            torch.rand(1, 8, 5, 6),
            torch.rand(1, 3, 80, 96),
        )
        names = {"logits": logits, "feats": feats, "image": image}
        exec(code("lposs+", {"k": 4, "alpha": 0.8}), names)
        scores = lpprop.refine(logits, feats, image, method="lposs+", k=4, alpha=0.8)
        assert torch.equal(names["scores"], scores)
        assert torch.equal(names["labels"], scores.argmax(1)[0])

    def test_a_name_cannot_start_a_line(self):
        text = code("pamr", clicks=[(1, 2, 0)], size=(8, 8), names=["a\nraise SystemExit", "b"])
        assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Raise)]

    def test_many_clicks_are_wrapped(self):
        clicks = Clicks([(x / 3, 2.5, x % 7) for x in range(90)])
        text = code("auto", clicks=clicks, size=(64, 64), names=["cat", "dog"])
        assert max(map(len, text.splitlines())) <= 88
        known = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List)
        }
        assert (
            Clicks((*x, y) for x, y in zip(known["points"], known["marked"], strict=True)) == clicks
        )

    def test_an_unknown_method(self):
        with pytest.raises(lpprop.InputError, match="method"):
            code("lpos")
