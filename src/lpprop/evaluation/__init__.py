"""Evaluation: metrics, data sets, and a runner that measures predictors."""

from typing import TYPE_CHECKING

from lpprop._core.optional import import_later
from lpprop.evaluation.label_maps import merge_labels, reduce_zero_label
from lpprop.evaluation.metrics import SegmentationMetrics, boundary_counts, confusion_matrix
from lpprop.evaluation.predictors import (
    Predictor,
    RefinedStart,
    Start,
    refinements,
)
from lpprop.evaluation.report import Report
from lpprop.evaluation.runner import EvaluationError, evaluate
from lpprop.evaluation.segmenters import SegmenterPredictor
from lpprop.evaluation.stored import StoredStart

if TYPE_CHECKING:
    from lpprop.evaluation import analyses as analyses
    from lpprop.evaluation import datasets as datasets
    from lpprop.evaluation import recipe_predictors as recipe_predictors
else:
    __getattr__ = import_later(
        __name__, dict.fromkeys(("analyses", "datasets", "recipe_predictors"), "")
    )

__all__ = [
    "EvaluationError",
    "Predictor",
    "RefinedStart",
    "Report",
    "SegmentationMetrics",
    "SegmenterPredictor",
    "Start",
    "StoredStart",
    "boundary_counts",
    "confusion_matrix",
    "evaluate",
    "merge_labels",
    "reduce_zero_label",
    "refinements",
]
