"""`lpprop segment` on a video: labels of each frame, and the video with its labels laid over it.

<stem>_labels/000000.png ...        a file per frame, which is whole or absent
<stem>_overlay.png, <stem>_overlay.mp4
<stem>_record.json

A run that was ended is continued at the first frame without labels; the models see the few frames
before it again, with which it is refined.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpprop._core.errors import InputError
from lpprop._core.progress import Progress
from lpprop._version import __version__
from lpprop.cli.common import check_room
from lpprop.cli.results import Results
from lpprop.io.atomic import atomic_write, remove_abandoned
from lpprop.io.label_maps import label_image, load_labels
from lpprop.io.videos import VIDEO_SUFFIXES, VideoInfo, describe_video, read_video, write_video
from lpprop.viz.drawing import overlay, panels
from lpprop.viz.palettes import named_colours

if TYPE_CHECKING:
    from lpprop.models.segmenter import Segmenter

__all__ = ["WINDOW", "ClipResults", "check_clip", "is_clip", "segment_clip"]

#: How many frames are refined together, unless --window says otherwise.
WINDOW = 3


class ClipResults(Results):
    """The files of one video's results."""

    @property
    def files(self) -> list[Path]:
        """The files that are written at the end."""
        return [self.folder / f"{self.image.stem}_overlay.{kind}" for kind in ("png", "mp4")]

    @property
    def labels_folder(self) -> Path:
        """The folder of the frames' labels."""
        return self.folder / f"{self.image.stem}_labels"

    def labels_file(self, number: int) -> Path:
        """The file of one frame's labels."""
        return self.labels_folder / f"{number:06d}.png"

    def find_differences(self) -> list[str] | None:
        """Tell how the labels that are there were made otherwise, as for images."""
        record = self.load_record()
        if record is not None:
            found = self.compare(record)
            done = record["complete"] and all(file.exists() for file in self.files)
            return found if found or (done and self._count() >= record["frames"]) else None
        for file in (*self.files, self.labels_folder):
            if file.exists():
                return [f"{file.name} is there without a record of how it was made"]
        return None

    def clear(self) -> None:
        """Remove what is there."""
        for file in (self.record_file, *self.files, *self.labels_folder.glob("[0-9]*.png")):
            file.unlink(missing_ok=True)

    def first_missing(self) -> int:
        """The number of the first frame without labels."""
        number = 0
        while self.labels_file(number).exists():
            number += 1
        return number

    def _count(self) -> int:
        return sum(1 for _ in self.labels_folder.glob("[0-9]*.png"))


def is_clip(path: Path | None) -> bool:
    """Tell whether a path is that of a video, by its suffix."""
    return path is not None and path.suffix.lower() in VIDEO_SUFFIXES and not path.is_dir()


def check_clip(arguments: argparse.Namespace) -> dict[str, Any]:
    """Refuse options that a video, or an image, does not have; return the settings of a video."""
    from lpprop.video.clips import check_window

    if not is_clip(arguments.image):
        if arguments.window is not None:
            raise InputError.of(
                "--window",
                got=f"{arguments.window} for {arguments.image}",
                expected=f"nothing, or a video ({', '.join(VIDEO_SUFFIXES)})",
                fix="Leave it out: images are refined one by one.",
            )
        return {}
    if isinstance(arguments.regions, Path):
        raise InputError.of(
            "--regions",
            got=str(arguments.regions),
            expected="a name, since a video's frames have no files",
            fix="Pass --regions slic, or segment the frames as images.",
        )
    return {"window": check_window(WINDOW if arguments.window is None else arguments.window)}


def segment_clip(
    results: ClipResults, segmenter: Segmenter, classes: Sequence[str], *, overwrite: bool
) -> None:
    """Write the labels of the frames that have none, and then the overlay of all."""
    from lpprop.video import segment

    inputs = results.fingerprints()
    info = describe_video(results.image, "IMAGE")
    check_room("IMAGE", len(classes), info.size, segmenter.backbone.device)
    if overwrite:
        results.clear()
    results.labels_folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(results.labels_folder)
    record = {
        "complete": False, "lpprop": __version__, "settings": results.settings, "inputs": inputs,
        "commits": {"backbone": segmenter.backbone.commit, "affinity": segmenter.affinity.commit},
    }  # fmt: skip
    results.write_record(record)
    window = results.settings["window"]
    missing = results.first_missing()
    start = max(0, missing - window // 2)  # frames before it, with which it is refined
    frames, times = _split(results.image, start, info)
    names = segmenter.choice.label_names(segmenter.backbone.class_names(classes))
    background = segmenter.choice.background is not None
    with Progress(info.frames - missing if info.frames else None, unit="frame") as progress:
        found = segment(segmenter, frames, classes, window=window, times=times)
        for number, segmentation in enumerate(found, start):
            if number < missing:
                continue
            labels = segmentation.labels[0]
            with atomic_write(results.labels_file(number)) as file:
                label_image(labels, len(names) - background, background=background).save(
                    file, format="PNG"
                )
            progress.update()
    seconds = _draw(results, names, info)
    results.write_record({**record, "complete": True, "frames": len(seconds), "seconds": seconds})


def _split(path: Path, start: int, info: VideoInfo) -> tuple[Iterator[Any], Iterator[float]]:
    """Return the frames from one on, and their times in frames of the mean rate."""
    late: list[float] = []

    def frames() -> Iterator[Any]:
        for frame in islice(read_video(path, "IMAGE"), start, None):
            late.append(frame.time * info.rate)
            yield frame.pixels

    def times() -> Iterator[float]:
        while late:
            yield late.pop(0)

    return frames(), times()


def _draw(results: ClipResults, names: Sequence[str], info: VideoInfo) -> list[float]:
    """Write the video with the labels over it, and its first frame with a legend.

    Returns:
        The time of each frame in seconds.
    """
    seconds: list[float] = []
    palette = named_colours("default", names)

    def frames() -> Iterator[Any]:
        for number, frame in enumerate(read_video(results.image, "IMAGE")):
            seconds.append(round(frame.time, 6))
            labels = load_labels(results.labels_file(number), "--out")
            drawn = overlay(frame.pixels.copy(), labels, len(names), palette=palette)
            if number == 0:
                page = panels([(results.image.name, drawn)], names)
                with atomic_write(results.files[0]) as file:
                    page.save(file, format="PNG")
            yield np.asarray(drawn)

    write_video(results.files[1], frames(), info.rate)
    return seconds
