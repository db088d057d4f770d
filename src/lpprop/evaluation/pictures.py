"""What a run draws of each image: its labels, and its labels over it.

out/labels/<predictor>/<image>.png      class indices with a palette, as lpprop segment writes them
out/overlays/<predictor>/<image>.png    the labels over the image, with a legend
"""

from __future__ import annotations

import hashlib
import re
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.label_maps import as_label_map
from lpprop._core.options import hint, is_listed
from lpprop.evaluation.predictors import LabelledImage
from lpprop.inputs.background import add_name, find_background
from lpprop.io.atomic import remove_abandoned
from lpprop.io.images import save_image
from lpprop.io.label_maps import label_image
from lpprop.viz.drawing import overlay, panels
from lpprop.viz.palettes import named_colours

__all__ = ["KINDS", "Pictures", "check_kinds"]

KINDS = ("labels", "overlays")

#: Separators, wildcards and other signs with a meaning, control characters, and what is no text; a
#: dot at the beginning, which hides a file or names a folder; a dot or a blank at the end, which
#: Windows drops.
_UNSAFE = re.compile(r'[/\\:*?"<>|%\x00-\x1f\x7f-\x9f\ud800-\udfff]|^\.|[ .]\Z')

#: The bytes of a name, at most, and the digits of a hash. Systems take 255 bytes, with the suffix.
_LONGEST, _DIGITS = 200, 16


def check_kinds(kinds: object) -> tuple[str, ...]:
    """Return the kinds of pictures to save; refuse other words.

    >>> check_kinds(["overlays"])
    ('overlays',)
    """
    listed = is_listed(kinds)
    words: list[object] = list(kinds) if is_listed(kinds) else [kinds]
    unknown = [word for word in words if word not in KINDS] if listed else words
    if unknown:
        raise InputError.of(
            "save",
            got=reprlib.repr(unknown[0]),
            expected=f"{' or '.join(KINDS)}, or both" + ("" if listed else ", in a list"),
            fix=hint(str(unknown[0]), KINDS if listed else (), "Pass a list of these words."),
        )
    return tuple(kind for kind in KINDS if kind in words)


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run, there or still to be drawn.

    Attributes:
        folder: the run's folder.
        kinds: which of `KINDS` there are.
        class_names: names of the classes, for the legend.
    """

    folder: Path
    kinds: tuple[str, ...]
    class_names: Sequence[str]

    def file(self, kind: str, predictor: str, image: str) -> Path:
        """Return the file of a picture.

        >>> print(Pictures(Path("out"), KINDS, []).file("labels", "lposs+", "a/b").as_posix())
        out/labels/lposs+/a%2Fb.png
        """
        return self.folder / kind / _safe(predictor) / f"{_safe(image)}.png"

    def are_there(self, predictor: str, image: str) -> bool:
        """Tell whether no picture of an image is missing."""
        return all(self.file(kind, predictor, image).is_file() for kind in self.kinds)

    def make_folders(self, predictors: Iterable[str]) -> None:
        """Make the folders, and clear what a killed run left in them."""
        for kind in self.kinds:
            for predictor in predictors:
                folder = self.file(kind, predictor, "image").parent
                folder.mkdir(parents=True, exist_ok=True)
                remove_abandoned(folder)

    def write(
        self, predictor: str, sample: LabelledImage, labels: Tensor, *, background: bool = False
    ) -> None:
        """Write the pictures of an image, each whole or not at all.

        With a background, the label after the last class is none of these.

        Raises:
            InputError: a label that is no class, which is allowed where no pixel counts.
        """
        classes = len(self.class_names)
        background = background and find_background(self.class_names) is None
        as_label_map("predictor", labels, classes + background)
        if "labels" in self.kinds:
            path = self.file("labels", predictor, str(sample.name))
            save_image(path, label_image(labels, classes, background=background))
        if "overlays" in self.kinds:
            names = add_name(self.class_names) if background else self.class_names
            palette = named_colours("default", names)
            drawn = overlay(sample.image, labels, len(names), palette=palette)
            page = panels([("image", sample.image), (predictor, drawn)], names)
            save_image(self.file("overlays", predictor, str(sample.name)), page)


def _safe(name: str) -> str:
    """Return a name as that of a file or a folder, of which no two names have the same.

    Letters of all scripts stay as they are; what systems or shells take for something else is
    quoted, and the end of a long name becomes a hash, after a "%~" that no quoted name has.

    >>> _safe("film: straße/1"), _safe("..")
    ('film%3A straße%2F1', '%2E%2E')
    """
    quoted = _UNSAFE.sub(
        lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode(errors="surrogatepass")),
        name,
    )
    encoded = quoted.encode()
    if len(encoded) > _LONGEST:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGITS]
        kept = encoded[: _LONGEST - _DIGITS - 2].decode(errors="ignore")
        return f"{kept}%~{digest}"
    return quoted or "%"
