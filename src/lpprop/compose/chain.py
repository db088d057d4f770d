"""Composition: refiners in sequence are a refiner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from lpprop._core.checks import require
from lpprop._core.errors import InputError
from lpprop._core.memory import STEP_BYTES, check_memory
from lpprop._core.once import first_time
from lpprop._core.options import check_above_0
from lpprop._core.precision import compute_dtype, uncompiled
from lpprop._core.refiner import Refiner
from lpprop.compose.composite import Composite, Takes, needs_of, step_name, steps_of, takes_of
from lpprop.inputs.attention import as_rows, fit_grid
from lpprop.inputs.feature_attention import attention_from_features
from lpprop.inputs.layout import check_layout
from lpprop.inputs.table import check_inputs, convert_inputs
from lpprop.inputs.windows import SlidingWindows
from lpprop.refiners import bilinear_upsample

__all__ = ["Chain"]

# Tokens before the patches: a class token, with one for distillation (DeiT) or four registers.
_TOKENS = {1: "a class token", 2: "2 class tokens", 5: "a class token and 4 registers"}


class Chain(Composite):
    """Apply steps in order, each to the scores of the one before.

    A step is any callable whose first argument is the scores and whose keywords name the inputs
    that it takes: a refiner of this package, another chain, a torch module, or a function of your
    own. It may name inputs that lpprop does not know: they are passed on unchanged, and required if
    the keyword has no default. An input that lpprop knows may be None; a step that requires one
    says so by an attribute, `needs = ("attention",)`.

    A step that turns the scores of n windows into those of one image says `merges_windows = True`.
    A step may return (B, C, N), patches in row-major order; the chain puts them back on their grid.

    On entry the logits are resized bilinearly to the grid of the feats or of the attention, if a
    step needs those. Missing attention is built from the feats; attention with heads is averaged
    over them; rows of it that do not sum to 1 are divided by their sums, with a warning. Distances
    between patches use the steps' patch_size unchanged; `lpprop.refine` fits it to the image first.

    Args:
        steps: one or more callables.
        temperature: temperature of the attention that is built from the feats, > 0; that of
            `lpprop.attention_from_features` if None. If it is set, a call must not give attention.

    Raises:
        InputError: no step, or a step that cannot be called; in a call, an input that is missing
            or that no step takes, or grids that do not fit.

    >>> import torch, lpprop
    >>> def sharpen(logits):
    ...     return 2 * logits
    >>> def mask(logits, *, depth):
    ...     return logits * (depth < 10)
    >>> chain = Chain(lpprop.PatchPropagation(k=50), sharpen, lpprop.BilinearUpsample(), mask)
    >>> chain.needs
    ('feats', 'depth')
    >>> feats, image = torch.rand(1, 16, 8, 8), torch.rand(1, 3, 128, 128)
    >>> depth = torch.rand(1, 1, 128, 128)
    >>> chain(torch.rand(1, 5, 8, 8), feats=feats, image=image, depth=depth).shape
    torch.Size([1, 5, 128, 128])
    """

    def __init__(self, *steps: Callable[..., Tensor], temperature: float | None = None) -> None:
        """Take the steps in order."""
        super().__init__(*steps)
        if temperature is not None:
            temperature = check_above_0("temperature", temperature)
        self.temperature = temperature

    @uncompiled
    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        """Apply the steps; see `lpprop.refine` for the shapes of the inputs."""
        if first_time("layout"):  # unless the call has checked it already
            _check_layout(logits, inputs)
        grid = self.check(logits, **inputs)
        if grid != tuple(logits.shape[-2:]):
            logits = bilinear_upsample(logits, grid)
        attention = inputs.get("attention")
        if attention is not None and "attention" in self.needs:
            inputs["attention"] = as_rows(attention)
        built = inputs
        if self._attends and attention is None:
            options = {} if self.temperature is None else {"temperature": self.temperature}
            built = inputs | {"attention": attention_from_features(inputs["feats"], **options)}
        for step in self.steps:
            # An inner chain builds its own attention, at its own temperature.
            logits = self.run(step, logits, inputs if isinstance(step, Chain) else built)
            if getattr(step, "merges_windows", False):  # one image from here on
                inputs["windows"] = built["windows"] = None
        return logits

    @property
    def takes(self) -> Takes:
        """The inputs that some step takes, and the feats if they can stand in for attention."""
        takes = super().takes
        return replace(takes, names=takes.names | {"feats"}) if "attention" in takes else takes

    @property
    def _attends(self) -> bool:
        """Whether a step of this chain needs attention; steps of inner chains do not count."""
        return any("attention" in needs_of(x) for x in self.steps if not isinstance(x, Chain))

    def extra_repr(self) -> str:
        """Show the temperature if it has an effect."""
        return f"temperature={self.temperature!r}" if self._attends else ""

    def check(self, logits: Tensor, **inputs: Any) -> tuple[int, int]:
        """Refuse inputs that would fail or be ignored later, before any step runs.

        Returns:
            The grid (h, w) on which the steps work.
        """
        self.check_known(inputs)
        for name in self.needs:
            if name != "attention":
                require(name, inputs.get(name))
            elif inputs.get("attention") is None and inputs.get("feats") is None:
                raise InputError.of(
                    "attention",
                    got="None, and no feats to build it from",
                    expected="attention or feats",
                    fix="This method needs one of them: pass attention= or feats=.",
                )
        if self.temperature is not None and inputs.get("attention") is not None:
            raise InputError.of(
                "temperature",
                got=f"{self.temperature:g} beside attention",
                expected="one of them, since it applies only to attention built from feats",
                fix="To sharpen attention, pass lpprop.sharpen_attention(attention, temperature).",
            )
        if inputs.get("windows") is not None:
            convert_inputs({"windows": inputs["windows"]}, logits)
            self._check_windows()
        grid = self._grid(logits, inputs)
        for step in steps_of(self):
            if isinstance(step, Refiner):
                step.check_room(logits, inputs)
        return grid

    def _grid(self, logits: Tensor, inputs: dict[str, Any]) -> tuple[int, int]:
        attends, attention = "attention" in self.needs, inputs.get("attention")
        source = "attention" if attends and attention is not None else "feats"
        names = {source} if attends else set()
        names |= {"feats"} & set(self.needs)
        sizes = check_inputs(logits, inputs, names)
        grid = (sizes.get("h'", sizes["h"]), sizes.get("w'", sizes["w"]))
        if attends:
            _check_memory(source, inputs[source], sizes.get("N", grid[0] * grid[1]))
        if source == "feats":
            return grid
        fitted = fit_grid(sizes["N"], like=grid)
        if fitted is None or ("feats" in names and fitted != grid):
            owner = "feats" if "feats" in names else "logits"
            raise InputError.of(
                "attention",
                got=f"{sizes['N']} patches",
                expected=f"those of the {owner}' grid, {grid[0]} x {grid[1]}, "
                "or of a grid of that shape",
                fix=_advise(sizes["N"], grid),
            )
        return fitted

    def _check_windows(self) -> None:
        for step in steps_of(self):
            if "windows" not in takes_of(step):
                raise InputError.of(
                    "windows",
                    got="sliding windows",
                    expected=f"None, since {step_name(step)} works on one image",
                    fix="Refine whole images with this method. In a chain of your own, put "
                    "BilinearUpsample() before a step on pixels, or give your step a keyword "
                    "windows=.",
                )
            if getattr(step, "merges_windows", False):
                return


def _advise(patches: int, grid: tuple[int, int]) -> str:
    """Say what to do about attention that fits no grid: drop its tokens, or resample it."""
    for count, kind in _TOKENS.items():
        found = fit_grid(patches - count, like=grid) if patches > count else None
        if found is not None:
            return (
                f"These look like tokens with {kind} before {found[0]} x {found[1]} patches: drop "
                f"{'it' if count == 1 else 'them'}, attention = attention[..., {count}:, {count}:]"
                ", and divide the rows by their sums, attention / attention.sum(-1, keepdim=True)."
            )
    return (
        "Resample it with lpprop.aggregate_attention([attention], "
        f"size=({grid[0]}, {grid[1]}), grids=[its own (h, w)])."
    )


def _check_layout(logits: object, inputs: Mapping[str, Any]) -> None:
    """Compare the grids with the image, or with the windows' crops."""
    image, windows = inputs.get("image"), inputs.get("windows")
    if isinstance(windows, SlidingWindows):
        pixels = windows.crop_size
    elif isinstance(image, Tensor) and image.ndim == 4:
        pixels = image.shape[-2], image.shape[-1]
    else:
        return
    for name, grid in (("logits", logits), ("feats", inputs.get("feats"))):
        if isinstance(grid, Tensor) and grid.ndim == 4 and grid.numel():
            check_layout(name, grid, pixels)


def _check_memory(source: str, made_of: Tensor, patches: int) -> None:
    """Estimate the memory that attention takes, before any step runs.

    If attention is built from feats or averaged over heads (four axes either way), the whole batch
    of it exists while its source is still alive.
    """
    made = 3 * len(made_of) * compute_dtype(made_of).itemsize if made_of.ndim == 4 else 0
    check_memory(source, patches, (STEP_BYTES + made) * patches**2, made_of.device)
