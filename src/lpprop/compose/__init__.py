"""Refiners put together: chains, fusion, presets, and `lpprop.refine`."""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later

if TYPE_CHECKING:
    from lpprop.compose import presets as presets
else:
    __getattr__ = import_later(__name__, {"presets": ""})
