"""Evaluation: metrics, data sets, and a runner that measures predictors."""

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

__all__ = [
    "EvaluationError",
    "Predictor",
    "RefinedStart",
    "Report",
    "SegmentationMetrics",
    "SegmenterPredictor",
    "Start",
    "boundary_counts",
    "confusion_matrix",
    "evaluate",
    "merge_labels",
    "reduce_zero_label",
    "refinements",
]
