"""What one user may ask of a machine that many use."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lpprop._core.errors import InputError
from lpprop._core.options import check_integer

__all__ = ["Limits"]


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of the web app; the defaults are for a public machine with two cores.

    Together they bound the memory of a job: about 12 bytes per pixel of an upload while it is
    read, then a few arrays of `classes` x `side` x `side` numbers.

    Args:
        file_bytes: size of an uploaded file.
        pixels: width times height of an uploaded image, known from its header.
        side: longer side of the image that is worked on; larger ones are scaled down to it.
        shorter_side: what the shorter side has at least, after scaling.
        classes: number of classes.
        characters: length of the text that names the classes.
        clicks: number of points on one image.
        seconds: how long one job may take.
        jobs: how many jobs run at the same time.
        waiting: how many more wait; beyond that, new ones are refused.
        sessions: how many visits are remembered; beyond that, the quietest is forgotten.
        minutes: how long a file is kept whose session has not ended.
        disk_bytes: size of all files that are kept, of all sessions.

    Raises:
        InputError: a limit that is not a positive integer.

    >>> Limits().check_classes(["sky"] * 33)
    Traceback (most recent call last):
    lpprop.InputError: classes: got 33 classes, expected at most 32. Leave some out.
    """

    file_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    side: int = 1024
    shorter_side: int = 32
    classes: int = 32
    characters: int = 2000
    clicks: int = 500
    seconds: int = 30
    jobs: int = 1
    waiting: int = 16
    sessions: int = 64
    minutes: int = 30
    disk_bytes: int = 2**30

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_integer(field.name, getattr(self, field.name), low=1)

    def check_text(self, text: str, argument: str = "classes") -> None:
        """Refuse a text that is too long to be read.

        Raises:
            InputError: a text of more than `characters` characters.
        """
        if len(text) > self.characters:
            raise InputError.of(
                argument,
                got=f"a text of {len(text):,} characters",
                expected=f"at most {self.characters:,}",
                fix="Make it shorter.",
            )

    def check_classes(self, names: Sequence[str], argument: str = "classes") -> None:
        """Refuse too many classes, or names that are too long together.

        Raises:
            InputError: more than `classes` names, or more than `characters` characters.
        """
        if len(names) > self.classes:
            raise InputError.of(
                argument,
                got=f"{len(names):,} classes",
                expected=f"at most {self.classes}",
                fix="Leave some out.",
            )
        self.check_text("".join(names), argument)

    def check_clicks(self, number: int) -> None:
        """Refuse too many clicks on one image.

        Raises:
            InputError: more than `clicks`.
        """
        if number > self.clicks:
            raise InputError.of(
                "clicks",
                got=f"{number:,} clicks",
                expected=f"at most {self.clicks} on one image",
                fix="Take some back.",
            )
