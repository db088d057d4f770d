"""Video: frames of a clip refined together, so that labels do not flicker."""

from lpprop.video.clips import refine
from lpprop.video.segmenting import segment

__all__ = ["refine", "segment"]
