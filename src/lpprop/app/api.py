"""What programs ask of a running page: two named endpoints, whose signatures stay."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from lpprop._core.errors import InputError
from lpprop._core.label_maps import NONE_OF_THESE
from lpprop.app.answers import Answers
from lpprop.app.blocks import make_upload
from lpprop.app.models import Models
from lpprop.app.picture import Picture
from lpprop.app.session import CLICKS, WORDS, Session, Wish
from lpprop.app.starts import ByWords
from lpprop.interaction.controls import controls
from lpprop.io.label_maps import label_image

__all__ = ["add_api"]


def add_api(answers: Answers, models: Models, recipe: str) -> None:
    """Add the endpoints `/segment_words` and `/segment_clicks` to the page that is being built.

    They take what the page's fields take, and give the label map as PNG with a palette, and the
    classes' names. [app.md](../../docs/app.md) shows a call of each.

    Args:
        answers: guards the functions.
        models: the networks.
        recipe: the recipe for words that is taken if none is named.
    """
    endpoints = _Endpoints(answers, models)
    with gr.Column(visible=False):
        image, classes = make_upload(label="image"), gr.Textbox(label="one class per line")
        clicks = gr.JSON(label="[row, column, class] per click", value=[])
        method, options = gr.Textbox("auto", label="method"), gr.JSON({}, label="options")
        background = gr.Number(0, label='threshold of "none of these"')
        recipes = gr.Textbox(recipe, label=f"one of {', '.join(models.recipes)}")
        features = gr.Textbox(models.features[0], label=f"one of {', '.join(models.features)}")
        labels, names = gr.File(label="labels"), gr.JSON(label="names")
        button = gr.Button()
    ways: dict[Callable[..., Any], list[Any]] = {
        endpoints.segment_words: [image, classes, method, options, background, recipes],
        endpoints.segment_clicks: [image, clicks, classes, method, options, background, features],
    }
    for function, fields in ways.items():
        button.click(
            answers.guard(function), fields, [labels, names], api_name=function.__name__,
            **answers.work,
        )  # fmt: skip


class _Endpoints:
    def __init__(self, answers: Answers, models: Models) -> None:
        self.answers, self.models = answers, models

    def segment_words(
        self, image: str, classes: str, method: str, options: Any, background: float, recipe: str
    ) -> tuple[str, list[str]]:
        """Segment an image into classes in words, one per line."""
        wish = {
            "mode": WORDS,
            "marked": "",
            "words": classes or "",
            "recipe": recipe,
            "features": "",
        }
        return self._segment(self._open(image), wish, method, options, background)

    def segment_clicks(
        self, image: str, clicks: Any, classes: str, method: str, options: Any, background: float,
        features: str,
    ) -> tuple[str, list[str]]:  # fmt: skip
        """Segment an image by clicks, a row, a column and a class each, in pixels of the image."""
        self.answers.limits.check_text(classes or "")
        picture = self._open(image)
        names = ByWords.parse(classes or "", "").classes
        marked = json.dumps({"picture": picture.key, "classes": names, "points": clicks})
        wish = {"mode": CLICKS, "marked": marked, "features": features}
        return self._segment(picture, wish, method, options, background)

    def _open(self, image: str | None) -> Picture:
        return Picture(self.answers.open_image(image))

    def _segment(
        self, picture: Picture, wish: Mapping[str, str], method: str, options: Any, background: Any
    ) -> tuple[str, list[str]]:
        method = str(method)
        chosen = check_options(method, options)
        fields: dict[str, Any] = {
            "marked": "", "features": "", "words": "", "recipe": "", "methods": [method],
            "options": {method: chosen}, "background": background or 0.0, **wish,
        }  # fmt: skip
        found = Session(picture).fulfil(Wish(**fields), self.models, self.answers.limits)
        if found is None:
            raise InputError.of(
                "clicks",
                got="none, or of one class",
                expected="a click each of two classes or more",
                fix="Pass [[row, column, class], ...].",
            )
        (layer,) = found[1]
        none = layer.names[-1] == NONE_OF_THESE
        assert layer.labels is not None
        drawn = label_image(layer.labels, len(layer.names) - none, background=none)
        return self.answers.write("labels.png", lambda file: drawn.save(file, "PNG")), layer.names


def check_options(method: str, options: Any) -> dict[str, Any]:
    """Return a method's options as numbers and names that its fields on the page could have.

    Args:
        method: the method's name.
        options: a mapping of names to values, as JSON has them; nothing for the preset's.

    Raises:
        InputError: no mapping, an option that has no field, or a value out of its field's range.

    >>> check_options("lposs", {"k": 20.0, "gamma": 7})
    {'k': 20, 'gamma': 7}
    >>> check_options("lposs", {"k": 10**9})
    Traceback (most recent call last):
    lpprop.InputError: k: got 1000000000, expected an integer from 3 to 1024. Change it, or ...
    """
    known = {one.name: one for one in controls(method, given=("feats", "image", "regions"))}
    if not isinstance(options or {}, Mapping):
        raise InputError.of(
            "options", got=repr(options)[:80], expected="names and values", fix='Pass {"k": 20}.'
        )
    checked = {}
    for name, value in (options or {}).items():
        if name not in known:
            raise InputError.of(
                "options",
                got=repr(name)[:80],
                expected=f"one of {', '.join(known)}" if known else f"none, by {method}",
                fix="The page shows each option of a method.",
            )
        control, expected = known[name], "true or false"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if control.kind == "flag":
            fits = isinstance(value, bool)
        elif control.kind == "choice":
            choices = {json.dumps(one): one for one in control.choices}
            fits, expected = json.dumps(value) in choices, f"one of {', '.join(choices)}"
            value = choices.get(json.dumps(value))
        else:
            whole = control.kind == "int"
            fits = is_number and control.low <= value <= control.high
            expected = (
                f"{'an integer' if whole else 'a number'} from {control.low:g} to {control.high:g}"
            )
            if fits and whole:
                fits, value = value == int(value), int(value)
        if not fits:
            raise InputError.of(
                name,
                got=repr(options[name])[:80],
                expected=expected,
                fix="Change it, or leave it out for the preset's.",
            )
        checked[name] = value
    return checked
