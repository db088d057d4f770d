"""What a trial starts from: the starts of all images, made once and kept.

A trial pays for the refinement alone. Starts stay in memory up to a bound; those beyond it are in
files of the run's folder while the run lasts.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.memory import available_bytes
from lpprop.compose import presets
from lpprop.compose.chain import Chain
from lpprop.compose.composite import missing_input
from lpprop.evaluation.fingerprints import describe
from lpprop.evaluation.predictors import LabelledImage, RefinedStart, Start, check_start
from lpprop.evaluation.segmenters import SegmenterPredictor
from lpprop.models.segmenter import Segmenter

__all__ = ["Kept", "Source", "allowed_methods", "as_source"]

#: Bytes of starts in memory, at most; and no more than a quarter of what is free.
_IN_MEMORY = 2**31


@runtime_checkable
class Source(Protocol):
    """Where starts come from, and how one is refined."""

    def see(self, sample: LabelledImage, classes: int) -> Any:
        """Do the work on a sample that all trials share; refuse scores of other classes."""

    def given(self, seen: Any) -> set[str]:
        """Name the inputs that a start gives to methods."""

    def patches(self, seen: Any) -> int:
        """Count the patches that one graph joins."""

    def options(self, method: str) -> dict[str, Any]:
        """Return the options of a preset that suit this source, over the preset's own."""

    def refine(self, seen: Any, sample: LabelledImage, chain: Chain) -> Tensor:
        """Return the scores (C, H, W) of a sample."""

    def fingerprint(self) -> dict[str, Any]:
        """Describe the source for JSON."""


class _Starts:
    """Starts that a function makes."""

    def __init__(self, start: Callable[[Any], Start]) -> None:
        check_start(start)
        self.start = start
        self.others = [preset() for preset in presets.METHODS.values() if preset.is_installed]

    def see(self, sample: LabelledImage, classes: int) -> Start:
        seen: object = self.start(sample)
        if not isinstance(seen, Start):
            raise InputError.of(
                "start",
                got=f"{type(seen).__name__} for {sample.name}",
                expected="a Start",
                fix="Return lpprop.evaluation.Start(logits, feats).",
            )
        shape = tuple(getattr(seen.logits, "shape", ()))
        if len(shape) != 4 or shape[1] != classes:
            raise InputError.of(
                "start",
                got=f"logits of shape {shape} for {sample.name}",
                expected=f"(1, {classes}, h, w), scores of each of the {classes} classes",
                fix="Check that image's scores, and the names of the classes.",
            )
        return seen

    def given(self, seen: Start) -> set[str]:
        return {*seen.inputs, "image"}

    def patches(self, seen: Start) -> int:
        nodes: Tensor = seen.inputs.get("feats", seen.logits)
        windows = len(nodes) if "windows" in seen.inputs else 1
        return windows * math.prod(nodes.shape[-2:])

    def options(self, method: str) -> dict[str, Any]:
        return {}

    def refine(self, seen: Start, sample: LabelledImage, chain: Chain) -> Tensor:
        return RefinedStart(lambda _: seen, chain, self.others)(sample)

    def fingerprint(self) -> dict[str, Any]:
        return {"start": describe(self.start)}


class _Models:
    """The models of a segmenter, whose outputs are kept.

    A method on attention sees whole images even if the segmenter has windows, as its recipes do.
    """

    def __init__(self, predictor: SegmenterPredictor) -> None:
        self.predictor, self.segmenter = predictor, predictor.segmenter

    def see(self, sample: LabelledImage, classes: int) -> dict[Any, Any]:
        if len(self.predictor.prompts) != classes:
            raise InputError.of(
                "start",
                got=f"a segmenter of {len(self.predictor.prompts)} prompts",
                expected=f"a prompt for each of the {classes} classes",
                fix="Pass the prompts of the data set's classes, in the order of the labels.",
            )
        seen: dict[Any, Any] = {}

        def record(model: Any, *inputs: Any) -> Any:
            key = self._key(model, inputs)
            if key not in seen:
                seen[key] = model(*inputs)
            return seen[key]

        for windows in {self.segmenter.windows, None}:
            self._segment(sample, presets.by_name("bilinear"), windows, record)
        return seen

    def given(self, seen: object) -> set[str]:
        windows = set() if self.segmenter.windows is None else {"windows"}
        regions = set() if self.segmenter.regions is None else {"regions"}
        return {"image", *self.segmenter.affinity.provides} - {"logits"} | windows | regions

    def patches(self, seen: Mapping[Any, Any]) -> int:
        affinity = self.segmenter.affinity is not self.segmenter.backbone
        counts: list[int] = [
            math.prod((shape[0], *output.grid))
            for (is_affinity, shape), output in seen.items()
            if is_affinity == affinity and (shape[0] > 1 or self.segmenter.windows is None)
        ]
        return max(counts) if counts else max(int(math.prod(x.grid)) for x in seen.values())

    def options(self, method: str) -> dict[str, Any]:
        known = presets.find(method).options
        suited = {
            name: getattr(self.segmenter.affinity, name) for name in ("patch_size", "feats_from")
        }
        options = {name: value for name, value in suited.items() if value is not None}
        if self.predictor.recipe is not None:
            options |= self.predictor.recipe.with_method(method).options
        return {name: value for name, value in options.items() if name in known}

    def refine(self, seen: Mapping[Any, Any], sample: LabelledImage, chain: Chain) -> Tensor:
        windows = None if "attention" in chain.needs else self.segmenter.windows
        return self._segment(
            sample, chain, windows, lambda model, *inputs: seen[self._key(model, inputs)]
        )

    def fingerprint(self) -> dict[str, Any]:
        return self.predictor.fingerprint()

    def _key(self, model: Any, inputs: Sequence[Any]) -> tuple[bool, tuple[int, ...]]:
        # Of one image, by which model and in which crops.
        return model is not self.segmenter.backbone, tuple(inputs[0].shape)

    def _segment(
        self,
        sample: LabelledImage,
        chain: Chain,
        windows: tuple[int, int] | None,
        call: Callable[..., Any],
    ) -> Tensor:
        own = self.segmenter
        segmenter = Segmenter(
            own.backbone,
            own.affinity,
            chain,
            shorter_side=own.shorter_side,
            longer_side=own.longer_side,
            antialias=own.antialias,
            windows=windows,
            regions=own.regions if "regions" in chain.takes else None,
        )
        segmenter.call_model = call
        return segmenter(sample.image, self.predictor.prompts).scores[0]


def as_source(start: object) -> Source:
    """Return the source that a function of samples, or a segmenter's predictor, stands for.

    >>> as_source(lambda sample: Start(torch.rand(1, 5, 3, 4))).options("lposs")
    {}
    """
    if isinstance(start, SegmenterPredictor):
        return _Models(start)
    check_start(start)
    return _Starts(start)  # type: ignore[arg-type]


class Kept:
    """The starts of all samples, in memory, and in a folder beyond the bound.

    Args:
        folder: where files are made, and removed on `close`.
        in_memory: bytes that are kept in memory, at most; if None 2 GiB, or less where little is
            free.
    """

    def __init__(self, folder: Path, in_memory: int | None = None) -> None:
        if in_memory is None:
            free = available_bytes(torch.device("cpu"))
            in_memory = _IN_MEMORY if free is None else min(_IN_MEMORY, free // 4)
        self._left = in_memory
        self._items: list[Any] = []
        self._files = tempfile.TemporaryDirectory(prefix=".starts-", dir=folder)

    def add(self, seen: Any) -> None:
        """Keep the start of the next sample."""
        size = _count_bytes(seen)
        if size <= self._left:
            self._left -= size
            self._items.append(seen)
            return
        path = Path(self._files.name) / f"{len(self._items)}.pt"
        torch.save(seen, path)
        self._items.append(path)

    def __getitem__(self, index: int) -> Any:
        item = self._items[index]
        if isinstance(item, Path):
            # A file that this process has written itself: it may hold any object.
            return torch.load(item, weights_only=False)
        return item

    def __len__(self) -> int:
        return len(self._items)

    def close(self) -> None:
        """Remove the files."""
        self._files.cleanup()


def _count_bytes(seen: Any) -> int:
    """Count the bytes of the tensors in a start, or in the outputs of models."""
    if isinstance(seen, Tensor):
        return seen.nbytes
    if isinstance(seen, Start):
        return _count_bytes(seen.logits) + _count_bytes(seen.inputs)
    if isinstance(seen, Mapping):
        return sum(map(_count_bytes, seen.values()))
    if isinstance(seen, (tuple, list)):
        return sum(map(_count_bytes, seen))
    return 0


def allowed_methods(given: Collection[str]) -> list[str]:
    """Name the presets that are tuned if none is named: those that the inputs allow.

    >>> allowed_methods(["image"])[:2]
    ['bilinear', 'joint_bilateral']
    >>> "auto" in allowed_methods(["feats", "image", "windows"])
    False
    """
    return [
        preset.name
        for preset in presets.METHODS.values()
        if preset.compared
        and preset.is_installed
        and not missing_input(preset, given)
        and not (preset.windowed and "windows" in given)  # it would be another one there
    ]
