"""The run over all tiles: patches, then pixels, then the region vote, then the whole files."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lpprop._core.errors import InputError
from lpprop._core.progress import Progress
from lpprop.compose.chain import Chain
from lpprop.io.atomic import atomic_write
from lpprop.refiners import BilinearUpsample, PixelPropagation
from lpprop.tiled.bands import Place
from lpprop.tiled.inputs import Inputs
from lpprop.tiled.journal import Journal, Layer, differences, part_folder, remove_part
from lpprop.tiled.plan import Plan
from lpprop.tiled.tiles import Box, Tile, cut
from lpprop.tiled.upsampling import Read, upsample
from lpprop.tiled.votes import Votes, list_regions
from lpprop.tiled.writers import write_raster

__all__ = ["Job"]

# Side, in patches, of the parts of the grid that get their scores from one graph, and the patches
# around such a part that are in its graph too.
_PATCH_TILE = 32
# Colours so many tau apart have a weight of exp(-10000), which is 0 in every precision.
_APART = 1e4

_Results = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Job:
    """One image to refine.

    Attributes:
        inputs: what it is made from.
        plan: the steps.
        tiles: the tiles of the image.
        files: the results to write: "out" and perhaps "scores".
        run: all that decides the results, for the journals and the record.
        overwrite: whether tiles of another run may be dropped, and results replaced.
        progress: as `lpprop._core.progress.Progress` takes it.
    """

    inputs: Inputs
    plan: Plan
    tiles: Sequence[Tile]
    files: Mapping[str, Path]
    run: Mapping[str, Any]
    overwrite: bool
    progress: bool | None

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.inputs.logits.shape[0]

    @property
    def gap_label(self) -> int:
        """The label of pixels without data."""
        return 255 if self.classes <= 255 else 65535

    def is_finished(self) -> bool:
        """Tell whether the results are there already, made by the same run.

        Raises:
            InputError: some are there, of another run.
        """
        out = self.files["out"]
        there = [path for path in self.files.values() if path.exists()]
        if not there or self.overwrite or part_folder(out).exists():
            return False
        try:
            record = json.loads(_record_of(out).read_bytes())
            changed = list(differences(record, json.loads(json.dumps(self.run, default=str))))
        except (OSError, ValueError, AttributeError):
            changed = [f"{_record_of(out).name}, which says how it was made, is missing or damaged"]
        if changed:
            raise InputError.of(
                "out",
                got=f"{there[0]}, which was made otherwise ({'; '.join(changed[:3])})",
                expected="none, or a result of the same inputs and options",
                fix="Choose another name, or pass overwrite=True to replace it.",
            )
        return len(there) == len(self.files)

    def finish(self) -> int:
        """Make what is missing; return how many tiles an earlier run had finished."""
        asked = {"labels"} | ({"scores"} & self.files.keys())
        cores = [tile.core for tile in self.tiles]
        with ExitStack() as stack:
            read_grid: Read = self.inputs.read_scores
            if self.plan.patches is not None:
                tiles = cut(self.inputs.grid, _PATCH_TILE, _PATCH_TILE)
                grid = self._open("grid", self.inputs.grid, [x.core for x in tiles], {"scores"})
                stack.enter_context(grid)
                self._fill(grid, "patch tile", lambda i: self._propagate_patches(tiles[i]))

                def read_grid(box: Box) -> Tensor:
                    return torch.from_numpy(grid.read("scores", box).copy())

            layers = {"scores"} if self.plan.vote else asked
            last = first = stack.enter_context(self._open("tiles", self.inputs.size, cores, layers))
            resumed = len(first.done)
            self._fill(first, "tile", lambda i: self._refine_tile(self.tiles[i], read_grid))
            if self.plan.vote is not None:
                last = self._open("voted", self.inputs.size, cores, asked)
                stack.enter_context(last)
                vote = self._gather_votes(first)
                self._fill(last, "tile", lambda i: vote(cores[i]))
            self._write(last)
        remove_part(self.files["out"])
        return resumed

    def _open(
        self, name: str, size: tuple[int, int], cores: Sequence[Box], layers: Collection[str]
    ) -> Journal:
        kinds = {"scores": Layer(self.classes, "<f4"), "labels": Layer(1, self._label_type)}
        return Journal(
            part_folder(self.files["out"]), name, self.run, size, cores,
            {key: kinds[key] for key in sorted(layers)}, overwrite=self.overwrite,
        )  # fmt: skip

    @property
    def _label_type(self) -> str:
        return "u1" if self.classes <= 255 else "<u2"

    def _fill(self, journal: Journal, unit: str, work: Callable[[int], _Results]) -> None:
        todo = [number for number in range(len(journal.cores)) if number not in journal.done]
        with Progress(len(todo), self.progress, unit, logged=True) as progress:
            for number in todo:
                journal.write(number, work(number))
                progress.update()

    def _propagate_patches(self, tile: Tile) -> _Results:
        """Propagate over the patches of a part of the grid and of those around it."""
        feats, step = self.inputs.feats, self.plan.patches
        assert feats is not None
        assert step is not None
        near = torch.from_numpy(feats.read(tile.window).astype(np.float32))
        fitted = step.fitted(self.inputs.grid, self.inputs.size)
        scores = fitted(self.inputs.read_scores(tile.window)[None], feats=near[None])[0]
        return {"scores": scores[(slice(None), *tile.core.within(tile.window))].numpy()}

    def _refine_tile(self, tile: Tile, read_grid: Read) -> _Results:
        inputs, window = self.inputs, tile.window
        if inputs.grid == inputs.size and self.plan.patches is None and _is_identity(self.plan):
            scores = inputs.read_scores(window)
        else:
            scores = upsample(
                self.plan.raise_by, read_grid, inputs.read_image, inputs.grid, inputs.size, window
            )
        image: Tensor | None = None
        for step in self.plan.pixels:
            if isinstance(step, PixelPropagation):
                apart = 2 + _APART * step.tau
                colours = inputs.read_colours(window, apart)[None]
                scores = step(scores[None], pixel_feats=colours)[0]
            else:
                image = inputs.read_image(window)[None] if image is None else image
                scores = Chain(step)(scores[None], image=image)[0]
        core = scores[(slice(None), *tile.core.within(window))]
        return self._results(core.numpy(), tile.core)

    def _results(self, scores: NDArray[np.float32], core: Box) -> _Results:
        """Return scores and labels of a core."""
        labels = scores.argmax(0)  # of equal classes the first
        if self.inputs.has_gaps:
            gaps = self.inputs.read_gaps(core).numpy()
            scores, labels = scores.copy(), labels.copy()
            scores[:, gaps], labels[gaps] = np.nan, self.gap_label
        return {"scores": scores, "labels": labels[None]}

    def _gather_votes(self, journal: Journal) -> Callable[[Box], _Results]:
        """Let all tiles vote; return what gives a core its regions' scores."""
        step, regions = self.plan.vote, self.inputs.regions
        assert step is not None
        assert regions is not None

        def read(core: Box) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.bool_]]:
            scores = np.nan_to_num(journal.read("scores", core))
            return scores, regions.read(core)[0], self.inputs.read_gaps(core).numpy()

        votes = Votes(step, list_regions(regions.read(x) for x in journal.cores), self.classes)
        for core in journal.cores:
            votes.add(*read(core))
        return lambda core: self._results(votes.spread(*read(core)), core)

    def _write(self, journal: Journal) -> None:
        """Write the files; the record comes first, since only the end removes the tiles."""
        out = self.files["out"]
        with atomic_write(_record_of(out)) as file:
            file.write((json.dumps(self.run, indent=2, default=str) + "\n").encode())
        height, width = self.inputs.size
        for name, path in self.files.items():
            layer, gap = ("labels", self.gap_label) if name == "out" else ("scores", np.nan)
            bands = self.inputs.logits.place.bands if layer == "scores" else ()
            kind = journal.layers[layer]
            write_raster(
                path, partial(_read_band, journal, layer), shape=(kind.bands, height, width),
                dtype=np.dtype(kind.dtype),
                place=Place(self.inputs.image.place.georeference, bands),
                nodata=gap if self.inputs.has_gaps else None, folder=journal.folder,
            )  # fmt: skip


def _read_band(journal: Journal, layer: str, band: int, box: Box) -> NDArray[Any]:
    numbers: NDArray[Any] = journal.read(layer, box, band)[0]
    return numbers


def _is_identity(plan: Plan) -> bool:
    return isinstance(plan.raise_by, BilinearUpsample)


def _record_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.json")
