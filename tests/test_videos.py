"""Videos in and out: upright, at their own times, and refused where they are damaged."""

import subprocess
import sys

import numpy as np
import pytest

import clips
from lpprop import InputError, InputWarning
from lpprop.io import videos
from lpprop.io.videos import describe_video, read_video, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return clips.write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=8)


DAMAGES = (clips.blank, clips.cut)


def bar(pixels):
    """The width of the red bar along a row."""
    row = pixels[pixels.shape[0] // 2].astype(int)
    return int(((row[:, 0] > 180) & (row[:, 1] < 90)).sum())


def test_frames_come_in_order_as_rgb(clip):
    frames = list(read_video(clip))
    assert [frame.pixels.shape for frame in frames] == [(*clips.SIZE, 3)] * 8
    assert [abs(bar(frame.pixels) - 8 * (i + 1)) <= 2 for i, frame in enumerate(frames)] == [
        True
    ] * 8
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(8)])
    assert describe_video(clip) == (8, 25.0, clips.SIZE)


def test_a_turned_video_is_read_upright(clip, tmp_path):
    turned = clips.rotate(clip, tmp_path / "turned.mp4")
    assert describe_video(turned).size == clips.SIZE[::-1]
    plain, upright = (list(read_video(path))[3].pixels for path in (clip, turned))
    assert np.array_equal(upright, np.rot90(plain, -1))


def test_a_variable_rate_keeps_its_times(clip, tmp_path):
    slow = clips.vary_rate(clip, tmp_path / "slow.mp4", first=3, factor=5)
    times = [frame.time for frame in read_video(slow)]
    assert np.diff(times) == pytest.approx([0.04] * 3 + [0.2] * 4, abs=1e-3)


def test_a_video_that_ends_early_gives_the_frames_that_it_has(clip, tmp_path):
    broken = clips.blank(clip, tmp_path / "broken.mp4")
    with pytest.warns(InputWarning, match=r"IMAGE: got .*broken.mp4, of which \d of 8 frames can"):
        frames = list(read_video(broken, "IMAGE"))
    assert 0 < len(frames) < 6


def test_a_video_that_is_cut_off_is_refused(clip, tmp_path):
    broken = clips.cut(clip, tmp_path / "broken.mp4")
    with pytest.raises(InputError, match=r"IMAGE: got .*broken.mp4, which FFmpeg cannot open"):
        list(read_video(broken, "IMAGE"))


def test_ffmpeg_says_nothing_past_us(clip, tmp_path):
    """In a process of its own, since FFmpeg takes its level of messages once."""
    files = [str(damage(clip, tmp_path / f"{damage.__name__}.mp4")) for damage in DAMAGES]
    script = (
        "import os, pathlib, sys, warnings; warnings.simplefilter('ignore')\n"
        "from lpprop import InputError; from lpprop.io.videos import read_video\n"
        "for path in sys.argv[1:]:\n"
        "    try: print(len(list(read_video(pathlib.Path(path)))))\n"
        "    except InputError: print('refused')\n"
        "assert 'OPENCV_FFMPEG_LOGLEVEL' not in os.environ"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *files], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[1:] == ["refused"]
    assert done.stderr == ""


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_what_is_no_video_is_refused(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    for read in (describe_video, lambda path: list(read_video(path))):
        with pytest.raises(InputError, match="video: got"):
            read(path)


@pytest.mark.parametrize("size", [(64, 96), (63, 95)])
def test_frames_out_and_in(tmp_path, size):
    """Smooth frames survive the codec; an odd side becomes even."""
    ramp = np.linspace(0, 200, size[1], dtype=np.uint8)
    frames = [np.broadcast_to(ramp[:, None] + 10 * i, (*size, 3)).copy() for i in range(4)]
    for i, frame in enumerate(frames):
        frame[..., 2] = 20 * i  # blue apart from red, so that the two cannot be swapped
    write_video(tmp_path / "a.mp4", iter(frames), 10.0)
    found = list(read_video(tmp_path / "a.mp4"))
    assert found[0].pixels.shape == (64, 96, 3)
    assert [frame.time for frame in found] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    for frame, was in zip(found, frames, strict=True):
        part = frame.pixels[: size[0], : size[1]]
        assert np.abs(part.astype(int) - was).mean() < 6


def test_a_video_is_whole_or_absent(tmp_path):
    def frames():
        yield np.zeros((64, 96, 3), np.uint8)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_video(tmp_path / "a.mp4", frames(), 10.0)
    with pytest.raises(InputError, match="frames: got none"):
        write_video(tmp_path / "a.mp4", iter([]), 10.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("odd", ["size", "grey", "alpha", "floats"])
def test_a_frame_unlike_the_first_is_refused(tmp_path, odd):
    """OpenCV leaves it out, and the video is shorter."""
    frame = np.zeros((32, 48, 3), np.uint8)
    others = {
        "size": frame[:30], "grey": frame[..., 0], "alpha": np.zeros((32, 48, 4), np.uint8),
        "floats": frame / 255,
    }  # fmt: skip
    with pytest.raises(InputError, match=r"^frames: got shape .* \(frame 1\)"):
        write_video(tmp_path / "a.mp4", [frame, others[odd]], 10.0)
    if odd != "size":
        with pytest.raises(InputError, match=r"^frames: got shape .* \(frame 0\)"):
            write_video(tmp_path / "a.mp4", [others[odd]], 10.0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "rate", "said"),
    [
        ((16, 9000, 3), 25.0, "^frames: got 16 x 9000 pixels at 25"),
        ((16, 16, 3), 90000.0, "^frames: got 16 x 16 pixels at 90000"),
        ((16, 16, 3), 0.0, "^rate: got 0"),
        ((16, 16, 3), float("nan"), "^rate: got nan"),
    ],
)
def test_what_the_codec_does_not_know(tmp_path, capfd, shape, rate, said):
    with pytest.raises(InputError, match=said):
        write_video(tmp_path / "a.mp4", [np.zeros(shape, np.uint8)], rate)
    assert list(tmp_path.iterdir()) == []
    assert "codec" not in capfd.readouterr().err


def test_frames_that_did_not_reach_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "_count_frames", lambda path: 1)
    with pytest.raises(OSError, match="is the disk full"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 32, 32, 3), np.uint8), 10.0)
    assert list(tmp_path.iterdir()) == []
