"""The base of all refiners: a function's configuration, as a torch module."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lpprop._core.checks import Check, check_options
from lpprop._core.errors import InputError

__all__ = ["INPUTS", "Refiner", "on_patches"]

# What a refiner may be given beside the logits; everything else of a function is configuration.
INPUTS = ("feats", "image", "attention", "windows", "pixel_feats")


class Refiner(nn.Module):
    """Hold the configuration of one function; `forward` calls it and computes nothing itself.

    A subclass names its function, and takes that function's keywords with the same defaults, so
    that `Module(**p)(logits, feats=feats)` equals `function(logits, feats, **p)`; and, as `checks`,
    the same check of each option that the function runs, so that a bad one is refused early:

        class PatchPropagation(Refiner, function=propagate_patches, needs=("feats",)): ...

    Attributes:
        needs: the inputs that `forward` cannot do without.
        merges_windows: whether the scores of n windows come back as those of one image.
    """

    needs: tuple[str, ...] = ()
    merges_windows: bool = False
    _defaults: ClassVar[dict[str, Any]] = {}
    _checks: ClassVar[Mapping[str, Check]] = {}

    def __init_subclass__(
        cls,
        function: Callable[..., Tensor] | None = None,
        needs: tuple[str, ...] = (),
        checks: Mapping[str, Check] | None = None,
        **kwargs: Any,
    ) -> None:
        """Read the configuration off the function's keywords."""
        super().__init_subclass__(**kwargs)
        if function is None:  # a subclass of a refiner is configured as that one is
            return
        cls.needs = needs
        cls._checks = checks or {}
        keywords = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in INPUTS
        ]
        cls._defaults = {keyword.name: keyword.default for keyword in keywords}
        cls.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]

    def __init__(self, **config: Any) -> None:
        """Take the function's keywords; each is an attribute of the module."""
        super().__init__()
        for name in config:
            if name not in self._defaults:
                raise unknown_option(name, type(self).__name__, list(self._defaults))
        check_options(self._checks, config)
        for name, default in self._defaults.items():
            setattr(self, name, config.get(name, default))

    @property
    def config(self) -> dict[str, Any]:
        """The keywords that `forward` calls the function with."""
        return {name: getattr(self, name) for name in self._defaults}

    def fitted(self, grid: tuple[int, int], pixels: tuple[int, int]) -> Refiner:
        """Return this refiner for a feature grid that spans so many pixels: usually itself."""
        return self

    def extra_repr(self) -> str:
        """Show the configuration."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())


def on_patches(function: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    """Apply a function of (B, C, N) to scores that may stand on their grid (B, C, h, w)."""
    if isinstance(scores, Tensor) and scores.ndim == 4:
        return function(scores.flatten(2)).reshape(scores.shape)
    return function(scores)


def unknown_option(name: str, owner: str, known: list[str]) -> InputError:
    """Make the error for a keyword that a refiner or preset does not have."""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}?" if close else f"Remove {name}."
    return InputError.of(
        name,
        got=f"an option that {owner} does not have",
        expected=f"one of {', '.join(known)}" if known else "no option",
        fix=hint,
    )
