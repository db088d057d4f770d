"""What the page knows of one visitor, and what each of the visitor's wishes makes of it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from lpprop._core.errors import InputError
from lpprop._core.label_maps import NONE_OF_THESE
from lpprop.app.canvas import Marked
from lpprop.app.layers import Layer, check_methods, make_layers
from lpprop.app.limits import Limits
from lpprop.app.models import Models
from lpprop.app.picture import Picture
from lpprop.app.starts import ByClicks, ByWords, Start
from lpprop.io.label_maps import label_image
from lpprop.viz.drawing import overlay
from lpprop.viz.palettes import named_colours

__all__ = ["CLICKS", "DOWNLOADS", "WORDS", "Session", "Wish"]

#: The two ways to start.
CLICKS, WORDS = "clicks", "words"

#: What can be downloaded, with the names of the files.
DOWNLOADS = {"labels": "labels.png", "overlay": "overlay.png", "scores": "scores.npy"}


class Wish(NamedTuple):
    """What the fields of the page say, as they are sent: none of it is checked.

    Attributes:
        mode: `CLICKS` or `WORDS`.
        marked: the canvas's value.
        features: the network whose features carry clicks on.
        words: the classes in words.
        recipe: what scores the classes in words.
        methods: the methods to set side by side.
        options: the options that were moved, by method.
        background: the threshold below which a pixel is none of the classes; 0 for no such.
    """

    mode: str
    marked: str
    features: str
    words: str
    recipe: str
    methods: Sequence[str]
    options: Mapping[str, Mapping[str, Any]]
    background: float


@dataclass(frozen=True)
class Session:
    """What one visitor works on.

    Attributes:
        picture: the picture.
        start: the last start that was refined; None before the first.
        methods: the methods that ran on it.
        options: their options.
        background: the threshold below which a pixel is none of the classes.
    """

    picture: Picture
    start: Start | None = None
    methods: tuple[str, ...] = ()
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    background: float | None = None

    def fulfil(
        self, wish: Wish, models: Models, limits: Limits
    ) -> tuple[Session, list[Layer]] | None:
        """Refine what is wished for.

        Returns:
            The session that knows of it, and a layer per method; None where there is nothing to
            refine: clicks of fewer than two classes, or on a picture that was there before.

        Raises:
            InputError: a wish that cannot be fulfilled.
        """
        start: Start
        if wish.mode == CLICKS:
            marked = Marked.parse(wish.marked, self.picture.size, limits)
            # A single class would be the label of every pixel.
            if len(set(marked.clicks.labels.tolist())) < 2 or marked.picture != self.picture.key:
                return None
            start = ByClicks(marked.clicks, marked.classes, wish.features)
        else:
            limits.check_text(wish.words)
            start = ByWords.parse(wish.words, wish.recipe)
            limits.check_classes(start.classes)
        methods = check_methods(wish.methods)
        background = wish.background or None
        options = {method: dict(wish.options.get(method, {})) for method in methods}
        layers = make_layers(start, self.picture, models, methods, options, background)
        ran = tuple(layer.method for layer in layers if layer.labels is not None)
        return Session(self.picture, start, ran, options, background), layers

    def code(self, method: str, models: Models) -> str:
        """Return the lines of Python that make what a method shows; nothing before the first."""
        if self.start is None or method not in self.methods:
            return ""
        options = self.options.get(method, {})
        return self.start.code(self.picture, models, method, options, self.background)

    def download(self, kind: str, method: str, models: Models, opacity: float = 0.55) -> bytes:
        """Return a file of what a method shows, as the command `lpprop segment` writes it.

        Args:
            kind: a key of `DOWNLOADS`.
            method: one of the methods that ran.
            models: the networks.
            opacity: that of the overlay's colours.

        Raises:
            InputError: another kind or method, or nothing to download yet.
        """
        if self.start is None or method not in self.methods or kind not in DOWNLOADS:
            raise InputError.of(
                "download",
                got="nothing to download",
                expected="a result",
                fix="Segment the picture first.",
            )
        scores, names = self.start.refine(
            self.picture, models, method, self.options.get(method, {}), self.background
        )
        file = io.BytesIO()
        if kind == "scores":
            np.save(file, scores.float().numpy(), allow_pickle=False)
            return file.getvalue()
        labels = scores.argmax(0)
        none = names[-1] == NONE_OF_THESE
        if kind == "labels":
            image = label_image(labels, len(names) - none, background=none)
        else:
            palette = named_colours("default", names)
            image = overlay(self.picture.image, labels, len(names), alpha=opacity, palette=palette)
        image.save(file, "PNG")
        return file.getvalue()
