"""Video: frames of a clip refined together, so that labels do not flicker."""

from lpprop.video.clips import refine

__all__ = ["refine"]
