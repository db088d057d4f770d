"""Predictors: what is evaluated, such as a segmenter, or several refiners of one model's scores.

predictors = refinements(start, {"bilinear": "lposs", "LPOSS+": "lposs+", "mine": my_chain})
report = evaluate(dataset, predictors, Path("runs/voc20"))
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from lpprop._core.errors import InputError, collect_warnings, warn
from lpprop._core.refiner import COMMON
from lpprop.compose.chain import Chain
from lpprop.compose.pipeline import as_chain, refine
from lpprop.evaluation.fingerprints import describe, describe_repr
from lpprop.inputs.background import check_background

if TYPE_CHECKING:
    from PIL.Image import Image


__all__ = [
    "LabelledImage",
    "LastSampleCache",
    "Predictor",
    "RefinedStart",
    "Start",
    "as_predictor",
    "check_predictors",
    "check_start",
    "name_methods",
    "refinements",
]

_T = TypeVar("_T")

# `refine` checks these against the scores and the image even where no step takes them.
_CHECKED = (*COMMON, "windows")


@runtime_checkable
class LabelledImage(Protocol):
    """The argument of a predictor: a sample of a data set."""

    @property
    def name(self) -> str:
        """The sample's name."""

    @property
    def image(self) -> Image:
        """The image in RGB."""

    @property
    def gt(self) -> Any:
        """The true labels (H, W)."""


class Predictor:
    """Label samples. A plain function does so too; a subclass may also prepare and describe itself.

    class Mine(Predictor):
        def __call__(self, sample):
            return self.model(sample.image)

    Attributes:
        background: whether its labels have one more than there are classes, and its scores one
            channel more, the last: none of these.
        borrowed_seconds: seconds of work on the last sample that another predictor had done, and
            that count as this one's too.
    """

    background: bool = False
    borrowed_seconds: float = 0.0

    def __call__(self, sample: Any) -> Any:
        """Return labels (H, W), or scores (C, H, W) whose argmax they are."""
        raise NotImplementedError

    def prepare(self, sample: Any) -> None:
        """Do the part of the work on a sample that is not to be timed; by default nothing."""

    def fingerprint(self) -> dict[str, Any]:
        """Describe the predictor for JSON, so that one that differs is told apart."""
        return describe_repr(self)


class _FunctionPredictor(Predictor):
    """A plain function as a predictor."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, sample: Any) -> Any:
        return self.function(sample)

    def fingerprint(self) -> dict[str, Any]:
        return describe(self.function)


def as_predictor(predict: Callable[[Any], Any]) -> Predictor:
    """Return a predictor as it is, and a function of samples as a predictor.

    >>> as_predictor(lambda sample: sample.gt).prepare("a sample")
    """
    return predict if isinstance(predict, Predictor) else _FunctionPredictor(predict)


class Start:
    """The start of a refinement: a model's scores of an image, and inputs of `lpprop.refine`.

    Args:
        logits: (1, C, h, w), or (n, C, h, w) for n windows.
        feats: (1, D, h', w') or, for n windows, (n, D, h', w').
        inputs: further inputs by their names in `lpprop.refine`, such as `attention` and `windows`,
            or those of a step of your own. The image is the sample's own unless `image` is among
            them: pass it where the model saw a resized image.

    Attributes:
        logits: as given.
        inputs: the inputs that are not None, by name.

    >>> import torch
    >>> start = Start(torch.rand(1, 5, 3, 4), depth=torch.rand(1, 1, 24, 32))
    >>> start.logits.shape, list(start.inputs)
    (torch.Size([1, 5, 3, 4]), ['depth'])
    """

    def __init__(
        self,
        logits: Float[Tensor, "B C h w"],
        feats: Float[Tensor, "B D y x"] | None = None,
        **inputs: Any,
    ) -> None:
        self.logits = logits
        named = {"feats": feats, **inputs}
        self.inputs = {name: value for name, value in named.items() if value is not None}


class LastSampleCache(Generic[_T]):
    """Cache a function's result for the last sample.

    >>> calls = []
    >>> cached = LastSampleCache(lambda sample: calls.append(sample) or len(calls))
    >>> cached("a"), cached("a"), cached("b")
    (1, 1, 2)
    """

    def __init__(self, function: Callable[[Any], _T]) -> None:
        self.function = function
        self._last: tuple[Any, _T, list[str]] | None = None

    def __call__(self, sample: Any) -> _T:
        """Return the function's result, without a call where the sample is the last one."""
        if self._last is None or self._last[0] is not sample:
            self._last = None  # frees the old result's memory before the new one is made
            with collect_warnings(shown=False) as warnings:
                result = self.function(sample)
            self._last = (sample, result, warnings)
        for message in self._last[2]:
            warn(message, message)  # each predictor's record has them
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last result out when the cache goes to another process."""
        return {"function": self.function, "_last": None}

    def fingerprint(self) -> dict[str, Any]:
        """Describe the function."""
        return describe(self.function)


class RefinedStart(Predictor):
    """Refine a start by a method. Only the refinement is timed, not the start.

    Predictors that share one `LastSampleCache` make the start of each sample once; `refinements`
    builds such predictors.

    Args:
        start: makes the start of a sample.
        method: as `lpprop.refine` takes it.
        others: further methods that refine the same start. An input that they take and this method
            does not is left out here; any other input that no step takes is refused.
        threshold: the `background` of `lpprop.refine`, below which a pixel is none of the classes.

    Raises:
        InputError: an unknown method, or a threshold out of range.

    >>> import torch
    >>> from PIL import Image
    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(name="a", image=Image.new("RGB", (32, 24)))
    >>> start = LastSampleCache(lambda sample: Start(torch.rand(1, 5, 3, 4)))
    >>> RefinedStart(start, "kl")(sample).shape
    torch.Size([5, 24, 32])
    """

    def __init__(
        self,
        start: Callable[[Any], Start],
        method: str | Callable[..., Tensor],
        others: Sequence[Chain] = (),
        threshold: float | None = None,
    ) -> None:
        self.start = start
        self.chain = as_chain(method)
        self.windowed_chain = as_chain(method, windowed=True)
        self.others = others
        self.threshold = None if threshold is None else check_background("background", threshold)
        self.background = threshold is not None
        # A method of the user's own may describe itself.
        self._described = self.chain if isinstance(method, str) else method

    def prepare(self, sample: LabelledImage) -> None:
        """Make the sample's start."""
        self.start(sample)

    def __call__(self, sample: LabelledImage) -> Float[Tensor, "C H W"]:
        """Return the refined scores at the size of the sample's image.

        With a threshold they are probabilities, the last channel that of none of the classes.
        """
        start = self.start(sample)
        inputs = {"image": sample.image, **start.inputs}
        scores = refine(
            start.logits,
            method=self.windowed_chain if "windows" in inputs else self.chain,
            size=(sample.image.height, sample.image.width),
            background=self.threshold,
            **{name: value for name, value in inputs.items() if not self._is_for_others(name)},
        )
        return scores[0]

    def _is_for_others(self, name: str) -> bool:
        if name in _CHECKED or name in self.chain.takes:
            return False
        if name == "saliency" and self.background:  # it decides on the background
            return False
        return any(name in other.takes for other in self.others)

    def fingerprint(self) -> dict[str, Any]:
        """Describe the start and the method, and the background if there is one."""
        described = {"start": describe(self.start), "method": describe(self._described)}
        return described | ({"background": self.threshold} if self.background else {})


def check_predictors(predictors: object) -> None:
    """Refuse anything but functions of a sample by name.

    >>> check_predictors({"truth": lambda sample: sample.gt})
    """
    named = isinstance(predictors, Mapping) and all(
        isinstance(name, str) and callable(one) for name, one in predictors.items()
    )
    if not (named and predictors):
        raise InputError.of(
            "predictors",
            got=reprlib.repr(predictors),
            expected="one or more functions of a sample, by name",
            fix="Pass {'name': callable}.",
        )


def check_start(start: object) -> None:
    """Refuse what cannot make a start.

    >>> check_start(lambda sample: Start(sample.logits))
    """
    if not callable(start):
        raise InputError.of(
            "start",
            got=type(start).__name__,
            expected="a function that makes the Start of a sample",
            fix="Pass lambda sample: Start(logits, feats).",
        )


def name_methods(methods: object) -> dict[str, Any]:
    """Return methods by name, a list of presets' names by these names; refuse anything else.

    >>> name_methods(["kl", "lposs"])
    {'kl': 'kl', 'lposs': 'lposs'}
    """
    named: dict[Any, Any] = {}
    # A set has no order, in which the rows of the table would stand.
    if isinstance(methods, (list, tuple)) and all(isinstance(name, str) for name in methods):
        named = {name: name for name in methods}
    elif isinstance(methods, Mapping):
        named = dict(methods)
    if not named or not all(isinstance(name, str) for name in named):
        raise InputError.of(
            "methods",
            got=reprlib.repr(methods),
            expected="methods by name, or a list of presets' names",
            fix='Pass ["lposs", "lposs+"].',
        )
    return named


def refinements(
    start: Callable[[Any], Start],
    methods: Mapping[str, str | Callable[..., Tensor]] | Sequence[str],
    *,
    background: float | None = None,
) -> dict[str, RefinedStart]:
    """Make predictors that refine one start by several methods, and share it.

    Args:
        start: makes the `Start` of a sample; it is called once per sample.
        methods: by name what `lpprop.refine` takes as method, or a list of presets' names. Each
            method gets the inputs of the start that it takes.
        background: the threshold below which a pixel is none of the classes, as `lpprop.refine`
            takes it; None gives each pixel the best of the classes.

    Returns:
        A predictor for each method, by its name.

    Raises:
        InputError: an unknown method, or a background out of range.

    >>> list(refinements(lambda sample: Start(torch.rand(1, 5, 3, 4)), ["kl", "lposs+"]))
    ['kl', 'lposs+']
    """
    check_start(start)
    shared = LastSampleCache(start)
    named = name_methods(methods)
    predictors = {
        name: RefinedStart(shared, method, threshold=background) for name, method in named.items()
    }
    chains = [predictor.chain for predictor in predictors.values()]
    for predictor in predictors.values():
        predictor.others = chains
    return predictors
