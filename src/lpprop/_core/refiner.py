"""The base of all refiners: a function's configuration, as a torch module."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from lpprop._core.checks import require
from lpprop._core.errors import InputError
from lpprop._core.options import Check, check_options, hint, unknown_option
from lpprop._core.scans import pass_on

__all__ = ["COMMON", "Refiner", "check_ignored", "unknown_input"]

#: Inputs that every refiner accepts, even if it ignores them, so that methods can be swapped.
COMMON = ("feats", "image", "attention")


class Refiner(nn.Module):
    """Hold the configuration of a function; `forward` calls it and computes nothing itself.

    A subclass is one line beside its function. It names the function's inputs in the order of its
    positional parameters; other keywords, with their defaults and checks, are the configuration:

        class PatchPropagation(
            Refiner, function=propagate_patches, needs=("feats",), takes=("windows",)
        ): ...

    so that `Module(**p)(logits, feats=feats)` equals `function(logits, feats, **p)`.

    Attributes:
        needs: inputs that `forward` requires: the function's positional parameters.
        takes: all inputs that `forward` passes on, the required ones first.
        merges_windows: whether it turns the scores of n windows into those of one image.
    """

    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    merges_windows: bool = False
    __call__: Callable[..., Tensor]
    _function: ClassVar[Callable[..., Tensor]]
    _on_patches: ClassVar[bool] = False
    defaults: ClassVar[dict[str, Any]] = {}
    _checks: ClassVar[Mapping[str, Check]] = {}

    def __init_subclass__(
        cls,
        function: Callable[..., Tensor] | None = None,
        needs: tuple[str, ...] = (),
        takes: tuple[str, ...] = (),
        on_patches: bool = False,
        **kwargs: Any,
    ) -> None:
        """Read the configuration off the function's keywords.

        Args:
            function: what the module configures.
            needs: inputs that are the function's positional parameters after the scores.
            takes: inputs that are keywords of the function, and optional.
            on_patches: whether it works on (B, C, N): scores on a grid are then flattened.
            kwargs: passed on to other base classes.
        """
        super().__init_subclass__(**kwargs)
        if function is None:  # a subclass of a refiner keeps its configuration
            return
        cls.needs, cls.takes = needs, (*needs, *takes)
        cls._function, cls._on_patches = staticmethod(function), on_patches
        cls._checks = getattr(function, "checks", {})
        keywords = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in takes
        ]
        cls.defaults = {keyword.name: keyword.default for keyword in keywords}
        cls.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]

    def __init__(self, **config: Any) -> None:
        """Take the function's keywords; each is an attribute of the module."""
        super().__init__()
        for name in config:
            if name not in self.defaults:
                raise unknown_option(name, type(self).__name__, self.defaults)
        config = check_options(self._checks, config)
        for name, default in self.defaults.items():
            setattr(self, name, config.get(name, default))

    @property
    def config(self) -> dict[str, Any]:
        """The keywords that `forward` calls the function with."""
        return {name: getattr(self, name) for name in self.defaults}

    def forward(self, logits: Tensor, **inputs: Any) -> Tensor:
        """Call the function with the inputs that it takes; other `COMMON` inputs are ignored.

        Args:
            logits: the scores, larger = likelier, as the function takes them.
            inputs: by name; see `lpprop.refine` for their shapes.

        Raises:
            InputError: a required input that is missing, or an unknown one; or as the function
                raises it.
        """
        for name in inputs:
            if name not in (*self.takes, *COMMON):
                raise unknown_input(name, type(self).__name__, self.takes)
            if name not in self.takes:
                check_ignored(name, inputs[name])
        for name in self.needs:
            require(name, inputs.get(name))
        return self._call(logits, inputs)

    def _call(self, logits: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Call the function on the scores and on those inputs that it takes."""
        if self._on_patches and isinstance(logits, Tensor) and logits.ndim == 4:
            scores = self._call(pass_on(logits, logits.flatten(2)), inputs)
            return pass_on(scores, scores.reshape(logits.shape))
        needed = [inputs.get(name) for name in self.needs]
        optional = {name: inputs.get(name) for name in self.takes[len(self.needs) :]}
        return self._function(logits, *needed, **optional, **self.config)

    @property
    def reach(self) -> int | None:
        """How far from a pixel those are that its scores depend on, in rows and columns.

        None means that every pixel may depend on all others. A refiner with a reach works on a part
        of an image as on the whole: pixels that are so far from the part's cut get the same scores.
        """
        return None

    def check_room(self, logits: Tensor, inputs: Mapping[str, Any]) -> None:
        """Refuse work that does not fit into memory, before any step of a chain runs.

        Args:
            logits: the scores that enter the chain, on their grid.
            inputs: all inputs of the chain.
        """

    def fitted(self, grid: tuple[int, int], pixels: tuple[int, int]) -> Refiner:
        """Return this refiner adapted to a feature grid that spans the pixels: usually itself."""
        return self

    def extra_repr(self) -> str:
        """Show the configuration."""
        return ", ".join(f"{name}={value!r}" for name, value in self.config.items())


def check_ignored(name: str, value: object) -> None:
    """Refuse a common input that is no tensor, even where no step looks at it."""
    if value is not None and not isinstance(value, Tensor):
        raise InputError.of(
            name,
            got=type(value).__name__,
            expected="a torch.Tensor, or None",
            fix="Convert it with torch.as_tensor, or call lpprop.refine, which also takes arrays.",
        )


def unknown_input(
    name: str, owner: str, takes: Iterable[str], *, known: bool = False
) -> InputError:
    """Make the error for an input that no step takes, whether other methods know it or not."""
    names = list(dict.fromkeys((*takes, *COMMON)))
    advice = f"Remove {name}, or use a method that takes it."
    return InputError.of(
        name,
        got="an input that nobody takes",
        expected=f"one of {', '.join(names)}, the inputs of {owner}",
        fix=advice if known else hint(name, names, otherwise=advice),
    )
