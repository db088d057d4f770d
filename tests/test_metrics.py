"""Metrics against loops written out, against torchmetrics, OpenCV and the golden counts."""

import json
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import lpprop
from lpprop._core.measure import peak_memory
from lpprop.evaluation.label_maps import merge_labels, reduce_zero_label
from lpprop.evaluation.metrics import SegmentationMetrics, boundary_counts, confusion_matrix
from lpprop.evaluation.runner import _find_versions

CLASSES = 4


def maps(seed, height=23, width=31, classes=CLASSES, block=5, ignored=0.1):
    """Blobs of labels, and their ground truth, part of which does not count."""
    draw = np.random.default_rng(seed)
    shape = -(-height // block), -(-width // block)
    gt = draw.integers(0, classes, shape).repeat(block, 0).repeat(block, 1)[:height, :width]
    labels = np.where(draw.random(gt.shape) < 0.2, np.roll(gt, 2, axis=1), gt)
    labels = np.where(draw.random(gt.shape) < 0.1, draw.integers(0, classes, gt.shape), labels)
    return labels, np.where(draw.random(gt.shape) < ignored, 255, gt)


def slow_confusion(labels, gt, classes, ignore_index=255):
    counts = [[0] * classes for _ in range(classes)]
    for y in range(gt.shape[0]):
        for x in range(gt.shape[1]):
            if gt[y, x] != ignore_index:
                counts[gt[y, x]][labels[y, x]] += 1
    return np.array(counts)


def slow_boundary(mask, d):
    """Mark the pixels of a mask of whose surroundings, d pixels wide, some are not in it."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            inside = d <= y < height - d and d <= x < width - d
            around = mask[max(0, y - d) : y + d + 1, max(0, x - d) : x + d + 1]
            edge[y, x] = mask[y, x] and not (inside and around.all())
    return edge


def slow_boundary_counts(labels, gt, classes, d, ignore_index=255):
    intersection, union = [], []
    for number in range(classes):
        predicted = slow_boundary((labels == number) & (gt != ignore_index), d)
        true = slow_boundary(gt == number, d)
        intersection.append((predicted & true).sum())
        union.append((predicted | true).sum())
    return np.array(intersection), np.array(union)


@pytest.fixture
def filled():
    metrics = SegmentationMetrics(CLASSES)
    for seed in range(3):
        metrics.update(*maps(seed))
    return metrics


class TestCounts:
    @pytest.mark.parametrize("seed", range(3))
    def test_confusion_against_loops(self, seed):
        labels, gt = maps(seed)
        got = confusion_matrix(labels, gt, CLASSES)
        np.testing.assert_array_equal(got, slow_confusion(labels, gt, CLASSES))
        assert got.dtype == np.int64

    @pytest.mark.parametrize(("ratio", "d"), [(0.001, 1), (0.02, 1), (0.05, 2), (0.15, 6)])
    def test_boundaries_against_loops(self, ratio, d):
        for seed in range(2):
            labels, gt = maps(seed, block=9, ignored=0.01)
            got = boundary_counts(labels, gt, CLASSES, dilation_ratio=ratio)
            expected = slow_boundary_counts(labels, gt, CLASSES, d)
            np.testing.assert_array_equal(got, expected)
            assert expected[0].sum() > 0

    @pytest.mark.parametrize("classes", [3, 255, 300])
    def test_boundaries_against_opencv_class_by_class(self, classes):
        """The definition's own steps: each mask padded with zeros, and eroded d times by 3 x 3."""
        labels, gt = maps(5, 90, 120, classes, block=20, ignored=0)
        gt = np.where(gt == 1, -1, gt)
        d = round(0.02 * math.hypot(90, 120))
        assert d == 3
        intersection, union = boundary_counts(labels, gt, classes, ignore_index=-1)
        for number in np.unique(np.concatenate([labels, gt]))[1:]:
            edges = []
            for mask in ((labels == number) & (gt >= 0), gt == number):
                padded = cv2.copyMakeBorder(
                    mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0
                )
                kept = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=d)[1:-1, 1:-1]
                edges.append(mask & (kept == 0))
            assert intersection[number] == (edges[0] & edges[1]).sum()
            assert union[number] == (edges[0] | edges[1]).sum()

    @pytest.mark.parametrize("name", ["whole_image", "sliding_window"])
    def test_golden_boundary_counts(self, golden, name):
        case = golden(name)
        labels = case["lposs_plus"].argmax(0)
        intersection, union = boundary_counts(labels, case["gt"], 11, ignore_index=11)
        np.testing.assert_array_equal(intersection, case["boundary_inter"])
        np.testing.assert_array_equal(union, case["boundary_union"])

    @pytest.mark.parametrize("ratio", [0.7, 3, 1e300])
    def test_boundaries_wider_than_the_image_are_all_of_it(self, ratio):
        """Every pixel is then on the boundary of its class, so that the counts are the masks'."""
        labels, gt = maps(1, 41, 30)
        intersection, union = boundary_counts(labels, gt, CLASSES, dilation_ratio=ratio)
        confusion = slow_confusion(labels, gt, CLASSES)
        np.testing.assert_array_equal(intersection, confusion.diagonal())
        np.testing.assert_array_equal(
            union, confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
        )

    def test_wide_boundaries_take_little_memory(self):
        gt = np.zeros((100, 100), dtype=np.uint8)
        added = peak_memory(
            lambda: boundary_counts(gt, gt, 2, dilation_ratio=100), torch.device("cpu")
        )
        if added is None:
            pytest.skip("the peak of memory cannot be measured here")
        assert added < 20e6  # a square of 2 d + 1 takes 800 MB

    def test_half_pixels_round_to_even_as_pythons_round(self):
        # Diagonal 5, ratio 0.5: d = round(2.5) = 2, so that a 5 x 5 block keeps its middle.
        gt = np.zeros((3, 4), dtype=int)
        assert boundary_counts(gt, gt, 1, dilation_ratio=0.5)[1][0] == 12
        assert boundary_counts(gt, gt, 1, dilation_ratio=0.2)[1][0] == 10


class TestMetrics:
    def test_against_torchmetrics(self, filled):
        metric = pytest.importorskip("torchmetrics.classification")
        options = {"num_classes": CLASSES, "ignore_index": 255}
        peers = {
            "confusion": metric.MulticlassConfusionMatrix(**options),
            "iou": metric.MulticlassJaccardIndex(average="none", **options),
            "miou": metric.MulticlassJaccardIndex(average="macro", **options),
            "pixel_accuracy": metric.MulticlassAccuracy(average="micro", **options),
            "class_accuracy": metric.MulticlassAccuracy(average="none", **options),
            "mean_class_accuracy": metric.MulticlassAccuracy(average="macro", **options),
        }
        for name, peer in peers.items():
            for seed in range(3):
                peer.update(*(torch.tensor(x) for x in maps(seed)))
            np.testing.assert_allclose(getattr(filled, name), peer.compute(), rtol=1e-6)

    def test_against_mmsegmentations_formulas(self, filled):
        """Areas of intersection, union, prediction and label, summed over images."""
        area = np.zeros((3, CLASSES))
        for seed in range(3):
            labels, gt = maps(seed)
            counted = gt != 255
            hit = labels[counted & (labels == gt)]
            for row, values in enumerate((hit, labels[counted], gt[counted])):
                area[row] += np.histogram(values, CLASSES, (0, CLASSES - 1))[0]
        hit, predicted, true = area
        np.testing.assert_allclose(filled.iou, hit / (predicted + true - hit), rtol=1e-12)
        np.testing.assert_allclose(filled.class_accuracy, hit / true, rtol=1e-12)
        assert filled.pixel_accuracy == pytest.approx(hit.sum() / true.sum(), rel=1e-12)
        assert filled.miou == pytest.approx(np.mean(hit / (predicted + true - hit)), rel=1e-12)

    def test_boundary_iou_is_of_pooled_counts(self, filled):
        counts = np.array([boundary_counts(*maps(seed), CLASSES) for seed in range(3)]).sum(0)
        np.testing.assert_array_equal(filled.boundary_iou, counts[0] / counts[1])
        assert filled.mean_boundary_iou == pytest.approx(np.mean(counts[0] / counts[1]))

    def test_absent_classes_are_nan_and_left_out(self):
        metrics = SegmentationMetrics(4)
        metrics.update([[0, 0, 2]], [[0, 1, 255]])
        # Class 2 is predicted only where nothing counts; 3 nowhere; 1 is true, but not predicted.
        np.testing.assert_array_equal(metrics.iou, [0.5, 0, np.nan, np.nan])
        assert metrics.miou == 0.25
        np.testing.assert_array_equal(metrics.class_accuracy, [1, 0, np.nan, np.nan])
        assert np.isnan(metrics.boundary_iou[2:]).all()

    def test_a_class_only_predicted_counts_as_zero(self):
        metrics = SegmentationMetrics(2)
        metrics.update([[0, 1]], [[0, 0]])
        np.testing.assert_array_equal(metrics.iou, [0.5, 0])
        np.testing.assert_array_equal(metrics.class_accuracy, [0.5, np.nan])
        assert metrics.mean_class_accuracy == 0.5

    def test_none_of_these_is_a_miss_and_no_class(self):
        """By brute force: its label is no class of either map, and all else is as before."""
        metrics = SegmentationMetrics(CLASSES, dilation_ratio=0.05)
        for seed in range(2):
            labels, gt = maps(seed, block=9, ignored=0.01)
            rejects = np.random.default_rng(seed).random((3, 4)).repeat(9, 0).repeat(9, 1) < 0.3
            labels = np.where(rejects[:23, :31], CLASSES, labels)
            alone = metrics.update(labels, gt, background=True)
            both = slow_confusion(labels, gt, CLASSES + 1)
            np.testing.assert_array_equal(alone.confusion, both[:CLASSES, :CLASSES])
            np.testing.assert_array_equal(alone.rejected, both[:CLASSES, CLASSES])
            assert alone.rejected.sum() > 20
            assert alone.ignored == (gt == 255).sum()
            expected = slow_boundary_counts(labels, gt, CLASSES, 2)
            np.testing.assert_array_equal(alone.boundary_intersection, expected[0])
            np.testing.assert_array_equal(alone.boundary_union, expected[1])
            for c in range(CLASSES):
                hit = ((labels == c) & (gt == c)).sum()
                either = ((gt == c) | ((labels == c) & (gt != 255))).sum()
                assert alone.iou[c] == pytest.approx(hit / either)
                assert alone.class_accuracy[c] == pytest.approx(hit / (gt == c).sum())
            right = ((labels == gt) & (gt != 255)).sum()
            assert alone.pixel_accuracy == pytest.approx(right / (gt != 255).sum())
        again = SegmentationMetrics.from_dict(metrics.to_dict())
        np.testing.assert_array_equal(again.rejected, metrics.rejected)
        assert again.to_dict() == metrics.to_dict()
        with pytest.raises(lpprop.InputError, match="labels: got the label 4"):
            metrics.update(labels, gt)

    def test_nothing_counts(self):
        metrics = SegmentationMetrics(2)
        alone = metrics.update([[0, 1]], [[255, 255]])
        for value in (alone.miou, alone.mean_boundary_iou, alone.pixel_accuracy):
            assert math.isnan(value)

    def test_an_image_alone(self):
        metrics = SegmentationMetrics(CLASSES)
        metrics.update(*maps(0))
        alone = metrics.update(*maps(1))
        np.testing.assert_array_equal(alone.confusion, slow_confusion(*maps(1), CLASSES))
        expected = slow_confusion(*maps(0), CLASSES) + slow_confusion(*maps(1), CLASSES)
        np.testing.assert_array_equal(metrics.confusion, expected)

    def test_merging_equals_accumulating(self, filled):
        parts = []
        for seed in range(3):
            parts.append(SegmentationMetrics(CLASSES))
            parts[-1].update(*maps(seed))
        joined = parts[2] + parts[0] + parts[1]
        assert joined.to_dict() == filled.to_dict()
        assert parts[0].to_dict() != filled.to_dict()  # addition changes neither side

    def test_through_json(self, filled):
        text = json.dumps(filled.to_dict())
        again = SegmentationMetrics.from_dict(json.loads(text))
        for name in ("confusion", "boundary_intersection", "boundary_union"):
            np.testing.assert_array_equal(getattr(again, name), getattr(filled, name))
            assert getattr(again, name).dtype == np.int64
        assert (again + filled).miou == filled.miou

    def test_json_is_sparse(self):
        metrics = SegmentationMetrics(1000, ignore_index=-1)
        metrics.update(*maps(0, ignored=0))
        assert len(json.dumps(metrics.to_dict())) < 1000

    def test_pixels_that_do_not_count_are_counted(self):
        metrics = SegmentationMetrics(CLASSES)
        for seed in range(3):
            metrics.update(*maps(seed))
        assert metrics.ignored == sum((maps(seed)[1] == 255).sum() for seed in range(3)) > 0
        assert SegmentationMetrics.from_dict(metrics.to_dict()).ignored == metrics.ignored
        assert (metrics + metrics).ignored == 2 * metrics.ignored

    @pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int64])
    def test_numbers_of_numpy(self, kind):
        """200 classes in a uint8: their square does not fit there."""
        labels, gt = maps(0, classes=200)
        for count in (confusion_matrix, boundary_counts):
            got = count(labels, gt, kind(200), ignore_index=kind(255))
            np.testing.assert_array_equal(got, count(labels, gt, 200))

    def test_masked_pixels_do_not_count(self):
        labels, gt = maps(0)
        hidden = np.random.default_rng(1).random(gt.shape) < 0.3
        twin = np.where(hidden, 255, gt)
        masked = np.ma.array(gt.astype(np.uint8), mask=hidden)
        for given in (masked, list(masked)):
            np.testing.assert_array_equal(
                confusion_matrix(labels, given, CLASSES), slow_confusion(labels, twin, CLASSES)
            )
        np.testing.assert_array_equal(  # -1 does not fit into the map's uint8
            confusion_matrix(labels, np.ma.array(np.where(gt == 255, 0, gt), mask=hidden), CLASSES,
                             ignore_index=-1),
            slow_confusion(labels, np.where(hidden, -1, np.where(gt == 255, 0, gt)), CLASSES, -1),
        )  # fmt: skip
        for count in (confusion_matrix, boundary_counts):
            with pytest.raises(lpprop.InputError, match=r"^labels: got an array with .* masked"):
                count(np.ma.array(labels, mask=hidden), gt, CLASSES)
        unmasked = np.ma.array(labels)
        np.testing.assert_array_equal(
            confusion_matrix(unmasked, gt, CLASSES), slow_confusion(labels, gt, CLASSES)
        )

    def test_any_integers_and_devices(self):
        labels, gt = maps(0)
        expected = SegmentationMetrics(CLASSES).update(labels, gt).to_dict()
        for given in (
            (labels.astype(np.uint8), gt.astype(np.uint16)),
            (torch.tensor(labels), torch.tensor(gt, dtype=torch.uint8)),
            (labels.tolist(), np.asfortranarray(gt)),
        ):
            assert SegmentationMetrics(CLASSES).update(*given).to_dict() == expected


class TestRefusals:
    @pytest.mark.parametrize(
        ("labels", "gt", "argument", "part"),
        [
            ([[0, 1]], [[0], [1]], "labels", "shape (1, 2), expected (2, 1)"),
            ([[0, 2]], [[0, 1]], "labels", "the label 2, expected 0 to 1"),
            ([[0, -1]], [[0, 1]], "labels", "the label -1"),
            ([[0, 1]], [[0, 2]], "gt", "0 to 1, or 255"),
            ([[0.0, 1.0]], [[0, 1]], "labels", "float64"),
            ([[0, 1]], [[True, False]], "gt", "bool"),
            ([0, 1], [0, 1], "labels", "shape (2,)"),
            ([[]], [[]], "labels", "shape (1, 0)"),
        ],
    )
    def test_maps(self, labels, gt, argument, part):
        for count in (confusion_matrix, boundary_counts):
            with pytest.raises(lpprop.InputError) as raised:
                count(np.array(labels), np.array(gt), 2)
            assert str(raised.value).startswith(f"{argument}: ")
            assert part in str(raised.value)

    @pytest.mark.parametrize(
        "given",
        [
            [[0, 1], [0]],
            None,
            "map.png",
            {0: 1},
            [[0, None]],
            torch.zeros(2, 2, dtype=torch.long).to_sparse(),
            torch.empty(2, 2, dtype=torch.long, device="meta"),
            np.zeros((2, 2), dtype=object),
            [[0, 10**30]],
            np.array([["a"]]),
        ],
        ids=lambda given: type(given).__name__,
    )
    def test_maps_of_odd_types(self, given):
        for count in (confusion_matrix, boundary_counts, SegmentationMetrics(2).update):
            classes = () if count.__name__ == "update" else (2,)
            with pytest.raises(lpprop.InputError, match=r"^gt: got "):
                count(np.zeros((2, 2), int), given, *classes)
        with pytest.raises(lpprop.InputError, match=r"^gt: got "):
            reduce_zero_label(given)
        with pytest.raises(lpprop.InputError, match=r"^labels: got "):
            merge_labels(given, [[0], [1]])

    def test_small_integers_hold_more_classes_than_they_number(self):
        labels, gt = np.full((4, 4), 44), np.full((4, 4), 44)
        gt[:2] = -1
        for small in (np.uint8, np.int8):
            given = (labels.astype(small), gt.astype(np.int8))
            for count in (confusion_matrix, boundary_counts):
                np.testing.assert_array_equal(
                    count(*given, 300, ignore_index=-1), count(labels, gt, 300, ignore_index=-1)
                )

    def test_predictions_are_free_where_nothing_counts(self):
        assert confusion_matrix([[0, 77]], [[0, 255]], 2).sum() == 1

    @pytest.mark.parametrize(
        ("options", "argument"),
        [
            ({"classes": 0}, "classes"),
            ({"ignore_index": 1}, "ignore_index"),
            ({"ignore_index": 0.5}, "ignore_index"),
            ({"dilation_ratio": 0}, "dilation_ratio"),
            ({"dilation_ratio": math.nan}, "dilation_ratio"),
        ],
    )
    def test_settings(self, options, argument):
        with pytest.raises(lpprop.InputError, match=f"^{argument}: "):
            SegmentationMetrics(**({"classes": 2} | options))

    def test_merging_other_settings(self):
        with pytest.raises(lpprop.InputError, match=r"'dilation_ratio': 0\.01"):
            SegmentationMetrics(2).merge(SegmentationMetrics(2, dilation_ratio=0.01))
        with pytest.raises(lpprop.InputError, match=r"^other: got dict"):
            SegmentationMetrics(2).merge({})

    GOOD = SegmentationMetrics(2).update([[0, 1], [1, 1]], [[0, 1], [0, 255]]).to_dict()

    @pytest.mark.parametrize(
        "change",
        [
            {"classes": "two"},
            {"classes": None},
            {"ignore_index": 0},
            {"dilation_ratio": "wide"},
            {"ignored": -1},
            {"ignored": 0.5},
            {"confusion": [[0, 0, -1]]},
            {"confusion": [[0, 2, 1]]},
            {"confusion": [[-1, 0, 1]]},
            {"confusion": [[0, 0, 1], [0, 0, 1]]},
            {"confusion": [[0, 0, 0.5]]},
            {"confusion": [[0, 0, True]]},
            {"confusion": [[0, 0, 2**80]]},
            {"confusion": [[0, 0]]},
            {"confusion": [[[0], 0, 1]]},
            {"confusion": {"0": 1}},
            {"confusion": 5},
            {"boundary": [[0, 2, 1]]},
            {"boundary": [[0, 1, 99]]},
            {"boundary": [[2, 0, 1]]},
            {"boundary": None},
        ],
        ids=repr,
    )
    def test_counts_that_no_metrics_wrote(self, change):
        SegmentationMetrics.from_dict(self.GOOD)
        with pytest.raises(lpprop.InputError):
            SegmentationMetrics.from_dict(self.GOOD | change)
        without = {name: part for name, part in self.GOOD.items() if name not in change}
        for counts in (without, [], None):
            with pytest.raises(lpprop.InputError, match=r"^counts: "):
                SegmentationMetrics.from_dict(counts)


def test_evaluation_needs_opencv_for_boundaries_alone():
    script = """
import sys
sys.modules["cv2"] = None  # as where it is not installed
from lpprop import evaluation
assert evaluation.confusion_matrix([[0]], [[0]], 1).tolist() == [[1]]
try:
    evaluation.boundary_counts([[0]], [[0]], 1)
except ImportError as error:
    assert "pip install opencv-python-headless" in str(error)
import torch, lpprop
try:
    lpprop.compare(torch.rand(1, 2, 4, 4), image=torch.rand(1, 3, 8, 8), gt=[[0] * 8] * 8,
                   methods=["bilinear"])
except ImportError as error:
    assert "pip install opencv-python-headless" in str(error)
    sys.exit(7)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 7
    assert _find_versions() == {"opencv": cv2.__version__}


class TestLabelMaps:
    def test_reduce_zero_label(self):
        gt = np.array([[0, 1, 150, 255]], dtype=np.uint8)
        got = reduce_zero_label(gt)
        assert got.tolist() == [[255, 0, 149, 255]]
        assert got.dtype == np.uint8

    @pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint64, ">i4"])
    @pytest.mark.parametrize("ignore_index", [255, 7, 2**31 - 1, np.int16(300)])
    def test_reduce_zero_label_of_any_integers(self, kind, ignore_index):
        stored = [0, 1, 2, 100, 7]
        expected = [
            int(ignore_index) if label in (0, int(ignore_index)) else label - 1 for label in stored
        ]
        got = reduce_zero_label(np.array([stored], dtype=kind), ignore_index=ignore_index)
        assert got.tolist() == [expected]
        assert got.dtype.kind in "iu"

    def test_reduce_zero_label_of_what_it_cannot_number(self):
        with pytest.raises(lpprop.InputError, match="the label -1 in int8"):
            reduce_zero_label(np.array([[0, 255]], dtype=np.uint8).view(np.int8))
        for ignore_index in (-1, 0.5, True, math.nan, "255", 2**31):
            with pytest.raises(lpprop.InputError, match=r"^ignore_index: "):
                reduce_zero_label([[0]], ignore_index=ignore_index)

    def test_masked_labels_become_ignored(self):
        masked = np.ma.array([[0, 1, 2]], mask=[[False, True, False]], dtype=np.uint8)
        assert reduce_zero_label(masked).tolist() == [[255, 255, 1]]
        assert merge_labels(masked, [[0], [1, 2]], ignore_index=-1).tolist() == [[0, -1, 1]]

    @pytest.mark.parametrize("ignore_index", [1, 0, 0.5, True, math.nan, None, "255", 2**40])
    def test_merge_labels_refuses_what_cannot_be_ignored(self, ignore_index):
        with pytest.raises(lpprop.InputError, match=r"^ignore_index: "):
            merge_labels([[0, 1]], [[0], [1]], ignore_index=ignore_index)

    @pytest.mark.parametrize(
        "groups",
        [
            [], None, 5, "01", {0: 1}, {(0,), (1,)}, [0, 1], [[0], []], [[0], ["1"]], [[0.0], [1]],
            [[True], [0]], [[-1], [0]], [[0], [255]], [[[0]], [1]], ["0", "1"], (x for x in ([0],)),
            np.array(3), [np.array(0)],
        ],
    )  # fmt: skip
    def test_merge_labels_refuses_odd_groups(self, groups):
        with pytest.raises(lpprop.InputError, match=r"^groups"):
            merge_labels([[0, 1]], groups)

    def test_merge_labels_takes_arrays_as_groups(self):
        groups = np.array([[0, 3], [1, 2]])
        assert merge_labels([[0, 1, 2, 3]], groups).tolist() == [[0, 1, 1, 0]]

    def test_merge_labels_is_the_argmax_of_merged_scores(self):
        scores = torch.rand(1, 5, 7, 9, generator=torch.Generator().manual_seed(0))
        groups = [[0, 3], [1], [2, 4]]
        expected = lpprop.merge_classes(scores, groups).argmax(1)[0]
        np.testing.assert_array_equal(merge_labels(scores.argmax(1)[0], groups), expected)

    def test_merge_labels_of_no_group(self):
        assert merge_labels([[0, 1, 255]], [[1]], ignore_index=-1).tolist() == [[-1, 0, -1]]

    def test_merge_labels_refuses_a_class_in_two_groups(self):
        with pytest.raises(lpprop.InputError, match="class 1 twice"):
            merge_labels([[0]], [[0, 1], [1]])
