"""A job on a cluster: planned, resumed, mapped shard by shard, and summed up."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lpprop._core.errors import InputError
from lpprop._core.options import check_boolean, check_choice, check_integer
from lpprop._core.progress import Progress
from lpprop.batch.base import BatchMap
from lpprop.cluster.manifest import Finished, Manifest
from lpprop.cluster.outputs import FORMATS, check_ids, is_whole
from lpprop.cluster.plans import Plan, make_plan
from lpprop.cluster.ray_data import (
    ClusterError,
    Workers,
    connect,
    count_workers,
    map_units,
    run_everywhere,
)
from lpprop.cluster.reports import Summary, list_errors, warn_of_doubts
from lpprop.cluster.stores import Store
from lpprop.cluster.worker import Job, ShardWorker
from lpprop.evaluation.records import lock

__all__ = ["map_images"]

# How many outputs are checked at once.
_CHECKS = 8


def map_images(
    mapper: BatchMap,
    source: str,
    out: str,
    *,
    workers: int | None = None,
    gpus_per_worker: float = 0.0,
    address: str | None = None,
    folders: Mapping[str, str] | None = None,
    format: str = "parquet",
    images_per_shard: int = 256,
    overwrite: bool = False,
    retry_failed: bool = False,
    verify: bool = False,
    progress: bool | None = None,
) -> Summary:
    """Label the images of a folder, a manifest or tars on a cluster of Ray.

        segment = lpprop.batch.Segment(["cat", "sofa"], "clip-dino")
        lpprop.cluster.map_images(segment, "s3://photos", "s3://labels", gpus_per_worker=1)

    The input is cut into shards. A worker reads the images of a shard, maps them one by one, writes
    the labels of the shard as a whole, and then a file that says so. The same call again does the
    shards that are missing. An image has the bits that the mapper gives in a plain loop.

    Args:
        mapper: a `lpprop.batch.Segment` or `Refine` with labels among its outputs.
        source: a folder of images, a manifest (.parquet, .csv) or a folder of tars; a path that all
            machines have, or a URL.
        out: the job's folder, likewise.
        workers: how many; as many as fit if None.
        gpus_per_worker: 0 for CPUs alone.
        address: of the cluster; None for RAY_ADDRESS, or else this machine.
        folders: by input, the folder with a file per image, for a folder of images.
        format: "parquet", "webdataset", or "files": a PNG per image.
        images_per_shard: how many images are written, and done again after a fault, as a whole.
        overwrite: whether to do everything again, whatever is there.
        retry_failed: whether to do the shards again in which images have failed.
        verify: whether to read the outputs of finished shards, and do those again whose content is
            not what was written. Otherwise their sizes are compared.
        progress: whether to show a progress bar, as elsewhere.

    Returns:
        The summary; `out` also receives errors.csv with the images that failed.

    Warns:
        InputWarning: what the mapper warned of, once per kind for all images of the job.

    Raises:
        ImportError: Ray is not installed.
        InputError: what cannot be used, before any work: an input, a cluster or an output folder
            that is not there, a folder with a job of other settings.
        OSError: a folder that cannot be written to.
    """
    check_choice("format", format, FORMATS)
    check_integer("images_per_shard", images_per_shard)
    for name, value in (
        ("overwrite", overwrite), ("retry_failed", retry_failed), ("verify", verify),
    ):  # fmt: skip
        check_boolean(name, value)
    wanted = Workers(address, workers, gpus_per_worker)
    wanted.check()
    if "labels" not in mapper.outputs:
        raise InputError.of(
            "mapper",
            got=f"one whose outputs are {', '.join(mapper.outputs)}",
            expected='"labels" among them, which are what is written',
            fix='Pass outputs=["labels"].',
        )
    start = time.monotonic()
    plan = make_plan(source, mapper.inputs, mapper.required, images_per_shard, folders)
    check_ids(plan.table["id"].to_pylist(), format)
    store = Store(out)
    manifest = Manifest(store)
    with lock(_as_path(store)) if store.is_local else contextlib.nullcontext():
        run = _describe(mapper, plan, format)
        kept = _resume(manifest, run, plan, overwrite, retry_failed, verify)
        todo = [shard for shard in range(plan.shards) if shard not in kept]
        found: dict[int, Finished] = dict(kept)
        stopped = ""
        if todo:
            token = uuid.uuid4().hex
            job = Job(mapper, store.root, format, token)
            with connect(wanted):
                count_workers(wanted, len(todo))  # may refuse them
                if not kept:
                    manifest.forget()
                manifest.save_run(run | {"token": token})
                store.write("plan.parquet", plan.to_parquet())
                _require_shared(store.root, token)
                stopped = _map(job, todo, plan, wanted, progress)
            # What the workers have written counts, whatever they could report.
            found |= manifest.load()
        with contextlib.suppress(OSError) if stopped else contextlib.nullcontext():
            manifest.compact(found)
            store.write("errors.csv", list_errors(found))
    warn_of_doubts(found)
    made = [one for shard, one in found.items() if shard not in kept]
    return Summary(
        images=sum(one.images for one in made),
        failed=sum(len(one.errors) for one in made),
        skipped=sum(one.images for one in kept.values()),
        failed_before=sum(len(one.errors) for one in kept.values()),
        seconds=time.monotonic() - start,
        stopped=stopped,
        out=store.root,
    )


def _as_path(store: Store) -> Any:
    from pathlib import Path

    return Path(store.root)


def _describe(mapper: BatchMap, plan: Plan, format: str) -> dict[str, Any]:
    """Describe all that decides what the outputs are."""
    config = {name: _as_plain(value) for name, value in mapper.config.items()}
    described = {
        "mapper": type(mapper).__name__, **config, "format": format,
        "images_per_shard": plan.rows, "input": plan.fingerprint(),
    }  # fmt: skip
    return dict(json.loads(json.dumps(described, default=str)))


def _as_plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)) if callable(value) else value


def _resume(
    manifest: Manifest,
    run: Mapping[str, Any],
    plan: Plan,
    overwrite: bool,
    retry_failed: bool,
    verify: bool,
) -> dict[int, Finished]:
    """Return the finished shards that stay, and put them into one file.

    Raises:
        InputError: a folder with a job of other settings or of another input.
    """
    before = None if overwrite else manifest.load_run()
    if before is None:
        return {}
    before.pop("token", None)
    differ = [name for name in (*run, *(before.keys() - run)) if run.get(name) != before.get(name)]
    if differ:
        shown = "the input has other images" if differ == ["input"] else "; ".join(
            f"{name} was {_shorten(before.get(name))} and is {_shorten(run.get(name))}"
            for name in differ if name != "input"
        )  # fmt: skip
        raise InputError.of(
            "out",
            got=f"{manifest.store.root}, whose job was another one ({shown})",
            expected="none, or a job of the same settings and input",
            fix="Choose another folder, or overwrite this one, which does all of it again.",
        )
    finished = manifest.load()
    there = _find_whole(manifest.store, finished, plan, verify)
    kept = {
        shard: one
        for shard, one in finished.items()
        if shard in there and not (retry_failed and one.errors)
    }
    manifest.compact(kept)
    return kept


def _shorten(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _find_whole(
    store: Store, finished: Mapping[int, Finished], plan: Plan, verify: bool
) -> set[int]:
    """Return the shards whose output is there: of the right size, or of the right content."""
    if not verify:
        sizes = store.sizes("labels")
        # Of a file per image, nothing is listed: there may be millions.
        return {
            shard
            for shard, one in finished.items()
            if "." not in one.output or sizes.get(one.output.partition("/")[2]) == one.bytes
        }

    def check(one: Finished) -> bool:
        if plan.of_tars and "." not in one.output:
            return True  # nothing tells the names of the files
        failed = {id for id, _, _ in one.errors}
        rows = plan.table["id"].slice(one.shard * plan.rows, plan.rows).to_pylist()
        ids = [id for id in rows if id not in failed]
        return is_whole(store, one.output, one.sha256, ids)

    with ThreadPoolExecutor(_CHECKS) as pool:
        whole = pool.map(check, finished.values())
        return {shard for shard, fine in zip(finished, whole, strict=True) if fine}


def _require_shared(root: str, token: str) -> None:
    """Refuse a folder that is not the same one on every machine of the cluster."""
    for machine, found in run_everywhere(_read_token, root).items():
        if found != token:
            raise InputError.of(
                "out",
                got=f"{root}, which the machine {machine} does not see",
                expected="a folder that all machines share, or a URL such as s3://bucket/labels",
                fix="Mount it on each machine, or write to an object store.",
            )


def _read_token(root: str) -> str | None:
    """Return the token of the job that a machine finds in a folder."""
    try:
        run = Manifest(Store(root)).load_run()
    except (OSError, InputError):
        return None
    return None if run is None else run.get("token")


def _map(job: Job, todo: list[int], plan: Plan, workers: Workers, progress: bool | None) -> str:
    """Map the shards, and return why the job had to stop; "" if it did not."""
    total = None if plan.of_tars else sum(map(plan.count, todo))
    rows = map_units(ShardWorker, [job], {"shard": todo}, workers)
    failed, stopped = 0, ""
    with Progress(total, progress, logged=True) as bar, contextlib.closing(rows):
        # To the end in any case: a worker that had to stop gives its shards back at once.
        try:
            for row in rows:
                failed += int(row["errors"])
                stopped = stopped or str(row["stopped"])
                bar.update(f"{failed} failed" if failed else "", count=int(row["images"]))
        except ClusterError as error:
            return stopped or str(error)
    return stopped
