"""What maps a batch item by item: its columns, its errors, its device and its pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.options import check_choice, is_listed
from lpprop.batch.columns import list_items, refuse_taken
from lpprop.batch.devices import check_device, find_device
from lpprop.kernels.dispatch import choose_by_work

__all__ = ["OUTPUTS", "BatchMap"]

#: What a result may hold beside the errors.
OUTPUTS = ("labels", "scores")

# What an item that failed has in place of each.
_NOTHING = {"labels": ((0, 0), np.uint16), "scores": ((0, 0, 0), np.float32)}
_MOST = np.iinfo(np.uint16).max + 1


class BatchMap:
    """Map batches of columns to batches of columns, one item at a time.

    Items are worked on one by one, since a batch of several sizes cannot be stacked, and since the
    bits of an item must not depend on what else is in its batch. Stacking items of one size would
    save about a tenth of the time; docs/batches.md has the figures.

    A subclass says which columns are inputs, and turns the inputs of an item into scores:

        def _names_of(self, config): ...
        def _required(self): ...
        def _load(self, device): ...
        def _score(self, item): ...

    Args:
        outputs: of "labels" and "scores".
        keep: inputs that the result holds too.
        device: "auto", or the name of a device of the workers.
        config: the subclass's own configuration, which is pickled.

    Raises:
        InputError: an option that cannot be used.
    """

    def __init__(
        self, *, outputs: Sequence[str], keep: Sequence[str], device: object, **config: Any
    ) -> None:
        self.outputs = _check_names("outputs", outputs, OUTPUTS)
        self.keep = _check_names("keep", keep, tuple(self._names_of(config)))
        self.device = check_device(device)
        self.config = config
        self._reset()

    def _reset(self) -> None:
        #: Where this process computes; None until it has to.
        self._on: torch.device | None = None

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> dict[str, Any]:
        """Map a batch.

        Args:
            batch: columns by name. A column has an entry per item: it is a list, an object array,
                or an array or tensor with a further axis, where all items have one shape.
            rank: the number of this worker among those of its machine, which picks its GPU.
                `datasets.map(..., with_rank=True)` passes it.

        Returns:
            The columns that are no inputs, as they came; the inputs that `keep` names; and lists
            with an entry per item: the outputs, and "error", the reason of an item that failed, ""
            for all others. The outputs of an item that failed are arrays of size 0.

        Raises:
            InputError: a batch that no item of which could be worked on: no dictionary, a column
                that is missing or has the name of a result, columns of unequal lengths; or models
                or a device that cannot be had.
        """
        names = self._names_of(self.config)
        items = list_items(batch, names, self._required())
        refuse_taken(batch, (*self.outputs, "error"))
        self.load(rank)
        results = [self._try(item) for item in items]
        others = {name: batch[name] for name in batch if name not in names or name in self.keep}
        listed = {name: [one[name] for one in results] for name in (*self.outputs, "error")}
        return others | listed

    def process(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Map a single item: the same as a batch of it, without the axis of the batch.

        Args:
            item: what a batch has in its columns for one item.

        Returns:
            As a call gives them: the other entries, the outputs, and the error.

        Raises:
            InputError: as a call raises it.
        """
        if not isinstance(item, Mapping):
            raise InputError.of(
                "item",
                got=type(item).__name__,
                expected="a dictionary of the item's entries",
                fix='Pass {"image": ...}, for instance.',
            )
        mapped = self({name: [value] for name, value in item.items()})
        return {name: column[0] for name, column in mapped.items()}

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are inputs."""
        return tuple(self._names_of(self.config))

    @property
    def required(self) -> tuple[str, ...]:
        """Those of them that a batch must have."""
        return self._required()

    def load(self, rank: int | None = None) -> None:
        """Choose the device and load the models, once in a process; a call does so by itself."""
        if self._on is None:
            device = find_device(self.device, rank)
            self._load(device)
            self._on = device

    def _try(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs of an item, or its error."""
        try:
            # The choice of the code must not depend on the items before this one.
            with torch.no_grad(), choose_by_work():
                scores = self._score(item)
            return {**self._outputs_of(scores), "error": ""}
        except Exception as error:  # whatever a damaged item makes a decoder or a step raise
            if _ends_the_worker(error):
                raise
            nothing = {name: np.zeros(*_NOTHING[name]) for name in self.outputs}
            return {**nothing, "error": _describe_error(error)}

    def _outputs_of(self, scores: Tensor) -> dict[str, Any]:
        if len(scores) != 1:
            name = self._required()[0]
            raise InputError.of(
                name,
                got=f"{len(scores)} images in one item",
                expected="one per item",
                fix="Give each an entry of its own in the column.",
            )
        if scores.shape[1] > _MOST:
            raise InputError.of(
                "logits",
                got=f"{scores.shape[1]} classes",
                expected=f"at most {_MOST}, whose labels fit into 16 bits",
                fix='Ask for outputs=["scores"] alone, or leave classes out.',
            )
        found: dict[str, Any] = {}
        if "labels" in self.outputs:
            found["labels"] = scores.argmax(1)[0].cpu().numpy().astype(np.uint16)
        if "scores" in self.outputs:
            # NumPy has no bfloat16.
            wide = scores.float() if scores.dtype == torch.bfloat16 else scores
            found["scores"] = wide[0].cpu().numpy()
        return found

    def _names_of(self, config: Mapping[str, Any]) -> list[str]:
        """List the columns that are inputs."""
        raise NotImplementedError

    def _required(self) -> tuple[str, ...]:
        """List the columns that a batch must have, that of the images or logits first."""
        raise NotImplementedError

    def _load(self, device: torch.device) -> None:
        """Load the models of this worker."""

    def _score(self, item: dict[str, Any]) -> Tensor:
        """Return the scores (1, C, H, W) of an item."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the device and the models, which belong to a process."""
        return {name: getattr(self, name) for name in ("outputs", "keep", "device", "config")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __eq__(self, other: object) -> bool:
        """Tell whether another object is configured alike."""
        return type(self) is type(other) and self.__getstate__() == other.__getstate__()

    def __hash__(self) -> int:
        return hash((type(self), self.outputs, self.keep, self.device))

    def __repr__(self) -> str:
        common = {"outputs": self.outputs, "keep": self.keep, "device": self.device}
        shown = ", ".join(f"{name}={value!r}" for name, value in (self.config | common).items())
        return f"{type(self).__name__}({shown})"


def _check_names(name: str, given: object, choices: tuple[str, ...]) -> tuple[str, ...]:
    if not is_listed(given):
        raise InputError.of(
            name,
            got=repr(given),
            expected=f"a list of names, of {', '.join(map(repr, choices))}",
            fix=f"Pass {name}=[{choices[0]!r}].",
        )
    return tuple(dict.fromkeys(check_choice(name, one, choices) for one in given))


def _ends_the_worker(error: Exception) -> bool:
    """Tell whether a GPU has failed for good: its process cannot use it for any other item."""
    failed: Any = getattr(torch, "AcceleratorError", ())  # of PyTorch 2.8
    return isinstance(error, failed) or "CUDA error" in str(error)


def _describe_error(error: Exception) -> str:
    """Return the reason in a line; what is not of this package is named by its type."""
    text = " ".join(str(error).split())
    known = isinstance(error, InputError) and text
    return (text if known else f"{type(error).__name__}: {text}")[:500]
