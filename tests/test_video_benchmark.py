"""The study of clips: its page shows the committed results, and its windows are what they say."""

import json

import torch
from benchmarks.marked import MARKED, renew
from benchmarks.video import study
from benchmarks.video.__main__ import FILE, PAGE
from benchmarks.video.tables import tables


def test_the_page_shows_the_committed_results(tmp_path):
    made = tables(json.loads(FILE.read_text()))
    text = PAGE.read_text()
    assert {name for _, name, _ in MARKED.findall(text)} == set(made)
    copy = tmp_path / "video.md"
    copy.write_text(text)
    renew(copy, made)
    assert copy.read_text() == text


def test_the_mean_of_the_starts_is_of_the_frames_around():
    starts = [torch.full((1, 1, 1, 1), float(x)) for x in (0, 3, 9, 6)]
    assert [float(x) for x in study.average(starts, 3)] == [1.5, 4.0, 6.0, 7.5]
