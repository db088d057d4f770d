"""What is evaluated: anything that labels a sample, and refiners of one start that they share.

predictors = refinements(start, {"bilinear": "lposs", "LPOSS+": "lposs+", "mine": my_chain})
report = evaluate(dataset, predictors, Path("runs/voc20"))
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lpprop.compose import presets
from lpprop.compose.pipeline import refine
from lpprop.inputs.windows import SlidingWindows

if TYPE_CHECKING:
    from PIL.Image import Image

    from lpprop.models.segmenter import Segmenter

__all__ = [
    "LabelledImage",
    "Once",
    "Predictor",
    "RefinedStart",
    "SegmenterPredictor",
    "Start",
    "describe",
    "refinements",
    "settings",
    "weights_hash",
]

_T = TypeVar("_T")


@runtime_checkable
class LabelledImage(Protocol):
    """What a predictor is given: a sample of a data set."""

    @property
    def name(self) -> str:
        """What the image is called."""

    @property
    def image(self) -> Image:
        """RGB."""

    @property
    def gt(self) -> Any:
        """True labels (H, W)."""


#: Returns labels (H, W), or scores (C, H, W) whose argmax they are.
Predictor = Callable[[Any], Any]


class Start(NamedTuple):
    """What a model makes of an image, before any refinement: the inputs of `lpprop.refine`.

    Attributes:
        logits: (1, C, h, w), or (n, C, h, w) of n windows.
        feats: (1, D, h', w'), or of n windows.
        attention: (1, N, N) or (1, heads, N, N).
        windows: where the n windows are.
        image: what the model saw, where that is not the sample's own image but a resized one.
    """

    logits: Float[Tensor, "B C h w"]
    feats: Float[Tensor, "B D y x"] | None = None
    attention: Tensor | None = None
    windows: SlidingWindows | None = None
    image: Float[Tensor, "1 3 H W"] | None = None


class Once(Generic[_T]):
    """Call a function of samples once for all who ask about the same sample in a row.

    >>> calls = []
    >>> once = Once(lambda sample: calls.append(sample) or len(calls))
    >>> once("a"), once("a"), once("b")
    (1, 1, 2)
    """

    def __init__(self, function: Callable[[Any], _T]) -> None:
        """Take the function."""
        self.function = function
        self._last: tuple[Any, _T] | None = None

    def __call__(self, sample: Any) -> _T:
        """Return the function's value, the last one without another call."""
        if self._last is None or self._last[0] is not sample:
            self._last = None  # the old one's memory is free before the new one is made
            self._last = (sample, self.function(sample))
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        """Travel to other processes without the last value."""
        return {"function": self.function, "_last": None}

    def fingerprint(self) -> dict[str, Any]:
        """Describe the function."""
        return describe(self.function)


class RefinedStart:
    """Refine a start by a method: a predictor whose time is that of the refinement alone.

    Predictors that share one `Once` compute the start of each sample once; `refinements` makes
    such. The runner calls `prepare` before it looks at the clock.

    Args:
        start: makes the start of a sample.
        method: as `lpprop.refine` takes it.

    >>> from PIL import Image
    >>> from types import SimpleNamespace
    >>> sample = SimpleNamespace(name="a", image=Image.new("RGB", (32, 24)))
    >>> RefinedStart(Once(lambda sample: Start(torch.rand(1, 5, 3, 4))), "kl")(sample).shape
    torch.Size([5, 24, 32])
    """

    def __init__(self, start: Once[Start], method: str | Callable[..., Tensor]) -> None:
        """Take the parts, and refuse a method that is not known."""
        self.start = start
        self.method = presets.by_name(method) if isinstance(method, str) else method

    def prepare(self, sample: LabelledImage) -> None:
        """Make the sample's start."""
        self.start(sample)

    def __call__(self, sample: LabelledImage) -> Float[Tensor, "C H W"]:
        """Return the refined scores at the size of the sample's image."""
        start = self.start(sample)
        scores = refine(
            start.logits,
            start.feats,
            sample.image if start.image is None else start.image,
            attention=start.attention,
            method=self.method,
            windows=start.windows,
            size=(sample.image.height, sample.image.width),
        )
        return scores[0]

    def fingerprint(self) -> dict[str, Any]:
        """Describe the start and the method."""
        return {"start": describe(self.start), "method": describe(self.method)}


def refinements(
    start: Callable[[Any], Start],
    methods: Mapping[str, str | Callable[..., Tensor]] | Sequence[str],
) -> dict[str, RefinedStart]:
    """Make predictors that refine one start by several methods, and share it.

    Args:
        start: makes the `Start` of a sample; called once a sample, whatever the number of methods.
        methods: by name what `lpprop.refine` takes as method, or a list of presets' names.

    Returns:
        A predictor for each method, by its name.

    >>> list(refinements(lambda sample: Start(torch.rand(1, 5, 3, 4)), ["kl", "lposs+"]))
    ['kl', 'lposs+']
    """
    named = methods if isinstance(methods, Mapping) else {name: name for name in methods}
    shared = Once(start)
    return {name: RefinedStart(shared, method) for name, method in named.items()}


class SegmenterPredictor:
    """Segment samples into classes in words.

    Args:
        segmenter: a `lpprop.models.segmenter.Segmenter`.
        prompts: one string a class, in the order of the labels.
    """

    def __init__(self, segmenter: Segmenter, prompts: Sequence[str]) -> None:
        """Take the parts."""
        self.segmenter = segmenter
        self.prompts = list(prompts)

    def __call__(self, sample: LabelledImage) -> Float[Tensor, "C H W"]:
        """Return the scores at the size of the sample's image."""
        return self.segmenter(sample.image, self.prompts).scores[0]

    def fingerprint(self) -> dict[str, Any]:
        """Describe the segmenter, with the hashes of its models' weights."""
        models = {"backbone": self.segmenter.backbone, "affinity": self.segmenter.affinity}
        return {
            "segmenter": repr(self.segmenter),
            "prompts": self.prompts,
            "settings": {name: settings(model) for name, model in models.items()},
            "weights": {name: weights_hash(model) for name, model in models.items()},
        }


def describe(predictor: object) -> dict[str, Any]:
    """Say what a predictor, a start or a method is, so that two that differ are told apart.

    It is what the object's own `fingerprint()` returns, a dict for JSON; without that, its repr. A
    function is known by its name alone: what else it depends on belongs in a `fingerprint`.

    >>> describe(describe)
    {'config': '<function describe>'}
    """
    fingerprint = getattr(predictor, "fingerprint", None)
    if callable(fingerprint):
        return dict(fingerprint())
    # The place in memory is another in each process.
    return {"config": re.sub(r" at 0x[0-9a-fA-F]+", "", repr(predictor))}


def settings(model: nn.Module) -> dict[str, Any]:
    """Return what a backbone was configured with: its attributes that are no modules or tensors.

    >>> from lpprop.backbones import EfficientNetLite0
    >>> settings(EfficientNetLite0())["patch_size"]
    16
    """
    # How many images are seen at once changes nothing in what they show.
    free = ("training", "max_bytes")
    plain = {name: value for name, value in vars(model).items() if name not in free}
    return {name: value for name, value in plain.items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, Mapping):
        # Torch keeps a module's parts in mappings of its own, which are empty in many.
        return bool(value) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float, bool))


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of a model's weights: names, types, shapes and values.

    >>> weights_hash(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
