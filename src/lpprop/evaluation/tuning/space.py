"""The search space: which options of the presets are tuned, and in which range.

One table for all presets, by refiner and option, so that a preset of known steps needs no row. What
is not tuned is in a table too, with the reason.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, runtime_checkable

from lpprop.compose.presets import Preset, find

if TYPE_CHECKING:
    import optuna

__all__ = ["FIXED", "RANGES", "Range", "default_options", "tuned_options", "why_fixed"]


@runtime_checkable
class Range(Protocol):
    """The values of an option that are searched."""

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> Any:
        """Return the value that a trial suggests for an image of so many patches."""

    def parameter(self, value: Any, patches: int) -> Any:
        """Return the trial's parameter of a value, within the range; None if it has none."""


@dataclass(frozen=True)
class Number:
    """A number, of three digits so that it can be read, from `low` to `high`."""

    low: float
    high: float
    log: bool = True

    def __str__(self) -> str:
        """Say it in words, as `lpprop methods` shows it."""
        return f"{self.low:g} to {self.high:g}"

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> float:
        """Return the value that a trial suggests."""
        return _round(trial.suggest_float(name, self.low, self.high, log=self.log))

    def parameter(self, value: Any, patches: int) -> float | None:
        """Return the value within the range."""
        return min(max(float(value), self.low), self.high) if _is_number(value) else None


@dataclass(frozen=True)
class Rest:
    """A number near 1, such as alpha, by what it lacks to 1: from `low` to `high`."""

    low: float
    high: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"{1 - self.high:g} to {1 - self.low:g}"

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> float:
        """Return the value that a trial suggests."""
        return _round(1 - _round(trial.suggest_float(name, self.low, self.high, log=True)))

    def parameter(self, value: Any, patches: int) -> float | None:
        """Return what the value lacks to 1, within the range."""
        return min(max(1 - value, self.low), self.high) if _is_number(value) else None


@dataclass(frozen=True)
class Whole:
    """An integer from `low` to `high` in steps."""

    low: int
    high: int
    step: int = 1

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.low} to {self.high}" + (f", by {self.step}" if self.step > 1 else "")

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> int:
        """Return the value that a trial suggests."""
        return trial.suggest_int(name, self.low, self.high, step=self.step)

    def parameter(self, value: Any, patches: int) -> int | None:
        """Return the nearest integer of the range."""
        if not _is_number(value):
            return None
        steps = round((value - self.low) / self.step)
        return min(max(self.low + steps * self.step, self.low), self.high)


@dataclass(frozen=True)
class Share:
    """A number of patches, at least 2, by their share of all patches, from `low` to 1."""

    low: float

    def __str__(self) -> str:
        """Say it in words."""
        return f"{100 * self.low:g} to 100 % of the patches"

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> int:
        """Return the number of patches that a trial suggests."""
        return max(2, round(trial.suggest_float(name, self.low, 1.0, log=True) * patches))

    def parameter(self, value: Any, patches: int) -> float | None:
        """Return the share."""
        return min(max(value / patches, self.low), 1.0) if _is_number(value) else None


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        """Say it in words."""
        return " or ".join(map(repr, self.values))

    def suggest(self, trial: optuna.Trial, name: str, patches: int) -> Any:
        """Return the value that a trial suggests."""
        # Optuna stores texts, but no tuples.
        return ast.literal_eval(trial.suggest_categorical(name, [*map(repr, self.values)]))

    def parameter(self, value: Any, patches: int) -> str | None:
        """Return the value as a text."""
        return repr(value) if value in self.values else None


#: The options that are searched, by refiner. "Chain" has those of the chain itself.
RANGES: dict[str, dict[str, Range]] = {
    "PatchPropagation": {
        "k": Share(0.003),
        "gamma": Number(1.0, 100.0),
        "sigma": Number(1e-4, 0.1),
        "alpha": Rest(0.01, 0.9),
    },
    "PixelPropagation": {
        "tau": Number(0.002, 0.1),
        "r": Whole(5, 17, step=2),
        "alpha": Rest(0.01, 0.9),
    },
    "JointBilateralUpsample": {
        "sigma_space": Number(0.2, 1.5),
        "sigma_range": Number(0.03, 1.0),
    },
    "ClassDistribution": {
        "nms": Number(0.0, 0.98, log=False),
        "confidence": Choice(("softmax", "minmax")),
        "logit_scale": Number(0.1, 300.0),
    },
    "OptimalPath": {"epsilon": Number(0.005, 2.0), "complement": Choice((False, True))},
    "MaxVelocity": {"tau": Number(0.02, 0.9), "first_step": Choice(("m2n2", "linear"))},
    "GuidedFilter": {"radius": Whole(1, 24), "eps": Number(1e-6, 0.1)},
    "PAMR": {
        "iterations": Whole(1, 20),
        "dilations": Choice(((1,), (1, 2, 4), (8, 16), (1, 2, 4, 8, 12, 24))),
    },
    "DenseCRF": {
        "iterations": Whole(1, 10),
        "w1": Number(0.5, 30.0),
        "theta_alpha": Number(5.0, 160.0),
        "theta_beta": Number(2.0, 50.0),
        "w2": Number(0.1, 30.0),
        "theta_gamma": Number(0.5, 10.0),
    },
    "LocalCRF": {
        "iterations": Whole(1, 10),
        "w1": Number(0.5, 30.0),
        "theta_alpha": Number(2.0, 80.0),
        "theta_beta": Number(2.0, 50.0),
        "w2": Number(0.1, 30.0),
        "theta_gamma": Number(0.5, 10.0),
        "r": Whole(5, 21, step=2),
    },
    "AttentionPool": {"steps": Whole(1, 5)},
    "CorrelationPool": {"threshold": Number(0.0, 0.9, log=False), "steps": Whole(1, 5)},
    "RegionVote": {
        "by": Choice(("vote", "mean", "probability")),
        "strength": Number(0.1, 1.0, log=False),
        "purity": Number(0.0, 0.95, log=False),
    },
    "Chain": {"temperature": Number(0.02, 1.0)},
}

_SOLVER = "the solver's budget: it decides how exact a result is, and what it costs"
_RESULT = "it changes the time or the memory, not the result"
_SHAPE = "the kernel's shape: its scale, which is tuned, matters more"

#: The options that are not searched, by refiner, and why. "Preset" has those of the preset itself.
FIXED: dict[str, dict[str, str]] = {
    "PatchPropagation": {
        "patch_size": "the geometry of the features, not a choice",
        "distance_power": _SHAPE,
        "sigma_time": "it acts between the frames of a clip only",
        "max_iter": _SOLVER,
        "tol": _SOLVER,
        "appearance": _SHAPE,
        "sigma_a": "it acts with appearance='exponential' only",
        "spatial": _SHAPE,
        "storage": _RESULT,
    },
    "PixelPropagation": {
        "max_iter": _SOLVER,
        "tol": _SOLVER,
        "sigma": "r bounds the neighbourhood already",
        "distance_power": _SHAPE,
        "solver": _SOLVER,
        "backend": _RESULT,
        "prune": _RESULT,
    },
    "JointBilateralUpsample": {
        "radius": "it cuts off the kernel, whose scale sigma_space is",
        "size": "the size of the result",
        "backend": _RESULT,
    },
    "ClassDistribution": {
        "threshold": "another scale of nms, which is tuned",
        "early_rejection": "part of the paper's method",
    },
    "OptimalPath": {"iterations": _SOLVER, "norm": "part of the paper's method"},
    "MaxVelocity": {
        "ipf_iterations": _SOLVER,
        "criterion": "'step' is for study only",
        "max_steps": _SOLVER,
    },
    "DenseCRF": {"scale": "'auto' fits it to the scores, and w1 and w2 are tuned"},
    "LocalCRF": {
        "scale": "'auto' fits it to the scores, and w1 and w2 are tuned",
        "backend": _RESULT,
    },
    "RegionVote": {"overlap": "it acts where masks overlap, which integers do not"},
    "Preset": {"feats_from": "it sets k, gamma and patch_size, of which two are tuned"},
}


def tuned_options(preset: Preset, given: Collection[str]) -> dict[str, Range]:
    """Return the options of a preset that are tuned, with their ranges.

    Args:
        preset: a row of the table of presets.
        given: the inputs that a start gives. The temperature belongs to attention that is built
            from feats, and is tuned only where no attention is given.

    >>> from lpprop.compose.presets import max_velocity, pamr
    >>> list(tuned_options(pamr, ["image"]))
    ['iterations', 'dilations']
    >>> "temperature" in tuned_options(max_velocity, ["attention", "image"])
    False
    """
    ranges: dict[str, Range] = {}
    for refiner, names in preset.names():
        own = RANGES.get(refiner.__name__, {})
        for keyword, name in names.items():
            if keyword in own:
                ranges.setdefault(name, own[keyword])
    if "temperature" in preset.options and "attention" not in given:
        ranges["temperature"] = RANGES["Chain"]["temperature"]
    return ranges


def why_fixed(preset: Preset, option: str) -> str:
    """Return why an option of a preset is not tuned, "" if no reason is known.

    >>> from lpprop.compose.presets import lposs
    >>> why_fixed(lposs, "patch_size")
    'the geometry of the features, not a choice'
    """
    reasons = dict(FIXED["Preset"])
    for refiner, names in preset.names():
        for keyword, reason in FIXED.get(refiner.__name__, {}).items():
            reasons.setdefault(names.get(keyword, keyword), reason)
    return reasons.get(option, "")


def default_options(method: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a preset, with those that suit the start.

    >>> default_options("lposs", {"feats_from": "dinov2"})["gamma"]
    7.0
    """
    preset = find(method)
    options = {**preset.options, **own}
    if preset.feats_from:
        options |= {**preset.feats_from[options["feats_from"]], **own}
    return options


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _round(value: float) -> float:
    """Keep three digits, so that what is printed is what was measured."""
    return float(f"{value:.3g}")
