"""Doubtful input in a comparison: said beside the row that it belongs to, or once for all rows."""

import csv
import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lpprop import InputError, InputWarning, presets
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
    methods = ["bilinear", presets.lposs(k=3), presets.lposs_plus(k=3)]
    comparison, seen = run(logits, feats, image, methods=methods, repeats=1)
    bilinear, *others = (row.warnings for row in comparison.rows)
    assert bilinear == ()
    assert others == [tuple(seen)] * 2
    assert len(seen) == 1
    assert "not 96 x 128: distances are taken as if patches had 32" in seen[0]


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
    methods = ["bilinear", "joint_bilateral", presets.lposs_plus(k=3), "max_velocity", "pamr"]
    comparison = compare(*inputs(), gt=gt, methods=methods, repeats=1)
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


# --------------------------------------------------------------------------- ground truth

NAMES = ["sky", "cat", "sofa", "wall"]
# Half of the pixels are of class 1, a quarter each of 2 and 3; the logits are right.
RIGHT = np.kron([[1, 2], [1, 3]], np.ones((24, 32), int))
LOGITS = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[RIGHT], -1, 0)


def judged(gt, logits=LOGITS, **kwargs):
    """Compare with a gt; return the comparison and its warning about all rows, if there is one."""
    comparison, seen = run(
        logits, size=SIZE, methods=["bilinear"], gt=gt, class_names=NAMES, repeats=1, **kwargs
    )
    assert list(comparison.warnings) == seen
    assert not comparison.rows[0].warnings
    for message in seen:
        assert repr(comparison).count(f"all rows: {message}") == 1
    return comparison, " ".join(seen)


def mask(share, inside, outside=0):
    """Make a map whose first columns hold one label, and the others another."""
    return np.where(np.arange(SIZE[1]) < share * SIZE[1], inside, outside) * np.ones(SIZE, int)


@pytest.mark.parametrize(
    ("gt", "said"),
    [
        (RIGHT, ""),
        (np.where(RIGHT == 1, 255, RIGHT), ""),  # half of the pixels are ignored
        (mask(0.25, 0, 2), ""),  # two classes of four
        (mask(0.05, 2, 255), ""),  # one object, where the background does not count
        (mask(0.25, 255), "gt: got the class 0 (sky) alone, and 25.0 % of the pixels are 255 "
         "(ignore_index). If this is a mask of 0 and 255, its object never counts: make it "
         "(gt == 255), as integers."),
        (mask(0, 0, 2), "gt: got the class 2 (sofa) at every pixel, so that mIoU tells little."),
        (np.where(np.arange(48 * 64).reshape(SIZE) < 30, RIGHT, 255), "gt: got 99.0 % of the "
         "pixels as 255 (ignore_index), which does not count"),
        (np.where(np.arange(48 * 64).reshape(SIZE) < 31, RIGHT, 255), ""),
    ],
)  # fmt: skip
def test_gt_that_is_probably_not_what_was_meant(gt, said):
    _, seen = judged(gt)
    assert seen.startswith(said)
    assert bool(seen) == bool(said)


def test_what_is_said_of_a_mask_mends_it():
    gt = mask(0.25, 255).astype(np.uint8)
    _, said = judged(gt)
    assert "(gt == 255), as integers" in said
    comparison, said = judged((gt == 255).astype(int))
    assert said == ""
    assert "gt: 2 of 4 classes occur, 0.0 % of the pixels are ignored" in repr(comparison)


@pytest.mark.parametrize("shift", [1, -1])
def test_gt_that_is_numbered_from_another_class(shift):
    right = RIGHT if shift < 0 else RIGHT - 1  # so that all labels stay classes
    logits = np.moveaxis(np.eye(CLASSES, dtype=np.float32)[right], -1, 0)
    gt = right + shift
    gt[:2] = 255
    _, said = judged(gt, logits)
    assert said.startswith("gt: got labels of which 100.0 % are those of the logits ")
    assert ("class 0 (sky) is absent" if shift > 0 else "class 3 (wall) is absent") in said
    assert ("subtract 1 where" if shift > 0 else "add 1 where") in said
    mended = np.where(gt == 255, 255, gt - shift)
    comparison, said = judged(mended, logits)
    assert said == ""
    assert comparison.rows[0].miou == 1


def test_one_class_that_is_taken_for_its_neighbour_is_no_numbering():
    gt = np.where(RIGHT == 1, 2, RIGHT)  # the logits have 1 where gt has 2
    gt[RIGHT == 2] = 1
    _, said = judged(gt)
    assert said == ""
    _, said = judged(mask(0.9, 2, 3), np.moveaxis(np.eye(4)[mask(0.9, 1, 3)], -1, 0))
    assert said == ""


def test_gt_numbered_from_one_is_refused_with_advice_that_works():
    gt = RIGHT + 1
    gt[:2] = 255
    with pytest.raises(InputError, match=r"labels from 2 to 4, .*subtract 1 where gt is not ign"):
        judged(gt)
    comparison, _ = judged(np.where(gt == 255, 255, gt - 1))
    assert comparison.rows[0].miou == 1


def test_turned_gt_is_refused_as_such():
    with pytest.raises(InputError, match=r"gt: got 64 x 48 pixels, .*gt looks turned: transpose"):
        judged(RIGHT.T)
    with pytest.raises(InputError, match=r"gt: got 48 x 60 pixels, .* Pass size=\(48, 60\)"):
        judged(RIGHT[:, :60])


def test_what_gt_holds_is_in_every_table():
    gt = np.where(RIGHT == 3, 255, RIGHT)
    comparison, _ = judged(gt)
    fact = "gt: 2 of 4 classes occur, 25.0 % of the pixels are ignored"
    assert repr(comparison).splitlines()[-1] == fact
    assert f"- {fact}\n" in comparison.to_markdown().replace("\\", "")
    assert f">{fact}</div>" in comparison._repr_html_()


def test_a_missing_opencv_is_said_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    ran = []
    with pytest.raises(ImportError, match="pip install opencv-python-headless"):
        compare(LOGITS, size=SIZE, methods=[lambda logits: ran.append(1)], gt=RIGHT)
    assert not ran
    compare(LOGITS, size=SIZE, methods=["bilinear"], repeats=1)  # which needs none without gt


@pytest.mark.parametrize("shape", ["list", "batch", "list of an array", "batched tensor", "rows"])
def test_gt_of_every_form(shape):
    given = {
        "list": RIGHT.tolist(), "batch": RIGHT[None], "list of an array": [RIGHT],
        "batched tensor": torch.tensor(RIGHT)[None], "rows": [torch.tensor(row) for row in RIGHT],
    }[shape]  # fmt: skip
    comparison, _ = judged(given)
    np.testing.assert_array_equal(comparison.gt, RIGHT)


@pytest.mark.parametrize("ignore_index", [255, -1])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_masked_pixels_of_gt_are_ignored(dtype, ignore_index):
    hidden = RIGHT == 2
    gt = np.ma.masked_array(np.where(hidden, 1, RIGHT).astype(dtype), hidden)
    comparison, _ = judged(gt, ignore_index=ignore_index)
    np.testing.assert_array_equal(comparison.gt, np.where(hidden, ignore_index, RIGHT))


@pytest.mark.parametrize(
    "gt",
    [
        [[0, 1], [2]], "gt.png", Path("gt.png"), {}, 5, RIGHT > 1, RIGHT * 1.0,
        RIGHT.astype(object), RIGHT.astype(complex), RIGHT.astype("datetime64[s]"),
        torch.tensor(RIGHT, device="meta"),
        torch.tensor(RIGHT).to_sparse(), torch.tensor(RIGHT * 1.0).to(torch.float8_e4m3fn),
        RIGHT[None, None], object(), [None],
    ],
    ids=lambda gt: type(gt).__name__,
)  # fmt: skip
def test_gt_that_cannot_be_used(gt):
    with pytest.raises(InputError, match=r"^gt: got "):
        judged(gt)


@pytest.mark.parametrize("ignore_index", [True, 255.0, "255", None, 2, np.uint8(3), [255], 2**70])
def test_an_ignore_index_that_cannot_be_used(ignore_index):
    with pytest.raises(InputError, match=r"^ignore_index: got "):
        judged(RIGHT, ignore_index=ignore_index)


def test_numbers_of_numpy():
    comparison = compare(
        LOGITS, size=SIZE, methods=["bilinear"], gt=np.where(RIGHT == 2, 9, RIGHT),
        ignore_index=np.uint8(9), repeats=np.int64(2),
    )  # fmt: skip
    assert type(comparison.ignore_index) is int
    assert comparison.rows[0].miou == 1


# --------------------------------------------------------------------------- names and classes


@pytest.mark.parametrize(
    "names",
    [
        {"a", "b", "c", "d"}, (x for x in "abcd"), b"abcd", "abcd", dict.fromkeys("abcd"), 4,
        [1, 2, 3, 4], ["a", "b", "c", b"d"], ["a", "b", "c", None], [["a"], "b", "c", "d"],
        np.array("a"), np.array([["a", "b"], ["c", "d"]]), ["a", "b"], [], iter("abcd"), object(),
    ],
    ids=str,
)  # fmt: skip
def test_names_that_cannot_be_used(names):
    with pytest.raises(InputError, match=r"^class_names: got "):
        compare(LOGITS, size=SIZE, methods=["bilinear"], class_names=names)


@pytest.mark.parametrize("names", [tuple("abca"), np.array(list("abca")), list("abca")], ids=repr)
def test_names_in_order(names):
    comparison = compare(LOGITS, size=SIZE, methods=["bilinear"], class_names=names, repeats=1)
    assert comparison.class_names == ["a", "b", "c", "a"]
    assert {type(name) for name in comparison.class_names} == {str}


def test_one_class_is_said_once_for_all_rows():
    logits, feats, image = inputs()
    comparison, seen = run(logits[:1], feats, image, methods=["bilinear", "pamr"], repeats=1)
    assert [message for message in seen if "single class" in message] == [*comparison.warnings]
    assert len(comparison.warnings) == 1
    assert not any("single class" in text for row in comparison.rows for text in row.warnings)


def test_attention_that_is_no_tensor_is_refused_whatever_the_methods():
    for methods in (["bilinear"], ["max_velocity"], ["lposs", "pamr"]):
        with pytest.raises(InputError, match=r"^attention: got int"):
            compare(*inputs(), attention=5, methods=methods)
