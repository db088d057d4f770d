"""Videos: frames in, by OpenCV with the FFmpeg that its wheel holds, and frames out."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from lpprop._core.errors import InputError, warn
from lpprop._core.optional import import_cv2
from lpprop._core.options import check_above_0
from lpprop.io.atomic import atomic_write
from lpprop.io.files import require_file

__all__ = [
    "VIDEO_SUFFIXES",
    "VideoFrame",
    "VideoInfo",
    "describe_video",
    "read_video",
    "write_video",
]

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")
# Containers without an index estimate how many frames they hold: so much less is not cut off.
_SHARE, _FEW = 0.95, 2
_USUAL_RATE = 25.0
_LEVEL, _QUIET = "OPENCV_FFMPEG_LOGLEVEL", "-8"


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        pixels: RGB, upright as the file's rotation says.
        time: when it is shown, in seconds; rising from frame to frame.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    time: float


class VideoInfo(NamedTuple):
    """What a file says of itself.

    Attributes:
        frames: how many frames it holds; in some containers an estimate, and 0 where unknown.
        rate: their mean number per second.
        size: (H, W) of its frames, upright.
    """

    frames: int
    rate: float
    size: tuple[int, int]


def describe_video(path: Path, argument: str = "video") -> VideoInfo:
    """Tell what a video's file says of itself.

    Raises:
        InputError: a file that is missing, damaged, or no video.
    """
    with _opened(path, argument) as (video, info):
        if not video.grab():
            raise _damaged(path, argument, "of which no frame can be read")
        return info


def read_video(path: Path, argument: str = "video") -> Iterator[VideoFrame]:
    """Read a video frame by frame, each at its own time; sound is left out.

    Args:
        path: a file that FFmpeg reads, such as MP4, MOV, MKV, WebM or AVI.
        argument: what errors call it.

    Raises:
        InputError: a file that is missing, no video, or without a frame that can be read.

    Warns:
        InputWarning: after the last frame, fewer frames than the file says it holds.
    """
    with _opened(path, argument) as (video, info):
        number, before = 0, -1.0 / info.rate
        while True:
            there, pixels = video.read()
            if not there:
                break
            time = video.get(import_cv2().CAP_PROP_POS_MSEC) / 1000
            # Some containers have no times, or some twice.
            time = time if time > before else before + 1 / info.rate
            yield VideoFrame(pixels[..., ::-1], time)
            number, before = number + 1, time
        if number == 0:
            raise _damaged(path, argument, "of which no frame can be read")
        if number < _SHARE * info.frames - _FEW:
            warn(
                "video",
                f"{argument}: got {path}, of which {number} of {info.frames} frames can be read. "
                "The others are damaged, or a cut of the video hides them: if some are missing, "
                "write or download it again.",
            )


def write_video(path: Path, frames: Iterable[UInt8[np.ndarray, "H W 3"]], rate: float) -> None:
    """Write frames as MPEG-4 video, whole or not at all.

    Args:
        path: the file, an MP4.
        frames: RGB, all of one size; an odd side is made even by repeating its last line, as the
            codec wants it.
        rate: frames per second, > 0.

    Raises:
        InputError: no frame, one that is no RGB of 8 bits or of another size than the first, or a
            size or rate that the codec does not know.
        OSError: the disk is full or cannot be written to.
    """
    cv2 = import_cv2()
    rate = check_above_0("rate", rate)
    with tempfile.TemporaryDirectory() as folder:
        # The codec writes to a name alone, and knows the format by its end.
        part, writer, first, written = Path(folder) / "video.mp4", None, None, 0
        for number, frame in enumerate(frames):
            # OpenCV would leave out, without a word, what does not fit.
            first = frame.shape if first is None else first
            if frame.dtype != np.uint8 or frame.shape != (*first[:2], 3):
                raise InputError.of(
                    "frames",
                    got=f"shape {frame.shape} of {frame.dtype} (frame {number})",
                    expected=f"shape {(*first[:2], 3)} of uint8, as the first frame has it",
                    fix="Give all frames one size, in RGB from 0 to 255.",
                )
            sides = [(0, side % 2) for side in frame.shape[:2]]
            even = np.pad(frame, [*sides, (0, 0)], mode="edge")
            if writer is None:
                code = cv2.VideoWriter_fourcc(*"mp4v")
                with _silence():
                    writer = cv2.VideoWriter(str(part), code, rate, even.shape[1::-1])
                if not writer.isOpened():
                    raise InputError.of(
                        "frames",
                        got=f"{first[0]} x {first[1]} pixels at {rate:g} frames per second",
                        expected="sides up to 8191 pixels and a rate that MPEG-4 knows",
                        fix="Make them smaller, or pass a usual rate such as 25.",
                    )
            writer.write(np.ascontiguousarray(even[..., ::-1]))
            written += 1
        if writer is None:
            raise InputError.of(
                "frames", got="none", expected="at least one", fix="Pass the frames of a clip."
            )
        writer.release()
        if _count_frames(part) != written:  # the codec says nothing of a disk that is full
            raise OSError(errno.EIO, "The video cannot be written whole; is the disk full?", folder)
        with atomic_write(path) as file, part.open("rb") as made:
            shutil.copyfileobj(made, file)


def _count_frames(path: Path) -> int:
    cv2 = import_cv2()
    with _silence():
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return count


@contextmanager
def _opened(path: Path, argument: str) -> Iterator[tuple[Any, VideoInfo]]:
    require_file(path, argument, "a video")
    cv2 = import_cv2()
    with _silence():
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not video.isOpened():
            raise _damaged(path, argument, "which FFmpeg cannot open")
        video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate = video.get(cv2.CAP_PROP_FPS)
        yield (
            video,
            VideoInfo(
                max(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT))),
                rate if np.isfinite(rate) and rate > 0 else _USUAL_RATE,
                (
                    int(video.get(cv2.CAP_PROP_FRAME_HEIGHT)),
                    int(video.get(cv2.CAP_PROP_FRAME_WIDTH)),
                ),
            ),
        )
    finally:
        video.release()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep OpenCV, and the FFmpeg in it, from writing to stderr past everybody.

    FFmpeg takes its level when a process first uses it, and keeps it.
    """
    logging = import_cv2().utils.logging
    level, own = logging.getLogLevel(), _LEVEL not in os.environ
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    if own:
        os.environ[_LEVEL] = _QUIET
    try:
        yield
    finally:
        logging.setLogLevel(level)
        if own:
            os.environ.pop(_LEVEL, None)


def _damaged(path: Path, argument: str, why: str) -> InputError:
    return InputError.of(
        argument,
        got=f"{path}, {why}",
        expected="an undamaged video",
        fix="It may be cut off, or of another format than its name says: write or download it "
        "again.",
    )
