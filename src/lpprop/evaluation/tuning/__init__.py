"""The tuner: which refiner, and which settings, for labelled images and the scores of a model."""

from lpprop.evaluation.tuning.result import Score, TuningResult, Verdict, Worth
from lpprop.evaluation.tuning.run import tune

__all__ = ["Score", "TuningResult", "Verdict", "Worth", "tune"]
