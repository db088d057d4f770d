"""Images for the tests of clusters, and what a job has written of them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image


def make_images(folder, count, size=(12, 16)):
    """Write images of noise, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
    return folder


def read_labels(out):
    """Return the labels of a job by id, and the errors; fail if an image is there twice."""
    labels, errors = {}, {}
    for path in sorted(Path(out, "labels").rglob("*")):
        if path.suffix == ".parquet":
            rows = pyarrow.parquet.read_table(path).to_pylist()
        elif path.suffix == ".tar":
            rows = read_tar(path)
        elif path.suffix == ".png":
            name = path.relative_to(Path(out, "labels")).as_posix().partition("/")[2]
            rows = [{"id": name[:-4], "labels": path.read_bytes(), "error": ""}]
        else:
            continue
        for row in rows:
            assert row["id"] not in labels | errors, row["id"]
            if row["error"]:
                errors[row["id"]] = row["error"]
            else:
                labels[row["id"]] = np.asarray(Image.open(io.BytesIO(row["labels"])))
    return labels, errors


def read_tar(path):
    rows = {}
    with tarfile.open(path) as tar:
        for member in tar:
            key, _, kind = member.name.rpartition(".")
            content = tar.extractfile(member).read()
            row = rows.setdefault(key, {"id": key})
            row |= json.loads(content) if kind == "json" else {"labels": content}
    return list(rows.values())


def label_plainly(mapper, paths):
    """Return what a plain loop gives, by id."""
    done = {path.stem: mapper.process({"image": path.read_bytes()}) for path in paths}
    return {name: one["labels"] for name, one in done.items() if not one["error"]}
