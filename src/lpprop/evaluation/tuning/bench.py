"""The work of a trial: label all images by a setting, and count."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from lpprop._core.errors import InputError, collect_warnings
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.evaluation.intervals import overlaps
from lpprop.evaluation.metrics import SegmentationMetrics
from lpprop.evaluation.task import Samples, as_labels
from lpprop.evaluation.tuning.sources import Kept, Source
from lpprop.evaluation.tuning.trials import Trials, Tried

__all__ = ["Bench"]


class Bench:
    """Label all images by a setting, and count."""

    def __init__(
        self,
        dataset: Samples,
        source: Source,
        kept: Kept,
        metrics: SegmentationMetrics,
        metric: str,
        own: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.dataset, self.source, self.kept = dataset, source, kept
        self.metrics, self.metric, self.own = metrics, metric, own

    def __call__(
        self, kind: str, method: str, options: Mapping[str, Any], number: int | None = None
    ) -> Tried:
        """Try a setting; one that cannot be used or does not fit into memory fails."""
        began = time.monotonic()
        with collect_warnings(shown=False) as warned:
            try:
                chain = presets.by_name(method, **{**self.own[method], **options})
                alone = [self.count(index, chain) for index in range(len(self.dataset))]
            except (InputError, RuntimeError, MemoryError) as error:
                reason = f"{type(error).__name__}: {error}"
                return Tried(kind, method, options, 0.0, None, number, reason)
        seconds = (time.monotonic() - began) / len(self.dataset)
        counts = np.stack(overlaps(alone, self.metric), axis=-1)
        return Tried(kind, method, options, seconds, counts, number, "", list(warned))

    def count(self, index: int, chain: Chain) -> SegmentationMetrics:
        """Label one image, and count."""
        sample = self.dataset[index]
        with torch.no_grad():
            scores = self.source.refine(self.kept[index], sample, chain)
        labels = as_labels(scores, self.dataset.class_names)
        return SegmentationMetrics(**self.metrics.settings).update(labels, sample.gt)

    def try_once(
        self,
        known: Trials,
        kind: str,
        method: str,
        options: Mapping[str, Any],
        number: int | None,
    ) -> Tried:
        """Try a setting, or copy what it counted when it was tried before."""
        before = known.find(method, options)
        if before is None:
            return self(kind, method, options, number)
        return replace(before, kind=kind, options=options, number=number)
