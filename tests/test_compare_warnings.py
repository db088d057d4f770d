"""Doubtful input in a comparison: said beside the row that it belongs to, or once for all rows."""

import csv
import io
import warnings

import numpy as np
import pytest

from lpprop import InputWarning
from lpprop._core.errors import warn
from lpprop.comparison import Comparison, Row, compare

CLASSES, GRID, SIZE = 4, (3, 4), (48, 64)


def inputs(seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(CLASSES, *GRID)).astype(np.float32)
    feats = random.normal(size=(8, *GRID)).astype(np.float32)
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    return logits, feats, image


def doubter(*messages):
    """Make a method that warns each time it runs."""

    def method(logits, *, feats, image, attention):
        for message in messages:
            warn(message, message)
        return logits

    return method


def run(*args, **kwargs):
    """Compare; return what came, and the texts of the Python warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        comparison = compare(*args, **kwargs)
    assert all(warning.category is InputWarning for warning in caught)
    assert all(warning.filename == __file__ for warning in caught)
    return comparison, [str(warning.message) for warning in caught]


# --------------------------------------------------------------------------- rows


def test_each_row_has_its_own_warnings_and_python_sees_each_once():
    methods = {
        "a": doubter("A is odd"), "b": doubter("B is odd", "A is odd"), "c": doubter(),
    }  # fmt: skip
    comparison, seen = run(inputs()[0], methods=methods, size=SIZE, repeats=3)
    assert [row.warnings for row in comparison.rows] == [
        ("A is odd",), ("B is odd", "A is odd"), (),
    ]  # fmt: skip
    assert comparison.warnings == ()
    assert seen == ["A is odd", "B is odd"]


def test_a_patch_size_that_does_not_fit_is_said_beside_the_methods_with_patches():
    logits, feats, _ = inputs()
    image = np.zeros((96, 128, 3), np.uint8)
    comparison, seen = run(logits, feats, image, methods=["bilinear", "lposs", "lposs+"], repeats=1)
    bilinear, *others = (row.warnings for row in comparison.rows)
    assert bilinear == ()
    assert others == [tuple(seen)] * 2
    assert len(seen) == 1
    assert "does not span 96 x 128 pixels" in seen[0]


def test_a_skipped_row_keeps_what_was_said_before_it_failed():
    def failing(logits, *, feats, image, attention):
        warn("odd", "it is odd")
        raise ImportError("no package")

    methods = {"bilinear": "bilinear", "failing": failing}
    comparison, _ = run(inputs()[0], methods=methods, size=SIZE, repeats=1)
    assert comparison.rows[1] == Row("failing", skipped="no package", warnings=("it is odd",))
    assert "failing [1]: skipped. no package" in repr(comparison).splitlines()
    assert "failing [1]" in comparison._repr_html_()


@pytest.mark.parametrize("methods", [["lposs"], [doubter("odd")]], ids=["prepared", "run"])
def test_warnings_can_be_errors(methods):
    logits, feats, _ = inputs()
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        with pytest.raises(InputWarning):
            compare(logits, feats, np.zeros((96, 128, 3), np.uint8), methods=methods)


def test_sane_input_warns_never():
    """Pytest turns warnings into errors; a few absent classes and a border of 255 are ordinary."""
    gt = np.zeros(SIZE, int)
    gt[10:30], gt[30:] = 2, 255
    comparison = compare(*inputs(), gt=gt, repeats=1)
    assert comparison.warnings == ()
    assert not any(row.warnings for row in comparison.rows)


def test_marks_and_messages_in_every_table():
    labels = {name: np.zeros((2, 2), int) for name in "ab"}
    start = np.zeros((2, 2), int)
    rows = [
        Row("a", 0.001, changed=0.0, warnings=("<odd>", "even_")),
        Row("b", 0.002, changed=0.0, warnings=("even_",)),
    ]
    of_all = ("gt is <odd>",)
    comparison = Comparison(rows, labels, start, None, None, ["x"], "default", 255, of_all)
    assert repr(comparison).splitlines() == [
        "method     time (ms)  changed (%)",
        "a [1] [2]       1.00          0.0",
        "b [2]           2.00          0.0",
        "[1] <odd>",
        "[2] even_",
        "all rows: gt is <odd>",
    ]
    markdown = comparison.to_markdown()
    assert "| a \\[1\\] \\[2\\] | 1.00 |" in markdown
    assert "- \\[1\\] \\<odd\\>\n- \\[2\\] even\\_\n- all rows: gt is \\<odd\\>\n" in markdown
    html = comparison._repr_html_()
    assert html.count("[1] &lt;odd&gt;") == html.count("all rows: gt is &lt;odd&gt;") == 1
    assert ">a [1] [2]<" in html
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [line["warnings"] for line in lines] == ["<odd> | even_", "even_"]
    assert [line["method"] for line in lines] == ["a", "b"]


def test_what_is_measured_is_a_call_without_collecting(monkeypatch):
    """The clock and the memory see calls alone: as many as ever, and no Python warning in them."""
    shown = []
    monkeypatch.setattr(warnings, "showwarning", lambda *a, **k: shown.append(len(calls)))
    calls = []

    def method(logits, *, feats, image, attention):
        calls.append(1)
        warn("odd", "it is odd")
        return logits

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        compare(inputs()[0], methods=[method], size=SIZE, repeats=3)
    assert len(calls) == 5  # to warm up, for the memory, and three for the time
    assert shown == [1]
