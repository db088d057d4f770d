"""Optical flow and label changes, on synthetic images whose motion is known."""

import cv2
import numpy as np
import pytest
import torch

from lpprop import InputError
from lpprop.evaluation import label_changes, optical_flow
from lpprop.evaluation.temporal import Flow

SIZE = (96, 128)
DOWN, RIGHT = 3, 7


def texture(size, seed=0):
    """Smooth noise of many scales, which optical flow can follow."""
    rng = np.random.default_rng(seed)
    total = sum(
        cv2.resize(rng.random((size[0] // cell, size[1] // cell, 3)), size[::-1], interpolation=3)
        for cell in (4, 8, 16)
    )
    return ((total - total.min()) / np.ptp(total) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shifted():
    """Two views of one large texture: what is at (y, x) was at (y - DOWN, x - RIGHT) before."""
    large = texture((SIZE[0] + 32, SIZE[1] + 32))
    before = large[16:-16, 16:-16]
    after = large[16 - DOWN : -16 - DOWN, 16 - RIGHT : -16 - RIGHT]
    return before, after


def test_the_flow_is_the_shift(shifted):
    flow = optical_flow(*shifted)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    inner = (slice(DOWN + 8, -8), slice(RIGHT + 8, -8))  # away from what has come in
    rows, columns = (y - flow.rows)[inner], (x - flow.columns)[inner]
    assert (rows == DOWN).mean() > 0.99
    assert (columns == RIGHT).mean() > 0.99
    assert flow.visible[inner].mean() > 0.99


def test_what_has_come_in_was_not_visible(shifted):
    flow = optical_flow(*shifted)
    assert not flow.visible[:, : RIGHT - 2].any()
    assert flow.visible[:, : RIGHT - 2].size > 400


def test_what_was_covered_was_not_visible():
    """A square moves over still ground: the strip that it leaves behind has no place before."""
    ground, square = texture(SIZE), texture((40, 40), seed=5)
    before, after = ground.copy(), ground.copy()
    before[30:70, 30:70], after[30:70, 36:76] = square, square
    visible = optical_flow(before, after).visible
    assert visible[32:68, 31:35].mean() < 0.4  # DIS blurs the motion across the edge
    assert visible[40:60, 50:70].mean() > 0.9
    assert visible[:20].mean() > 0.95


def test_labels_that_move_along_do_not_change(shifted):
    """Labels of the texture itself, seen in both views; and others, which all change."""
    flow = optical_flow(*shifted)
    labels = np.arange(SIZE[0] + 32)[:, None] // 24 * 10 + np.arange(SIZE[1] + 32) // 24
    before = labels[16:-16, 16:-16]
    after = labels[16 - DOWN : -16 - DOWN, 16 - RIGHT : -16 - RIGHT]
    counts = label_changes(before, after, flow)
    assert counts.compared == flow.visible.sum() > 0.8 * after.size
    assert counts.changed / counts.compared < 0.01
    stays = label_changes(before, before, flow)  # as if nothing had moved
    assert stays.changed / stays.compared > 0.2
    assert label_changes(before, after + 1, flow).changed > 0.99 * counts.compared


def test_counts_by_hand():
    rows, columns = np.zeros((1, 4), dtype=int), np.array([[0, 0, 1, 3]])
    flow = Flow(rows, columns, np.array([[True, True, True, False]]))
    assert label_changes([[1, 2, 9, 9]], [[1, 3, 2, 5]], flow) == (1, 3)
    assert label_changes([[1, 255, 9, 9]], [[1, 3, 2, 5]], flow) == (1, 2)
    assert label_changes([[1, 2, 9, 9]], [[255, 255, 255, 5]], flow) == (0, 0)
    assert label_changes([[1, 2, 9, 9]], [[1, 3, 2, 5]], flow, ignore_index=3) == (0, 2)


def test_any_kind_of_image(shifted):
    """Arrays, tensors in [0, 1] and a batch of one give one flow."""
    plain = optical_flow(*shifted)
    tensors = [torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in shifted]
    for a, b in zip(plain, optical_flow(*tensors), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (np.zeros((32, 32, 3), np.uint8), np.zeros((32, 33, 3), np.uint8), "after: got 32 x 33"),
        (np.zeros((8, 32, 3), np.uint8), np.zeros((8, 32, 3), np.uint8), "after: got 8 x 32"),
        (np.zeros((2, 32, 32, 3), np.uint8), np.zeros((32, 32, 3), np.uint8), "before: got shape"),
    ],
)
def test_frames_that_do_not_fit(before, after, said):
    with pytest.raises(InputError) as error:
        optical_flow(before, after)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("labels", "said"),
    [([[0, 1]], "before: got 1 x 2 labels"), ([[0.5] * 4], "before: got")],
)
def test_labels_that_do_not_fit(labels, said):
    flow = Flow(*np.mgrid[:1, :4], np.ones((1, 4), bool))
    with pytest.raises(InputError) as error:
        label_changes(labels, [[0, 1, 2, 3]], flow)
    assert str(error.value).startswith(said)
