"""Evaluation: metrics, data sets, a runner that measures predictors, and a tuner of refiners."""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later
from lpprop.evaluation.intervals import Difference, Interval, bootstrap, difference
from lpprop.evaluation.label_maps import merge_labels, reduce_zero_label
from lpprop.evaluation.metrics import SegmentationMetrics, boundary_counts, confusion_matrix
from lpprop.evaluation.predictors import (
    Predictor,
    RefinedStart,
    Start,
    refinements,
)
from lpprop.evaluation.proposed import ProposedRegions
from lpprop.evaluation.report import Report
from lpprop.evaluation.runner import EvaluationError, evaluate
from lpprop.evaluation.segmenters import SegmenterPredictor
from lpprop.evaluation.stored import StoredStart
from lpprop.evaluation.temporal import LabelChanges, label_changes, optical_flow

if TYPE_CHECKING:
    from lpprop.evaluation import analyses as analyses
    from lpprop.evaluation import datasets as datasets
    from lpprop.evaluation import recipe_predictors as recipe_predictors
    from lpprop.evaluation import tuning as tuning
    from lpprop.evaluation.tuning import TuningResult, tune
else:
    __getattr__ = import_later(
        __name__,
        dict.fromkeys(("analyses", "datasets", "recipe_predictors", "tuning"), "")
        | dict.fromkeys(("TuningResult", "tune"), "tuning"),
    )

__all__ = [
    "Difference",
    "EvaluationError",
    "Interval",
    "LabelChanges",
    "Predictor",
    "ProposedRegions",
    "RefinedStart",
    "Report",
    "SegmentationMetrics",
    "SegmenterPredictor",
    "Start",
    "StoredStart",
    "TuningResult",
    "bootstrap",
    "boundary_counts",
    "confusion_matrix",
    "difference",
    "evaluate",
    "label_changes",
    "merge_labels",
    "optical_flow",
    "reduce_zero_label",
    "refinements",
    "tune",
]
