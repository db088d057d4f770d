"""The picture of the page: one clicks on it, compares results on it, and reads the legend.

Gradio's own image knows where it is clicked, but cannot be clicked by keyboard, shows a click only
when the server has answered, and compares by moving whole pictures. This one is a `gradio.HTML`
with the files in static/; what the user marks is a text in its value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from lpprop._core.errors import InputError
from lpprop._core.label_maps import NONE_OF_THESE
from lpprop.app.layers import Layer, as_data_url, draw_labels
from lpprop.app.limits import Limits
from lpprop.app.picture import Picture
from lpprop.interaction.clicks import Clicks
from lpprop.viz.palettes import colours

if TYPE_CHECKING:
    import gradio

__all__ = ["CLASSES", "Marked", "layer_props", "make_canvas", "picture_props", "write_value"]

_STATIC = Path(__file__).parent / "static"

#: The classes of a picture on which nothing is marked yet.
CLASSES = ("object", "around it")


class Marked(NamedTuple):
    """What a user has marked.

    Attributes:
        picture: the key of the picture on which it was marked.
        clicks: the clicks.
        classes: a name per class.
    """

    picture: str
    clicks: Clicks
    classes: tuple[str, ...]

    @classmethod
    def parse(cls, value: object, size: tuple[int, int], limits: Limits) -> Marked:
        """Read the canvas's value, which may be anything that somebody has sent.

        Args:
            value: the text.
            size: (H, W) of the picture.
            limits: how many clicks and classes there may be.

        Raises:
            InputError: no text that the canvas writes, or clicks outside of the picture.

        >>> value = write_value(["cat", "sofa"], [(3, 4, 1)], "a1")
        >>> Marked.parse(value, (48, 64), Limits()).clicks
        Clicks([(3, 4, 1)])
        """
        try:
            read = json.loads(value) if isinstance(value, str) else None
        except (ValueError, RecursionError):
            read = None
        read = read if isinstance(read, dict) else {}
        names, points = read.get("classes"), read.get("points")
        if not _are_names(names) or not _are_points(points):
            raise InputError.of(
                "clicks",
                got="something else",
                expected="names of classes, and a row, a column and a class per click",
                fix="Reload the page.",
            )
        limits.check_classes(names)
        limits.check_clicks(len(points))
        for row, column, label in points:
            if not (0 <= row < size[0] and 0 <= column < size[1] and 0 <= label < len(names)):
                raise InputError.of(
                    "clicks",
                    got=f"one at ({row:g}, {column:g}) of class {label}",
                    expected=f"rows below {size[0]}, columns below {size[1]} and classes below "
                    f"{len(names)}",
                    fix="Click on the picture itself.",
                )
        return cls(str(read.get("picture")), Clicks(points), tuple(names))


def _are_names(names: object) -> TypeGuard[list[str]]:
    return isinstance(names, list) and bool(names) and all(isinstance(x, str) for x in names)


def _are_points(points: object) -> TypeGuard[list[tuple[float, float, int]]]:
    return isinstance(points, list) and all(
        isinstance(point, list)
        and len(point) == 3
        and all(isinstance(x, (int, float)) and math.isfinite(x) for x in point)
        and isinstance(point[2], int)
        for point in points
    )


def write_value(
    classes: Sequence[str], points: Sequence[Sequence[float]] = (), picture: str = ""
) -> str:
    """Return the canvas's value for classes and clicks.

    >>> write_value(["cat"], [(3, 4, 0)])
    '{"picture": "", "classes": ["cat"], "points": [[3, 4, 0]]}'
    """
    return json.dumps({"picture": picture, "classes": [*classes], "points": [*map(list, points)]})


def picture_props(picture: Picture | None) -> dict[str, Any]:
    """Return what the canvas is told of a picture; it has no results yet."""
    if picture is None:
        return {"picture": "", "pictureKey": "", "size": None, "layers": []}
    return {
        "picture": as_data_url(picture.image, "WEBP"),
        "pictureKey": picture.key,
        "size": list(picture.size),
        "layers": [],
    }


def layer_props(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return what the canvas is told of results."""
    return {
        "layers": [
            {
                "method": layer.method,
                "names": layer.names,
                "none": layer.names[-1] == NONE_OF_THESE,
                "shares": layer.shares,
                "seconds": layer.seconds,
                "said": list(layer.said),
                "src": ""
                if layer.labels is None
                else as_data_url(draw_labels(layer.labels, layer.names)),
            }
            for layer in layers
        ]
    }


def make_canvas(limits: Limits, upload: str, **changes: Any) -> gradio.HTML:
    """Make the component.

    Args:
        limits: how many classes and clicks there may be.
        upload: the `elem_id` of the upload button, which takes what is dropped on the canvas.
        changes: `elem_id`, and props as `picture_props` and `layer_props` return them.
    """
    import gradio

    html, css, js = (
        (_STATIC / f"canvas.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    palette = colours("default", limits.classes, background=True)
    *named, none = (f"#{r:02x}{g:02x}{b:02x}" for r, g, b in palette.tolist())
    given = {
        "value": write_value(CLASSES),
        "mode": "clicks",
        **picture_props(None),
        "colours": named,
        "none": none,
        "most": limits.classes,
        "mostClicks": limits.clicks,
        "upload": upload,
    } | changes
    return gradio.HTML(
        html_template=html, css_template=css, js_on_load=js, apply_default_css=False, **given
    )
