"""The tuner: which refiner, and which settings, for labelled images and the scores of a model."""

from lpprop.evaluation.tuning.result import TuningResult
from lpprop.evaluation.tuning.run import tune
from lpprop.evaluation.tuning.scores import Score, Verdict, Worth

__all__ = ["Score", "TuningResult", "Verdict", "Worth", "tune"]
