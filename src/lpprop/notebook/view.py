"""The widget of `lpprop.interact`: it shows a session, and hands on what is done in the browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets
from PIL import Image
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop.compose.presets import METHODS
from lpprop.interaction.controls import Control
from lpprop.viz.drawing import cut_labels
from lpprop.viz.palettes import colours

if TYPE_CHECKING:
    from lpprop.interaction.clicks import Clicks
    from lpprop.notebook.session import Session

__all__ = ["View"]

_HERE = Path(__file__).parent
# Pixels of the longer side of the picture that is sent: more than a notebook shows.
_SIDE = 1024

# What a method may fail with; the view says it, since a notebook hides what a widget raises.
_FAILURES = (InputError, ImportError, MemoryError, RuntimeError)


class View(anywidget.AnyWidget):
    """What `lpprop.interact` returns: a picture to click on, with the labels over it.

    Attributes:
        session: what the view shows.
        opacity: how much the labels hide the picture, in [0, 1].
    """

    _esm = _HERE / "view.js"
    _css = _HERE / "view.css"

    opacity = traitlets.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    _picture = traitlets.Bytes().tag(sync=True)
    _painted = traitlets.Bytes().tag(sync=True)
    _state = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session, picture: Image.Image) -> None:
        height, width = session.scene.size
        scale = min(1.0, _SIDE / max(height, width))
        self._shown = max(1, round(scale * width)), max(1, round(scale * height))
        self.session, self._error = session, ""
        super().__init__(_picture=_encode(picture.resize(self._shown), "JPEG"))
        self._refresh()
        self.on_msg(self._receive)

    @property
    def clicks(self) -> Clicks:
        """The clicks so far: each has a row, a column and a label."""
        return self.session.choices.clicks

    @property
    def labels(self) -> Tensor | None:
        """(H, W) class indices; None while fewer than two classes are clicked."""
        return self.session.labels

    @property
    def scores(self) -> Tensor | None:
        """(1, C, H, W) refined scores; None while fewer than two classes are clicked."""
        return self.session.scores

    @property
    def code(self) -> str:
        """The lines of Python that do the same."""
        return self.session.code

    def click(self, row: float, column: float, label: int) -> None:
        """Mark a pixel as one of a class, as a click does.

        Raises:
            InputError: a place outside of the image, or a label that is no class.
        """
        self.session.click(row, column, label)
        self._refresh()

    def undo(self) -> None:
        """Take the last click back."""
        self.session.undo()
        self._refresh()

    def clear(self) -> None:
        """Remove all clicks."""
        self.session.clear()
        self._refresh()

    def _receive(self, _: object, message: Mapping[str, Any], __: object) -> None:
        """Do what was done in the browser, and say why where that cannot be done."""
        self._error = ""
        try:
            self._do(message)
        except _FAILURES as error:
            self._error = str(error) or type(error).__name__
        self._refresh()

    def _do(self, message: Mapping[str, Any]) -> None:
        """Call the session by a message: what to do, and with what."""
        session = self.session
        actions: dict[str, Callable[..., None]] = {
            "click": session.click,
            "remove": session.remove,
            "undo": session.undo,
            "clear": session.clear,
            "name": session.name_classes,
            "method": session.choose,
            "option": self._set_option,
            "reset": session.reset_options,
            "radius": session.set_radius,
        }
        actions[message["do"]](*message.get("with", []))

    def _set_option(self, name: str, value: Any) -> None:
        """Set an option; of a menu the browser knows the number of the choice."""
        for control in self.session.scene.controls(self.session.choices.method):
            if control.name == name and control.kind == "choice":
                value = control.choices[value]
        self.session.set_option(name, value)

    def _refresh(self) -> None:
        """Send the browser what has changed."""
        session, chosen = self.session, self.session.choices
        palette = colours("default", len(chosen.classes))
        labels = session.labels
        painted = b""
        if labels is not None:
            shown = cut_labels(labels.cpu().numpy(), (0, 0, *session.scene.size), self._shown)
            painted = _encode(Image.fromarray(palette[shown]), "PNG")
        values = {**session.options}
        with self.hold_sync():
            self._painted = painted
            self._state = {
                "size": session.scene.size,
                "clicks": [list(click) for click in chosen.clicks],
                "classes": [
                    {"name": name, "colour": "#" + bytes(colour).hex()}
                    for name, colour in zip(chosen.classes, palette, strict=True)
                ],
                "methods": [[row.name, row.note] for row in session.scene.methods()],
                "method": chosen.method,
                "controls": [
                    _describe(control, values) for control in session.scene.controls(chosen.method)
                ],
                "radius": chosen.radius,
                "status": self._status(),
                "error": self._error,
                "warnings": session.warnings,
                "code": session.code,
            }

    def _status(self) -> str:
        """Say what to do next, or how long the labels took."""
        marked = set(self.session.choices.clicks.labels.tolist())
        if not marked:
            return "Click on the picture to mark a class."
        if len(marked) == 1:
            return "Mark a second class: choose it, and click where it is."
        return f"{METHODS[self.session.choices.method].name}: {self.session.seconds:.2f} s"


def _describe(control: Control, values: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a control in what JSON holds."""
    value = values.get(control.name, control.start)
    described = {
        "name": control.name,
        "kind": control.kind,
        "low": control.low,
        "high": control.high,
        "step": control.step,
        "log": control.log,
        "what": control.what,
        "moved": control.name in values,
        "unmoved": str(control.default),
        "value": value,
    }
    if control.kind == "choice":
        described |= {
            "value": control.choices.index(value),
            "choices": [str(choice) for choice in control.choices],
        }
    return described


def _encode(picture: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format=form, **({"quality": 90} if form == "JPEG" else {}))
    return file.getvalue()
