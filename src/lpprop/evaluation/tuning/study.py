"""The search: Optuna suggests a method and its options, one trial at a time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lpprop._core.errors import InputError
from lpprop._core.optional import import_hint
from lpprop.evaluation.tuning.space import Range, default_options
from lpprop.evaluation.tuning.trials import Tried

if TYPE_CHECKING:
    import optuna

__all__ = ["Search", "import_optuna"]

#: The settings of each method that are drawn at random, before the search leans to the best.
_RANDOM = 2


def import_optuna() -> Any:
    """Return Optuna's module.

    Raises:
        ImportError: the extra `tune` is not installed.
    """
    with import_hint("Tuning needs Optuna: pip install 'lpprop[tune]'"):
        import optuna
    return optuna


class Search:
    """A study of Optuna in a file, whose suggestions depend on its past and the seed alone.

    The sampler is made anew for each trial, with a seed of its own. So a search that was stopped
    goes on as if it had not been.

    Args:
        path: the file of its storage.
        spaces: the ranges of the options of each method, by names.
        patches: the number of patches of an image, of which some ranges are shares.
        own: the options of each preset that suit the start.
        seed: of the sampler.
        tried: the settings that are known from an earlier call.

    Raises:
        InputError: a file that is damaged, or that lacks trials of these settings.
    """

    def __init__(
        self,
        path: Path,
        spaces: Mapping[str, Mapping[str, Range]],
        patches: int,
        own: Mapping[str, Mapping[str, Any]],
        seed: int,
        tried: Sequence[Tried],
    ) -> None:
        self._optuna = import_optuna()
        self.spaces = {method: space for method, space in spaces.items() if space}
        self._patches, self._own, self._seed = patches, own, seed
        self._startup = len(self.spaces) * (1 + _RANDOM)
        known = {x.number: x for x in tried if x.number is not None}
        before = self._optuna.logging.get_verbosity()
        self._optuna.logging.set_verbosity(self._optuna.logging.WARNING)
        try:
            self.study = self._optuna.create_study(
                storage=f"sqlite:///{path.absolute()}",
                study_name="lpprop",
                direction="maximize",
                load_if_exists=True,
            )
            there = {trial.number for trial in self.study.get_trials(deepcopy=False)}
        except Exception as error:  # of SQLAlchemy, Optuna, JSON ...: all are about this file
            reason = str(error.__cause__ or error).partition("\n")[0]
            raise InputError.of(
                "out",
                got=f"{path}, which cannot be read ({type(error).__name__}: {reason})",
                expected="the study of an earlier call, or none",
                fix="Restore the file from a copy, or remove the whole folder to start again.",
            ) from error
        finally:
            self._optuna.logging.set_verbosity(before)
        lost = len(known.keys() - there)
        if lost:  # its numbers would be given once more, and what it learnt is gone
            raise InputError.of(
                "out",
                got=f"{path} without {lost} of the {len(known)} trials of trials.jsonl",
                expected="both files of one search",
                fix="Restore the file from a copy, or remove the whole folder to start again.",
            )
        self._settle(known)

    def ask(self, index: int) -> tuple[optuna.Trial, str, dict[str, Any]]:
        """Return a trial, its method, and those of its options that differ from the preset.

        Args:
            index: the number of trials before it that ended. The first ones are the presets, then
                each method gets `_RANDOM` settings at random.
        """
        self.study.sampler = self._make_sampler(index)
        if index < len(self.spaces):
            method = list(self.spaces)[index]
            known = self._place(method)
            self.study.enqueue_trial({"method": method} | known)
            trial = self.study.ask()
            trial.suggest_categorical("method", list(self.spaces))
            for name, allowed in self.spaces[method].items():
                if f"{method}.{name}" in known:
                    allowed.suggest(trial, f"{method}.{name}", self._patches)
            return trial, method, {}
        if index < self._startup:  # a poor preset is no reason to leave its method out
            self.study.enqueue_trial({"method": list(self.spaces)[index % len(self.spaces)]})
        trial = self.study.ask()
        method = trial.suggest_categorical("method", list(self.spaces))
        preset = default_options(method, self._own[method])
        suggested = {
            name: allowed.suggest(trial, f"{method}.{name}", self._patches)
            for name, allowed in self.spaces[method].items()
        }
        return trial, method, {name: x for name, x in suggested.items() if x != preset[name]}

    def tell(self, number: int, score: float) -> None:
        """Tell the study how a trial ended; NaN if it failed."""
        if math.isnan(score):
            self.study.tell(number, state=self._optuna.trial.TrialState.FAIL)
        else:
            self.study.tell(number, score)

    def _place(self, method: str) -> dict[str, Any]:
        """Return where a preset lies in the space, as far as its options have a place there."""
        options = default_options(method, self._own[method])
        placed = {
            f"{method}.{name}": allowed.parameter(options[name], self._patches)
            for name, allowed in self.spaces[method].items()
        }
        return {name: value for name, value in placed.items() if value is not None}

    def _settle(self, tried: Mapping[int, Tried]) -> None:
        """End the trials that a kill left open, as they ended if that is known."""
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.state.is_finished():
                known = tried.get(trial.number)
                state = self._optuna.trial.TrialState
                if trial.state == state.WAITING:  # it was asked for, but not begun
                    self.study.sampler = self._make_sampler(0)
                    self.study.ask()
                self.tell(trial.number, math.nan if known is None else known.score)

    def _make_sampler(self, index: int) -> Any:
        seed = int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0])
        with warnings.catch_warnings():
            # `group` is called experimental. It lets the options of each method be searched
            # together, although trials of other methods do not have them.
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            return self._optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=self._startup, multivariate=True, group=True
            )
