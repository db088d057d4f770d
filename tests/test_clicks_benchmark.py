"""The study of clicks: its page shows the committed results, and its clicks are where they say."""

import json

import numpy as np
import pytest
from benchmarks.clicks import simulated
from benchmarks.clicks.tables import tables
from benchmarks.marked import MARKED, renew

pytest.importorskip("skimage")


def test_the_page_shows_the_committed_results(tmp_path):
    from benchmarks.clicks.__main__ import FILE, PAGE

    made = tables(json.loads(FILE.read_text()))
    text = PAGE.read_text()
    assert {name for _, name, _ in MARKED.findall(text)} == set(made)
    copy = tmp_path / "clicks.md"
    copy.write_text(text)
    renew(copy, made)
    assert copy.read_text() == text


def test_clicks_are_inside_their_classes_and_then_where_it_is_wrong():
    gt = np.zeros((40, 60), np.uint8)
    gt[:, 30:], gt[0, 0], gt[30:, :5] = 7, 3, 255
    assert simulated.shown(gt) == [0, 7]  # one pixel is too few
    clicked = simulated.at_random(gt, 5, np.random.default_rng(0))
    assert [gt[place] for place in clicked.points] == [0] * 5 + [7] * 5
    assert all(4 <= column <= 25 or column >= 34 for _, column in clicked.points)
    predicted = (gt == 7).astype(np.int64)
    assert simulated.score(gt, predicted) == pytest.approx(1, abs=1e-3)
    assert simulated.corrected(clicked, gt, predicted) == clicked
    predicted[10:19, 40:51], predicted[5:8, 10:13] = 0, 1
    more = simulated.corrected(clicked, gt, predicted)
    assert more.labels[-1] == 1
    assert more.points[-1][0] == 14
    assert 44 <= more.points[-1][1] <= 46
