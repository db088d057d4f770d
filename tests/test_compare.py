"""Comparisons: labels are those of refine, figures those of loops, and what cannot run says so."""

import base64
import contextlib
import csv
import html.parser
import importlib.util
import io
import multiprocessing
import re
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lpprop
from lpprop import InputError, InputWarning, presets
from lpprop._core import measure
from lpprop.comparison import Comparison, Row, compare, figure
from lpprop.evaluation.metrics import boundary_counts
from lpprop.viz.drawing import ERROR_KEYS, overlay
from lpprop.viz.palettes import colours

CLASSES, GRID, SIZE = 4, (3, 4), (48, 64)
EVERY = ["bilinear", "joint_bilateral", "auto", "lposs", "lposs+"]
EVERY += ["optimal_path", "max_velocity", "pamr"]
CRF = [*(["dense_crf"] if importlib.util.find_spec("pydensecrf") else []), "local_crf"]


def inputs(seed=0):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(CLASSES, *GRID)).astype(np.float32)
    feats = random.normal(size=(8, *GRID)).astype(np.float32)
    image = random.integers(0, 256, (*SIZE, 3), np.uint8)
    return logits, feats, image


def painter(labels):
    """Make a method that labels the pixels so, whatever it is given."""
    scores = torch.nn.functional.one_hot(torch.as_tensor(labels), CLASSES)

    def method(logits, *, feats, image, attention):
        return scores.movedim(-1, 0)[None].float()

    return method


def painted(seed=0, count=2, gt=None):
    """Compare methods whose labels are known."""
    random = np.random.default_rng(seed)
    maps = {f"m{i}": random.integers(0, CLASSES, SIZE) for i in range(count)}
    logits, _, image = inputs(seed)
    methods = {name: painter(labels) for name, labels in maps.items()}
    comparison = compare(logits, image=image, methods=methods, gt=gt, repeats=1)
    return comparison, maps


@pytest.fixture(scope="module")
def everything():
    return compare(*inputs(), repeats=1)


def test_labels_are_those_of_refine(everything):
    logits, feats, image = inputs()
    assert [row.method for row in everything.rows] == list(everything.labels) == EVERY + CRF
    for name, labels in everything.labels.items():
        expected = lpprop.refine(logits, feats, image, method=name)[0].argmax(0).numpy()
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, expected, err_msg=name)
    start = lpprop.bilinear_upsample(torch.tensor(logits)[None], SIZE)[0].argmax(0).numpy()
    np.testing.assert_array_equal(everything.start, start)
    assert everything.rows[0].changed == 0
    for row in everything.rows:
        assert (row.miou, row.boundary_iou, row.skipped) == (None, None, "")
        assert row.changed == (everything.labels[row.method] != start).mean()
        assert 0 < row.seconds < 60
    assert everything.class_names == ["0", "1", "2", "3"]
    np.testing.assert_array_equal(np.asarray(everything.image), image)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["bilinear"]),
        (("image",), ["bilinear", "joint_bilateral", "pamr", *CRF]),
        (("feats",), ["bilinear", "lposs"]),
        (
            ("attention", "image"),
            ["bilinear", "joint_bilateral", "optimal_path", "max_velocity", "pamr", *CRF],
        ),
    ],
)
def test_the_default_is_what_the_inputs_allow(given, expected):
    logits, feats, image = inputs()
    attention = np.random.default_rng(1).random((12, 12))
    attention /= attention.sum(-1, keepdims=True)
    known = {"feats": feats, "image": image, "attention": attention}
    size = None if "image" in given else SIZE
    comparison = compare(logits, **{name: known[name] for name in given}, size=size, repeats=1)
    assert [row.method for row in comparison.rows] == expected
    assert all(not row.skipped for row in comparison.rows)


def test_dense_crf_is_left_out_where_it_is_not_installed(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "pydensecrf" else found(name)
    )
    logits, _, image = inputs()
    comparison = compare(logits, image=image, repeats=1)
    expected = ["bilinear", "joint_bilateral", "pamr", "local_crf"]
    assert [row.method for row in comparison.rows] == expected


def test_inputs_of_every_kind():
    logits, feats, image = inputs()
    batch = torch.tensor(image).movedim(-1, 0)[None]
    expected = compare(logits, feats, image, methods=["lposs+"], repeats=1)
    for given in (Image.fromarray(image), batch, batch[0].float() / 255):
        got = compare(
            torch.tensor(logits)[None].requires_grad_(), feats[None], given,
            methods=["lposs+"], repeats=1,
        )  # fmt: skip
        np.testing.assert_array_equal(got.labels["lposs+"], expected.labels["lposs+"])
        np.testing.assert_array_equal(np.asarray(got.image), image)


def test_sliding_windows():
    windows = lpprop.SlidingWindows(SIZE, 48, 16)
    random = np.random.default_rng(0)
    logits = random.normal(size=(len(windows), CLASSES, 3, 3))
    feats = random.normal(size=(len(windows), 8, 3, 3))
    image = inputs()[2]
    methods = ["bilinear", "lposs+", "max_velocity"]
    comparison = compare(logits, feats, image, methods=methods, windows=windows, repeats=1)
    for name in methods[:2]:
        expected = lpprop.refine(logits, feats, image, method=name, windows=windows)
        np.testing.assert_array_equal(comparison.labels[name], expected[0].argmax(0))
    np.testing.assert_array_equal(comparison.start, comparison.labels["bilinear"])
    assert list(comparison.labels) == methods[:2]
    assert comparison.rows[2].skipped.startswith("windows: got sliding windows")


def test_size_and_pixel_features():
    logits, feats, image = inputs()
    depth = np.random.default_rng(3).random((2, *SIZE))
    gt = np.zeros((30, 50), np.uint8)
    with pytest.warns(InputWarning, match=r"gt: got the class 0 \(0\) at every pixel"):
        comparison = compare(
            logits, feats, image, methods=["lposs", "lposs+"], size=(30, 50), pixel_feats=depth,
            gt=gt, repeats=1,
        )  # fmt: skip
    expected = lpprop.refine(logits, feats, image, size=(30, 50), pixel_feats=depth)
    np.testing.assert_array_equal(comparison.labels["lposs+"], expected[0].argmax(0))
    expected = lpprop.refine(logits, feats, image, size=(30, 50), method="lposs")
    np.testing.assert_array_equal(comparison.labels["lposs"], expected[0].argmax(0))
    assert comparison.image.size == (50, 30)
    assert comparison.rows[0].miou == pytest.approx(np.mean(comparison.labels["lposs"] == 0) / 4)


def test_methods_by_name_module_callable_and_mapping():
    logits, feats, image = inputs()

    def mine(logits, *, feats, image, attention):
        return -logits

    methods = ["lposs", presets.lposs(k=2), lpprop.BilinearUpsample(), mine, "lposs", mine]
    comparison = compare(logits, feats, image, methods=methods, repeats=1)
    names = [
        "lposs", "lposs(k=2)", "BilinearUpsample", "mine", "lposs (2)", "mine (2)",
    ]  # fmt: skip
    assert [row.method for row in comparison.rows] == names
    expected = lpprop.refine(logits, feats, image, method=presets.lposs(k=2))[0].argmax(0)
    np.testing.assert_array_equal(comparison.labels[names[1]], expected)
    named = compare(logits, feats, image, methods={"k=2": methods[1], "-": mine}, repeats=1)
    assert [row.method for row in named.rows] == ["k=2", "-"]
    np.testing.assert_array_equal(named.labels["-"], comparison.labels["mine"])


def test_changes_and_agreement_by_loops():
    comparison, maps = painted(count=3)
    for row, labels in zip(comparison.rows, maps.values(), strict=True):
        changed = sum(
            int(labels[y, x] != comparison.start[y, x])
            for y in range(SIZE[0])
            for x in range(SIZE[1])
        )
        assert row.changed == changed / (SIZE[0] * SIZE[1])
    every = list(maps.values())
    for i, one in enumerate(every):
        for j, other in enumerate(every):
            same = sum(a == b for a, b in zip(one.ravel(), other.ravel(), strict=True))
            assert comparison.agreement[i, j] == same / one.size


def eroded(mask, distance):
    """Keep the pixels whose square of that reach lies in the mask; outside is not the mask."""
    padded = np.pad(mask, distance)
    height, width = mask.shape
    kept = np.ones_like(mask)
    for y in range(2 * distance + 1):
        for x in range(2 * distance + 1):
            kept &= padded[y : y + height, x : x + width]
    return kept


def test_miou_and_boundary_iou_by_their_definition():
    random = np.random.default_rng(0)
    gt = np.kron(random.integers(0, 3, (4, 4)), np.ones((12, 16), int))  # class 3 is absent
    labels = np.roll(gt, (3, 5), (0, 1))
    labels[0, 0] = 3
    logits, _, image = inputs()
    comparison = compare(logits, image=image, methods=[painter(labels)], gt=gt, repeats=1)
    iou, boundary = [], []
    distance = max(1, round(0.02 * (SIZE[0] ** 2 + SIZE[1] ** 2) ** 0.5))
    for c in range(CLASSES):
        one, other = labels == c, gt == c
        iou.append((one & other).sum() / (one | other).sum())
        one, other = one & ~eroded(one, distance), other & ~eroded(other, distance)
        boundary.append((one & other).sum() / (one | other).sum())
    assert comparison.rows[0].miou == pytest.approx(np.mean(iou), rel=1e-12)
    assert comparison.rows[0].boundary_iou == pytest.approx(np.mean(boundary), rel=1e-12)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, torch.int32, "L", "P"], ids=str)
def test_ground_truth_of_every_kind(kind):
    gt = np.random.default_rng(2).integers(0, CLASSES, SIZE)
    gt[:9] = 11
    if isinstance(kind, str):
        given = Image.fromarray(gt.astype(np.uint8))
        if kind == "P":
            given.putpalette(bytes(range(256)) * 3)
    else:
        given = torch.tensor(gt, dtype=kind) if isinstance(kind, torch.dtype) else gt.astype(kind)
    logits, _, image = inputs()
    right = np.where(gt == 11, 0, gt)
    comparison = compare(
        logits, image=image, methods=[painter(right)], gt=given, ignore_index=11, repeats=1
    )
    assert comparison.rows[0].miou == 1.0
    np.testing.assert_array_equal(comparison.gt, gt)


def test_golden_case(golden):
    """Labels and metrics of the authors' own pixel scores."""
    case = golden("whole_image")
    comparison = compare(
        case["logits"], case["feats"], case["image"], gt=case["gt"], ignore_index=11,
        methods={"lposs+": presets.lposs_plus(k=int(case["k"]), r=2 * int(case["neigh"]) + 1)},
        repeats=1,
    )  # fmt: skip
    agreed = comparison.labels["lposs+"] == case["lposs_plus"].argmax(0)
    assert agreed.mean() > 0.999
    counts = boundary_counts(
        case["lposs_plus"].argmax(0), case["gt"], 11, ignore_index=11, dilation_ratio=0.02
    )
    expected = np.mean([i / u for i, u in zip(*counts, strict=True) if u])
    assert comparison.rows[0].boundary_iou == pytest.approx(expected, abs=2e-3)


def test_a_package_that_lacks_skips_its_method(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    image, logits = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 2, 3)
    comparison = compare(logits, image=image, methods=["bilinear", "dense_crf"], repeats=1)
    assert [row.method for row in comparison.rows if row.skipped] == ["dense_crf"]
    assert "pip install 'lpprop[crf]'" in comparison.rows[1].skipped
    with pytest.raises(InputError, match=r"none that can run.*lpprop\[crf\]"):
        compare(logits, image=image, methods=["dense_crf"], repeats=1)


def test_a_full_memory_of_the_cpu_skips_its_method():
    def greedy(logits, *, feats, image, attention):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes")

    def broken(logits, *, feats, image, attention):
        raise RuntimeError("shapes do not match")

    image, logits = torch.rand(1, 3, 32, 48), torch.rand(1, 3, 2, 3)
    comparison = compare(logits, image=image, methods=["bilinear", greedy], repeats=1)
    assert "can't allocate memory" in comparison.rows[1].skipped
    with pytest.raises(RuntimeError, match="shapes"):
        compare(logits, image=image, methods=["bilinear", broken], repeats=1)


def test_what_cannot_run_is_skipped_with_its_reason():
    def absent(logits, *, feats, image, attention):
        raise ImportError("it needs an extra: pip install 'lpprop[crf]'")

    def huge(logits, *, feats, image, attention):
        raise MemoryError

    def fewer(logits, *, feats, image, attention):
        return logits[:, :2]

    def broken(logits, *, feats, image, attention):
        return logits * float("nan")

    logits, _, image = inputs()
    methods = ["lposs", absent, "bilinear", huge, fewer, broken]
    comparison = compare(logits, image=image, methods=methods, repeats=1)
    assert list(comparison.labels) == ["bilinear"]
    assert comparison.agreement.tolist() == [[1.0]]
    skipped = {row.method: row for row in comparison.rows if row.skipped}
    reasons = {
        "lposs": "feats: got None, expected a tensor. This method needs it: pass feats=.",
        "absent": "it needs an extra: pip install 'lpprop[crf]'",
        "huge": "out of memory",
        "fewer": "it returned scores: got 2 classes, expected 4",
        "broken": "broken returned unusable scores: got 48 NaN",
    }
    assert list(skipped) == list(reasons)
    for name, reason in reasons.items():
        assert skipped[name].skipped.startswith(reason)
        assert skipped[name] == Row(name, skipped=skipped[name].skipped)
        for table in (repr(comparison), comparison.to_csv()):
            assert reason.split(":")[0] in table


def test_a_bug_in_a_method_is_not_hidden():
    def bug(logits, *, feats, image, attention):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        compare(inputs()[0], methods=["bilinear", bug], size=SIZE, repeats=1)


def test_nothing_that_can_run_is_an_error():
    def absent(logits, *, feats, image, attention):
        raise ImportError("it needs an extra")

    with pytest.raises(InputError, match=r"methods: got none.* lposs: feats.* pamr: image: got"):
        compare(inputs()[0], size=SIZE, methods=["lposs", "pamr"])
    with pytest.raises(InputError, match=r"methods: got none.* absent: it needs an extra"):
        compare(inputs()[0], size=SIZE, methods=["lposs", absent])


def test_bad_input_is_refused_before_any_work():
    logits, feats, image = inputs()

    def work(logits, *, feats, image, attention):
        pytest.fail("work was done")

    gt = np.zeros(SIZE, int)
    for changes, message in [
        ({"logits": np.stack([logits] * 2), "feats": np.stack([feats] * 2),
          "image": np.stack([image] * 2)}, "logits: got 2 items, expected those of one image"),
        ({"feats": np.stack([feats] * 2)}, "feats: got shape (2, 8, 3, 4), expected (B=1"),
        ({"logits": logits * np.nan}, "logits: got 48 NaN"),
        ({"image": None}, "image: got None, and no size"),
        ({"image": image / 255.0 * 2}, "image: got values from"),
        ({"methods": [work, "lpos"]}, "method: got 'lpos'"),
        ({"methods": [work, 3]}, "method: got 3"),
        ({"methods": "lposs"}, "methods: got 'lposs', expected a list"),
        ({"methods": []}, "methods: got none, expected one or more"),
        ({"methods": {}}, "methods: got none, expected one or more"),
        ({"gt": gt[:-1]}, "gt: got 47 x 64 pixels, expected 48 x 64"),
        ({"gt": gt + 5}, "gt: got the label 5, expected 0 to 3, or 255"),
        ({"gt": gt + 4}, "gt: got labels from 4 to 4, expected 0 to 3, or 255 (ignore_index). If "
         "they are numbered from 1, subtract 1"),
        ({"gt": gt - 1}, "gt: got the label -1"),
        ({"gt": gt + 255}, "gt: got no label but 255"),
        ({"gt": gt + 0.5}, "gt: got shape (48, 64) of float64, expected integers (H, W)"),
        ({"gt": Image.new("RGB", SIZE[::-1])}, "gt: got an image of mode 'RGB'"),
        ({"class_names": ["a"]}, "class_names: got 1 names, expected 4"),
        ({"class_names": "abcd"}, "class_names: got 'abcd'"),
        ({"palette": "vok"}, "palette: got 'vok'"),
        ({"palette": np.zeros((3, 3), np.uint8)}, "palette: got a palette with 3 colours"),
        ({"repeats": 0}, "repeats: got 0"),
        ({"windows": [lpprop.SlidingWindows(SIZE)]}, "windows: got list"),
    ]:  # fmt: skip
        given = {"logits": logits, "feats": feats, "image": image, "methods": [work]} | changes
        with pytest.raises(InputError) as refused:
            compare(**given)
        assert message in str(refused.value)


def test_warnings_point_here_once():
    logits, feats, _ = inputs()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        compare(logits, feats, np.zeros((96, 128, 3), np.uint8), methods=["lposs", "lposs+"])
    assert {Path(warning.filename).name for warning in caught} == {"test_compare.py"}
    assert len({str(warning.message) for warning in caught}) == len(caught) > 1


def test_time_is_the_median_of_the_repeats(monkeypatch):
    clock, calls, grad = iter([0.0, 1.0, 10.0, 17.0, 20.0, 22.0, 30.0, 30.5]), [], []

    def method(logits, *, feats, image, attention):
        calls.append(logits)
        grad.append(torch.is_grad_enabled())
        return logits

    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    comparison = compare(inputs()[0], methods=[method], size=SIZE, repeats=4)
    assert comparison.rows[0].seconds == 1.5  # of 1, 7, 2 and 0.5
    assert len(calls) == measure.count_runs(4) == 6
    assert not any(grad)


def test_cuda_is_synchronised_and_asked_for_its_peak(monkeypatch):
    events = []
    peaks = iter([100, 130])
    fake = {
        "synchronize": lambda device: events.append("wait"),
        "reset_peak_memory_stats": lambda device: events.append("reset"),
        "memory_allocated": lambda device: next(peaks),
        "max_memory_allocated": lambda device: next(peaks),
    }
    for name, function in fake.items():
        monkeypatch.setattr(torch.cuda, name, function)
    clock = iter([1.0, 3.0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: events.append("clock") or next(clock))
    device = torch.device("cuda", 0)
    got = measure.measure(lambda: events.append("run"), device, 1, lambda: events.append("tick"))
    assert got == (None, 2.0, 30)
    assert events == [
        "run", "tick", "wait", "reset", "run", "wait", "tick", "wait", "clock", "run", "wait",
        "clock", "tick",
    ]  # fmt: skip


def memory_of_methods():
    """What three methods that take known amounts of memory are said to add."""
    mebi = 2**20

    def large(logits, *, feats, image, attention):
        np.ones(64 * mebi, np.uint8)  # outside torch, and freed before the next
        return logits + torch.ones(8 * mebi).sum() * 0

    kept = []

    def blocks(logits, *, feats, image, attention):
        every = [bytes(2**14) for _ in range(2**11)]
        kept.append(every.pop())  # so that the allocator keeps the pages of all others
        return logits

    def small(logits, *, feats, image, attention):
        return logits

    rows = compare(inputs()[0], methods=[large, blocks, small], size=SIZE, repeats=1).rows
    return [row.memory for row in rows]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak cannot be reset")
def test_memory_is_what_a_call_adds():
    # In a process of its own: what an allocator has kept before decides when it gives back.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        large, many, small = pool.submit(memory_of_methods).result()
    if large is None:
        pytest.skip("the peak cannot be reset here")
    mebi = 2**20
    assert 30 * mebi < many < 36 * mebi
    assert 63 * mebi < large < 72 * mebi
    assert small < 2 * mebi


def test_memory_is_unknown_where_the_peak_cannot_be_reset(monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "_RESET_PEAK", tmp_path / "absent" / "clear_refs")
    comparison = compare(inputs()[0], methods=["bilinear"], size=SIZE, repeats=1)
    assert comparison.rows[0].memory is None
    assert "memory" not in repr(comparison)


# Tables


HOSTILE = ["a|b\n`c`", "<script>alert(1)</script>", "__init__ *x* [y](z)", 'x"onload="y']


@pytest.fixture(scope="module")
def hostile():
    random = np.random.default_rng(0)
    logits, _, image = inputs()
    methods = {name: painter(random.integers(0, CLASSES, SIZE)) for name in HOSTILE}
    return compare(
        logits, image=image, methods=methods | {"<b>skipped</b>": "lposs"}, repeats=1,
        gt=random.integers(0, CLASSES, SIZE), class_names=["<i>", "b", "c", "d"],
    )  # fmt: skip


def test_csv_reads_back(hostile):
    lines = list(csv.DictReader(io.StringIO(hostile.to_csv())))
    assert [line["method"] for line in lines] == [*HOSTILE, "<b>skipped</b>"]
    for row, line, shares in zip(hostile.rows, lines, hostile.agreement, strict=False):
        assert float(line["seconds"]) == pytest.approx(row.seconds, rel=1e-5)
        assert line["memory_bytes"] == ("" if row.memory is None else str(row.memory))
        for field, value in (
            ("changed", row.changed), ("miou", row.miou), ("boundary_iou", row.boundary_iou),
        ):  # fmt: skip
            assert float(line[field]) == pytest.approx(value, rel=1e-5)
        for name, share in zip(HOSTILE, shares, strict=True):
            assert float(line[f"agreement with {name}"]) == pytest.approx(share, rel=1e-5)
    assert lines[-1]["skipped"].startswith("feats: got None")
    assert lines[-1]["seconds"] == lines[-1]["agreement with " + HOSTILE[0]] == ""


class Cells(html.parser.HTMLParser):
    """Read tables and images of HTML that is closed as it should be."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tables, self.images, self.attributes = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag == "img":
            self.images.append(dict(attrs))
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data


def test_html_shows_names_as_they_are(hostile):
    text = hostile._repr_html_()
    page = Cells(text)
    table, agreement = page.tables
    assert [line[0] for line in table] == ["method", *HOSTILE, "<b>skipped</b>"]
    assert table[-1][1].startswith("skipped: feats: got None")
    assert agreement[0][1:] == [line[0] for line in agreement[1:]] == HOSTILE
    assert {tag for tag, *_ in page.attributes} <= {
        "div", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "img",
    }  # fmt: skip
    (image,) = page.images
    data = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.tobytes() == hostile.figure(side=320).tobytes()
    known = {"style", "scope", "colspan", "alt", "src", "open"}
    assert {name for _, name, _ in page.attributes} == known


def test_each_part_of_the_html_can_be_folded(hostile):
    text = hostile._repr_html_()
    parts = re.findall(r"<details( open)?><summary[^>]*>(.*?)</summary>(.*?)</details>", text, re.S)
    titles = [(title, bool(unfolded)) for unfolded, title, _ in parts]
    height, width = hostile.start.shape
    count = len(hostile.rows)
    assert titles == [
        (f"{count} methods on {height} x {width} pixels", True),
        ("agreement of the labels", False),
        ("figure", True),
    ]
    table, agreement, figure = (inside for *_, inside in parts)
    assert "<table" in table
    assert "<table" in agreement
    assert "<img" in figure
    assert "<img" not in table + agreement


def test_html_suits_dark_themes(hostile):
    """The ink and the ground are the page's, but for the figure, which is drawn on white."""
    attributes = Cells(hostile._repr_html_()).attributes
    styles = [value for tag, name, value in attributes if name == "style" and tag != "img"]
    (figure,) = [value for tag, name, value in attributes if name == "style" and tag == "img"]
    assert "background:#fff" in figure.split(";")
    assert "padding:6px" in figure.split(";")
    themed = [
        re.sub(r"rgba\(128,128,128,[.\d]+\)|inherit|transparent", "", rule)
        for style in styles
        for rule in style.split(";")
        if re.match(r"color|background|border", rule)
    ]
    known = {"color:", "background:", "border-collapse:collapse", "border-bottom:1px solid "}
    assert set(themed) == known


def test_markdown_renders_names_as_they_are(hostile):
    markdown_it = pytest.importorskip("markdown_it")
    rendered = markdown_it.MarkdownIt("commonmark").enable("table").render(hostile.to_markdown())
    table, agreement = Cells(rendered).tables
    shown = [" ".join(name.split()) for name in HOSTILE]
    assert [line[0] for line in table] == ["method", *shown]
    assert [line[0] for line in agreement[1:]] == agreement[0][1:] == shown
    assert "<script" not in rendered
    assert "<b>" not in rendered
    assert "&lt;b&gt;skipped&lt;/b&gt;: skipped. feats: got None" in rendered
    shares = [[float(cell) for cell in line[1:]] for line in agreement[1:]]
    np.testing.assert_allclose(shares, 100 * hostile.agreement, atol=0.051)
    best = max(row.miou for row in hostile.rows if row.miou is not None)
    assert f"<strong>{100 * best:.1f}</strong>" in rendered


def test_figures_are_rounded_as_people_read_them():
    rows = [
        Row("a", seconds=1.23456, memory=123 * 2**20, changed=0.5, miou=0.12345, boundary_iou=1.0),
        Row("bcd", seconds=0.000123456, memory=0, changed=0.0, miou=0.5, boundary_iou=0.25),
        Row("e", skipped="no"),
    ]
    labels = {name: np.zeros((2, 2), int) for name in ("a", "bcd")}
    start = np.zeros((2, 2), int)
    comparison = Comparison(rows, labels, start, None, None, ["x"], "default", 255)
    assert repr(comparison).splitlines() == [
        "method  time (ms)  memory (MiB)  changed (%)  mIoU (%)  Boundary IoU (%)",
        "a            1235           123         50.0      12.3             100.0",
        "bcd         0.123             0          0.0      50.0              25.0",
        "e: skipped. no",
    ]
    assert "| a | 1235 | 123 | 50.0 | 12.3 | **100.0** |" in comparison.to_markdown()


# Figures


def test_the_region_where_methods_differ_most():
    random = np.random.default_rng(0)
    start = np.zeros((20, 30), int)
    labels = {str(i): random.integers(0, 3, (20, 30)) for i in range(3)}
    apart = np.zeros((20, 30), int)
    for y, x in np.ndindex(20, 30):
        seen = [labels[name][y, x] for name in "012"]
        apart[y, x] = (seen[0] != seen[1]) + (seen[0] != seen[2]) + (seen[1] != seen[2])
    sums = {(y, x): apart[y : y + 6, x : x + 9].sum() for y in range(15) for x in range(22)}
    comparison = Comparison([], labels, start, None, None, list("abc"), "default", 255)
    y1, x1, y2, x2 = figure.differing_box(comparison)
    assert (y2 - y1, x2 - x1) == (6, 9)
    assert sums[y1, x1] == max(sums.values())


def test_a_single_method_is_compared_with_the_start():
    start = np.zeros((20, 30), int)
    labels = start.copy()
    labels[14:, 25:] = 1
    comparison = Comparison([], {"a": labels}, start, None, None, list("ab"), "default", 255)
    y1, x1, y2, x2 = figure.differing_box(comparison)
    assert y1 <= 14 < 20 == y2
    assert x1 <= 25 < 30 == x2
    alike = Comparison([], {"a": start}, start, None, None, list("ab"), "default", 255)
    assert figure.differing_box(alike) is None


def count(page, colour):
    return int((np.asarray(page) == colour).all(-1).sum())


def test_the_figure_marks_every_error():
    """At the image's own size each wrong pixel is one pixel of the page."""
    gt = np.random.default_rng(5).integers(0, CLASSES, SIZE)
    gt[:7] = 255
    comparison, maps = painted(count=2, gt=gt)
    counted = gt != 255
    wrong, ignored = (colour for _, colour in ERROR_KEYS)
    with_errors, without = (comparison.figure(errors=e, side=64) for e in (True, False))
    assert count(without, wrong) == 0
    swatch = count(with_errors, wrong) - sum(((m != gt) & counted).sum() for m in maps.values())
    assert 0 < swatch < 14 * 14
    # Ignored pixels are painted for each method; the swatch alone is there without error maps.
    more = count(with_errors, ignored) - count(without, ignored)
    assert more == 2 * (~counted).sum()


def test_the_legend_names_what_is_seen():
    labels = np.zeros(SIZE, int)
    labels[:, 40:] = 2
    gt = labels.copy()
    gt[:9] = 3
    logits, _, image = inputs()
    known = colours("voc", CLASSES).tolist()
    for given, expected in ((None, {0, 2}), (gt, {0, 2, 3})):
        comparison = compare(
            logits, image=image, methods=[painter(labels)], gt=given, palette="voc", repeats=1
        )
        page = comparison.figure()
        # Over the image colours are mixed: only swatches have them pure.
        seen = {c for c in range(1, CLASSES) if count(page, known[c])}
        assert seen == expected - {0}


def test_the_whole_and_the_region_are_drawn():
    comparison, _ = painted(count=2)
    alike = compare(inputs()[0], image=inputs()[2], methods=["bilinear"], repeats=1)
    side = 480
    full, plain = comparison.figure(side=side), alike.figure(side=side)
    assert full.height - plain.height == side * 3 // 4 + 6  # one more picture below each
    cell = side + 12
    assert full.width - plain.width == cell
    narrow = comparison.figure(side=side, columns=1)
    assert narrow.width == cell + 36
    half = comparison.figure(side=240)
    assert (half.width, half.height) == (full.width // 2, full.height // 2)


def test_pictures_are_the_overlays_of_their_region():
    """One method at the image's own size, below the photograph's column."""
    comparison, maps = painted(count=1)
    page = np.asarray(comparison.figure(side=64))
    labels, image = maps["m0"], inputs()[2]
    expected = np.asarray(overlay(Image.fromarray(image), labels, CLASSES, outline=0.5))
    y1, x1, y2, x2 = figure.differing_box(comparison)
    outside = np.ones(SIZE, bool)
    outside[max(0, y1 - 4) : y2 + 4, max(0, x1 - 4) : x2 + 4] = False
    height, width = SIZE
    found = [
        (y, x)
        for y in range(page.shape[0] - height)
        for x in range(page.shape[1] - width)
        if (page[y, x] == expected[0, 0]).all()
        and (page[y : y + height, x : x + width][outside] == expected[outside]).all()
    ]
    assert len(found) == 1
    (y, x) = found[0]
    region = page[y + height + 3 : y + 2 * height + 3, x : x + width]
    # A region of 14 x 19 pixels on 48 x 64: nearest neighbour of its labels.
    rows = y1 + ((np.arange(height) + 0.5) * (y2 - y1) / height).astype(int)
    columns = x1 + ((np.arange(width) + 0.5) * (x2 - x1) / width).astype(int)
    crop = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BICUBIC, (x1, y1, x2, y2)
    )
    near = np.asarray(overlay(crop, labels[rows[:, None], columns], CLASSES, outline=0.5))
    np.testing.assert_array_equal(region, near)


@pytest.mark.filterwarnings("ignore:logits. got a grid:UserWarning")  # that does not fit the image
@pytest.mark.parametrize("size", [(1, 1), (1, 200), (300, 2)])
def test_figures_of_odd_shapes(size):
    gt = np.arange(size[0] * size[1]).reshape(size) % CLASSES
    with pytest.warns(InputWarning) if gt.size == 1 else contextlib.nullcontext():
        comparison = compare(inputs()[0], methods=["bilinear"], size=size, gt=gt)
    assert comparison.figure(errors=True).mode == "RGB"
    assert comparison._repr_html_()


def test_figures_take_numbers_of_numpy():
    comparison, _ = painted()
    given = comparison.figure(errors=np.False_, columns=np.int8(2), side=np.uint8(100))
    assert given == comparison.figure(columns=2, side=100)


def test_figures_that_cannot_be_drawn():
    comparison, _ = painted()
    for options, message in [
        ({"errors": True}, "errors: got True, expected False without gt"),
        ({"columns": 0}, "columns: got 0"),
        ({"columns": 2.0}, "columns: got 2.0"),
        ({"errors": "no"}, "errors: got 'no'"),
        ({"side": 10}, "side: got 10"),
    ]:
        with pytest.raises(InputError) as refused:
            comparison.figure(**options)
        assert message in str(refused.value)
