"""Composition: refiners one after the other are a refiner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lpprop._core.checks import check_number, check_tensors, needed
from lpprop._core.errors import InputError
from lpprop._core.memory import STEP_BYTES, check_memory
from lpprop._core.precision import compute_dtype, uncompiled
from lpprop._core.refiner import INPUTS
from lpprop.compose.composite import Composite, inputs_of, step_name, steps_of
from lpprop.inputs.attention import attention_from_features, average_heads, fitted_grid
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import bilinear_upsample

__all__ = ["Chain"]


class Chain(Composite):
    """Apply steps in order, each to the scores of the one before.

    A step is any callable `step(logits, *, feats, image, attention) -> scores`: a refiner of this
    package, another chain, or a function of your own. One that works on sliding windows also takes
    `windows`; one that compares pixels by given features also takes `pixel_feats`.

    One that turns the scores of n windows into those of one image says so by an attribute
    `merges_windows = True`, and one that cannot do without an input by `needs = ("attention",)`.

    A step may return (B, C, N), patches in row-major order; its scores are put back on their grid.

    On entry the logits are resized bilinearly to the grid of the feats or of the attention where a
    step needs those. Attention that is not given is built from the feats; attention with heads is
    averaged over them. Distances between patches are taken at the steps' patch_size as it stands;
    `lpprop.refine` fits it to the image first.

    Args:
        steps: one or more callables.
        temperature: of the attention that is built from the feats, > 0; that of
            `lpprop.attention_from_features` if None. A call that gives attention is then refused.

    Raises:
        InputError: no step, a step that cannot be called, or, in a call, an input that a step
            needs and that is not there, or that no step takes, or grids that do not fit.

    >>> import torch, lpprop
    >>> def sharpen(logits, *, feats, image, attention):
    ...     return 2 * logits
    >>> chain = Chain(lpprop.PatchPropagation(k=50), sharpen, lpprop.BilinearUpsample())
    >>> feats, image = torch.rand(1, 16, 8, 8), torch.rand(1, 3, 128, 128)
    >>> chain(torch.rand(1, 5, 8, 8), feats=feats, image=image).shape
    torch.Size([1, 5, 128, 128])
    """

    def __init__(self, *steps: Callable[..., Tensor], temperature: float | None = None) -> None:
        """Take the steps in order."""
        super().__init__(*steps)
        if temperature is not None:
            check_number("temperature", temperature, low=0, open_low=True)
        self.temperature = temperature

    @uncompiled
    def forward(
        self,
        logits: Tensor,
        *,
        feats: Tensor | None = None,
        image: Tensor | None = None,
        attention: Tensor | None = None,
        windows: SlidingWindows | None = None,
        pixel_feats: Tensor | None = None,
    ) -> Tensor:
        """Apply the steps; see `lpprop.refine` for the inputs' shapes."""
        inputs: dict[str, Any] = dict(
            zip(INPUTS, (feats, image, attention, windows, pixel_feats), strict=True)
        )
        grid = self.check(logits, **inputs)
        if grid != (logits.shape[-2], logits.shape[-1]):
            logits = bilinear_upsample(logits, grid)
        if attention is not None and attention.ndim == 4 and "attention" in self.needs:
            inputs["attention"] = average_heads(attention)
        built = inputs
        if self._attends and attention is None:
            options = {} if self.temperature is None else {"temperature": self.temperature}
            maps = attention_from_features(needed("feats", feats), **options)
            built = inputs | {"attention": maps}
        for step in self.steps:
            # An inner chain builds its own, at its own temperature.
            logits = self.run(step, logits, inputs if isinstance(step, Chain) else built)
            if getattr(step, "merges_windows", False):  # one image from here on
                inputs["windows"] = built["windows"] = None
        return logits

    @property
    def _attends(self) -> bool:
        """Whether a step of this chain itself, not of an inner one, needs attention."""
        own = [step for step in self.steps if not isinstance(step, Chain)]
        return any("attention" in getattr(step, "needs", ()) for step in own)

    def extra_repr(self) -> str:
        """Show the temperature where it plays a part."""
        return f"temperature={self.temperature!r}" if self._attends else ""

    def check(self, logits: Tensor, **inputs: Any) -> tuple[int, int]:
        """Refuse inputs that would fail or be ignored half way, before any step runs.

        Returns:
            The grid (h, w) on which the steps work.
        """
        for name in self.needs:
            if name == "attention" and inputs["attention"] is None:
                _check_source(inputs["feats"])
            else:
                needed(name, inputs[name])
        if self.temperature is not None and inputs["attention"] is not None:
            raise InputError.of(
                "temperature",
                got=f"{self.temperature:g} beside attention",
                expected="one of them, since it is that of attention built from feats",
                fix="To sharpen attention, pass lpprop.sharpen_attention(attention, temperature).",
            )
        if inputs["windows"] is not None:
            if not isinstance(inputs["windows"], SlidingWindows):
                raise InputError.of(
                    "windows",
                    got=type(inputs["windows"]).__name__,
                    expected="lpprop.SlidingWindows",
                    fix="Make them with SlidingWindows((H, W), window, stride).",
                )
            self._check_windows()
        if inputs["pixel_feats"] is not None and "pixel_feats" not in self.takes:
            raise InputError.of(
                "pixel_feats",
                got="a tensor",
                expected="None, since no step of this method compares pixels by features",
                fix="Use a method with a pixel step, such as 'lposs+'.",
            )
        return self._grid(logits, inputs["feats"], inputs["attention"])

    def _grid(
        self, logits: Tensor, feats: Tensor | None, attention: Tensor | None
    ) -> tuple[int, int]:
        given: dict[str, tuple[Any, str]] = {"logits": (logits, "B C h w")}
        attends = "attention" in self.needs
        if attends and attention is not None:
            heads = isinstance(attention, Tensor) and attention.ndim == 4
            given["attention"] = (attention, "B heads N N" if heads else "B N N")
        if "feats" in self.needs or (attends and attention is None):
            given["feats"] = (feats, "B D h' w'")
        sizes = check_tensors(**given)
        grid = (sizes.get("h'", sizes["h"]), sizes.get("w'", sizes["w"]))
        if attends:
            source = "feats" if attention is None else "attention"
            _check_memory(source, given[source][0], sizes.get("N", grid[0] * grid[1]))
        if not attends or attention is None:
            return grid
        fitted = fitted_grid(sizes["N"], like=grid)
        if fitted is None or ("feats" in given and fitted != grid):
            owner = "feats" if "feats" in given else "logits"
            raise InputError.of(
                "attention",
                got=f"{sizes['N']} patches",
                expected=f"those of the {owner}' grid, {grid[0]} x {grid[1]}, "
                "or of a grid of that shape",
                fix="Resample it with lpprop.aggregate_attention([attention], "
                f"size=({grid[0]}, {grid[1]}), grids=[its own (h, w)]).",
            )
        return fitted

    def _check_windows(self) -> None:
        for step in steps_of(self):
            if "windows" not in inputs_of(step):
                raise InputError.of(
                    "windows",
                    got="sliding windows",
                    expected=f"None, since {step_name(step)} works on one image",
                    fix="Refine whole images with this method. In a chain of your own, put "
                    "BilinearUpsample() before a step on pixels, or give yours a keyword windows=.",
                )
            if getattr(step, "merges_windows", False):
                return


def _check_source(feats: object) -> None:
    if feats is None:
        raise InputError.of(
            "attention",
            got="None, and no feats to build it from",
            expected="attention or feats",
            fix="This method needs one of them: pass attention= or feats=.",
        )


def _check_memory(source: str, made_of: Tensor, patches: int) -> None:
    """Forecast what attention takes before any step runs.

    Four axes are feats to build it from, or heads to average: beside what a step adds, all of the
    batch is then made, and what it is made of stands meanwhile.
    """
    made = 3 * len(made_of) * compute_dtype(made_of).itemsize if made_of.ndim == 4 else 0
    check_memory(source, patches, (STEP_BYTES + made) * patches**2, made_of.device)
