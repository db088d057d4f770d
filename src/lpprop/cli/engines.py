"""`--engine ray`: the commands' work on the machines of a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lpprop._core.errors import InputError
from lpprop.cli.arguments import array_paths, check_saliency, option_name, regions_name
from lpprop.cli.common import check_folder, refuse_one_class, say
from lpprop.cli.messages import one_line, visible

if TYPE_CHECKING:
    from lpprop.batch.base import BatchMap
    from lpprop.models.recipes import Recipe

__all__ = [
    "add_engine", "add_job", "check_engine", "parse_place", "refine_on_cluster",
    "segment_on_cluster",
]  # fmt: skip

# What concerns clusters alone, with what it is where it is not given.
_OF_ENGINE = {
    "address": None, "workers": None, "gpus_per_worker": None, "format": None,
    "images_per_shard": None, "retry_failed": False, "verify": False,
}  # fmt: skip


def add_engine(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what names a cluster, and return the group for more of that kind."""
    group = command.add_argument_group("many machines (see docs/ten_million_images.md)")
    group.add_argument(
        "--engine", choices=["ray"], help="what spreads the work: pip install 'lpprop[ray]'"
    )
    group.add_argument(
        "--address", metavar="A",
        help="of the cluster, HOST:PORT or auto (default: RAY_ADDRESS, or else this machine)",
    )  # fmt: skip
    group.add_argument(
        "--workers", type=int, metavar="N", help="how many (default: as many as fit)"
    )
    group.add_argument(
        "--gpus-per-worker", type=float, metavar="X", help="such as 1 or 0.5 (default: 0, CPUs)"
    )
    return group


def add_job(command: argparse.ArgumentParser) -> None:
    """Add what names a cluster, and how a job on it is cut and written."""
    group = add_engine(command)
    group.add_argument(
        "--format", metavar="F",
        help="of the labels: parquet, webdataset, or files, a PNG per image (default: parquet)",
    )  # fmt: skip
    group.add_argument(
        "--images-per-shard", type=int, metavar="N",
        help="how many are written, and done again after a fault, as a whole (default: 256)",
    )  # fmt: skip
    group.add_argument(
        "--retry-failed", action="store_true", help="do shards with failed images again"
    )
    group.add_argument(
        "--verify", action="store_true", help="compare finished shards with their checksums"
    )


def parse_place(text: str) -> Path | str:
    """Read a path, or a URL, which only a cluster takes.

    >>> parse_place("photos").name, parse_place("s3://bucket/photos")
    ('photos', 's3://bucket/photos')
    """
    return text if "://" in text else Path(text)


def check_engine(arguments: argparse.Namespace) -> bool:
    """Tell whether the work goes to a cluster; refuse its options and URLs where it does not.

    Raises:
        InputError: an option of clusters, or a URL, without --engine.
    """
    if arguments.engine is not None:
        return True
    given = {name: getattr(arguments, name, value) for name, value in _OF_ENGINE.items()}
    wrong = {option_name(name): x for name, x in given.items() if x != _OF_ENGINE[name]}
    for name in ("image", "out"):
        if isinstance(getattr(arguments, name, None), str):
            wrong["IMAGE" if name == "image" else "--out"] = getattr(arguments, name)
    for option, value in wrong.items():
        raise InputError.of(
            option,
            got=str(value),
            expected="--engine ray beside it",
            fix="Add --engine ray, or change it.",
        )
    return False


def segment_on_cluster(arguments: argparse.Namespace, recipe: Recipe) -> int:
    """Segment the images of a job; return the exit code."""
    from lpprop.batch import Segment

    _refuse(arguments, "references", "window")
    if arguments.classes is not None:
        refuse_one_class("--classes", arguments.classes)
    regions = arguments.regions if isinstance(arguments.regions, Path) else None
    segment = Segment(
        arguments.classes, recipe, device=_device(arguments),
        download=not arguments.no_download,
    )  # fmt: skip
    return _run(arguments, segment, {} if regions is None else {"regions": regions}, "segmented")


def refine_on_cluster(arguments: argparse.Namespace) -> int:
    """Refine the scores of a job's images; return the exit code."""
    from lpprop.batch import Refine

    _refuse(arguments, "size", "span", "tile", "no_download")
    check_saliency(arguments)
    refine = Refine(
        arguments.method, background=arguments.background, regions=regions_name(arguments),
        device=_device(arguments), **dict(arguments.option),
    )  # fmt: skip
    folders = array_paths(arguments)
    for name, path in folders.items():
        if name not in refine.inputs:
            raise InputError.of(
                option_name(name),
                got=str(path),
                expected=f"nothing, since the method {arguments.method} does not take it",
                fix="Leave it out, or name a method that takes it.",
            )
    return _run(arguments, refine, folders, "refined")


def _refuse(arguments: argparse.Namespace, *names: str) -> None:
    """Refuse what a job does not do."""
    for name in names:
        value = getattr(arguments, name)
        if value not in (None, False):
            raise InputError.of(
                option_name(name),
                got=f"{value} beside --engine {arguments.engine}",
                expected="nothing",
                fix="Leave one of the two out.",
            )


def _device(arguments: argparse.Namespace) -> str:
    """Return where the workers compute: on the GPUs that they are given."""
    return "auto" if arguments.gpus_per_worker else str(arguments.device)


def _run(
    arguments: argparse.Namespace, mapper: BatchMap, folders: dict[str, Any], done: str
) -> int:
    from lpprop.cluster import map_images

    if isinstance(arguments.out, Path):
        check_folder(arguments.out)
    given = {
        name: getattr(arguments, name)
        for name in ("format", "images_per_shard", "gpus_per_worker")
        if getattr(arguments, name) is not None
    }
    try:
        summary = map_images(
            mapper, str(arguments.image), str(arguments.out),
            folders={name: str(path) for name, path in folders.items()},
            workers=arguments.workers, address=arguments.address, verify=arguments.verify,
            overwrite=arguments.overwrite, retry_failed=arguments.retry_failed, **given,
        )  # fmt: skip
    except KeyboardInterrupt:
        say("interrupted: the same command continues")
        return 130
    out, made = visible(summary.out), summary.images - summary.failed
    speed = f" ({summary.images / summary.seconds:.3g} images/s)" if summary.images else ""
    parts = [f"{made} {done} into {out}{speed}"]
    if summary.failed:
        parts.append(f"{summary.failed} failed")
    if summary.skipped:
        parts.append(f"{summary.skipped} skipped, since their results exist")
    if summary.failed_before:
        parts.append(f"{summary.failed_before} of these failed earlier (--retry-failed)")
    print(", ".join(parts))
    if summary.failed or summary.failed_before:
        say(f"error: the images that failed, and why: {out}/errors.csv")
    if summary.stopped:
        reason = one_line(InputError(summary.stopped), arguments.command)
        say(f"error: stopped: {reason}; what is finished stays, and the same command continues")
    return 1 if summary.failed or summary.failed_before or summary.stopped else 0
