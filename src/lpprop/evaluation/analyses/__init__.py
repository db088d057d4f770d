"""The papers' analyses: functions whose results are data that draw their own figures."""

from lpprop.evaluation.analyses.contrast import (
    Contrast,
    Ensemble,
    ablation,
    cumulative,
    window_ensemble,
)
from lpprop.evaluation.analyses.images import Changes, ImageScatter, changes, image_scatter
from lpprop.evaluation.analyses.oracle import Cropped, OracleStart, patch_oracle, relabel
from lpprop.evaluation.analyses.sweeps import Sweep, sweep
from lpprop.evaluation.analyses.timing import ComponentTimes, component_times

__all__ = [
    "Changes",
    "ComponentTimes",
    "Contrast",
    "Cropped",
    "Ensemble",
    "ImageScatter",
    "OracleStart",
    "Sweep",
    "ablation",
    "changes",
    "component_times",
    "cumulative",
    "image_scatter",
    "patch_oracle",
    "relabel",
    "sweep",
    "window_ensemble",
]
