"""Pictures: colours, overlays, pages and charts.

There are two stacks. Pillow draws pages of pictures (`drawing`, `sheets`): `lpprop compare` and the
demo need no extra for them, and labels stay sharp to the pixel. Matplotlib draws charts of numbers
(`figures`), for evaluation and benchmarks, and is imported when the first one is drawn. Both take
their colours from `palettes`. `display` has `lpprop.show`.
"""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later

if TYPE_CHECKING:
    from lpprop.viz import display as display
    from lpprop.viz import drawing as drawing
    from lpprop.viz import figures as figures
    from lpprop.viz import palettes as palettes
    from lpprop.viz import sheets as sheets
    from lpprop.viz.drawing import colorize, error_map, overlay, panels
    from lpprop.viz.palettes import colours, named_colours

__all__ = ["colorize", "colours", "error_map", "named_colours", "overlay", "panels"]

if not TYPE_CHECKING:
    _MODULES = ("display", "drawing", "figures", "palettes", "sheets")
    __getattr__ = import_later(
        __name__, dict.fromkeys(__all__, "drawing")
        | dict.fromkeys(("colours", "named_colours"), "palettes")
        | dict.fromkeys(_MODULES, ""),
    )  # fmt: skip
