"""Jobs of a cluster without one: plans, stores, outputs, the manifest, and a worker by itself."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow
import pyarrow.parquet

from cluster_mappers import Threshold
from cluster_trees import label_plainly, make_images, read_labels
from lpprop import InputError, InputWarning
from lpprop.batch import Refine
from lpprop.cluster import engine
from lpprop.cluster.engine import map_images
from lpprop.cluster.manifest import Manifest
from lpprop.cluster.outputs import check_ids
from lpprop.cluster.plans import make_plan
from lpprop.cluster.samples import read_tar
from lpprop.cluster.stores import Store
from lpprop.cluster.worker import Job, ShardWorker


@pytest.fixture
def here(monkeypatch):
    """Work on the shards in this process, in place of a cluster."""

    def map_units(function, arguments, units, workers, **options):
        worker = function(*arguments)
        for shard in units["shard"]:
            yield {name: column[0] for name, column in worker({"shard": [shard]}).items()}

    monkeypatch.setattr(engine, "map_units", map_units)
    monkeypatch.setattr(engine, "connect", lambda workers: io.BytesIO())
    monkeypatch.setattr(engine, "count_workers", lambda workers, units: 1)
    monkeypatch.setattr(engine, "run_everywhere", lambda f, *given: {"here": f(*given)})


def run(source, out, mapper=None, **options):
    options = {"images_per_shard": 2, "progress": False} | options
    return map_images(mapper or Threshold(), str(source), str(out), **options)


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


# --------------------------------------------------------------------------- plans


def test_a_folder_gives_the_same_shards_each_time(tmp_path):
    make_images(tmp_path / "a", 3)
    make_images(tmp_path / "a" / "deep", 2)
    (tmp_path / "a" / ".hidden.png").touch()
    plan = make_plan(str(tmp_path / "a"), ["image"], ["image"], 2)
    assert plan.table["id"].to_pylist() == ["000", "001", "002", "deep/000", "deep/001"]
    assert (plan.shards, [plan.count(n) for n in range(3)]) == (3, [2, 2, 1])
    assert plan.fingerprint() == make_plan(str(tmp_path / "a"), ["image"], [], 2).fingerprint()
    make_images(tmp_path / "a", 4)
    assert plan.fingerprint() != make_plan(str(tmp_path / "a"), ["image"], [], 2).fingerprint()
    file = pyarrow.parquet.ParquetFile(io.BytesIO(plan.to_parquet()))
    assert file.read_row_group(2).to_pylist()[0]["id"] == "deep/001"


def test_manifests(tmp_path):
    columns = {"image": ["a.jpg", "/b.jpg", "s3://c/d.jpg"], "classes": ["cat|big dog"] * 3}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "m.parquet")
    lines = [f"{image},007{n},cat|big dog" for n, image in enumerate(columns["image"])]
    (tmp_path / "m.csv").write_text("\n".join(["image,id,classes", *lines]))
    for name in ("m.parquet", "m.csv"):
        plan = make_plan(str(tmp_path / name), ["image", "classes"], ["image", "classes"], 2)
        assert plan.table["image"].to_pylist() == [f"{tmp_path}/a.jpg", "/b.jpg", "s3://c/d.jpg"]
        assert plan.table["classes"].to_pylist() == [["cat", "big dog"]] * 3
    assert plan.table["id"].to_pylist() == ["0070", "0071", "0072"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path\na.jpg", "expected a column 'image' among them"),
        ("image,logits\na.jpg,1\na.jpg,2", "where a.jpg comes twice, expected one image per id"),
        ("image,logits", "without images"),
        ("image,logits\n,a", "whose row 1 has no image"),
        ("image,id\na.jpg", "which cannot be read"),
        ("image\na.jpg", "expected a column 'logits' among them"),
    ],
)
def test_manifests_that_are_refused(tmp_path, text, said):
    (tmp_path / "m.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        make_plan(str(tmp_path / "m.csv"), ["image", "logits"], ["image", "logits"], 2)


def test_sources_that_are_refused(tmp_path):
    with pytest.raises(InputError, match="which is no folder, manifest or tar"):
        make_plan(str(tmp_path / "absent"), ["image"], [], 2)
    make_images(tmp_path / "a", 2)
    (tmp_path / "logits").mkdir()
    np.save(tmp_path / "logits" / "000.npy", np.zeros((2, 3, 4)))
    with pytest.raises(InputError, match=r"logits: got nothing .* 1 of 2 images, the first 001"):
        make_plan(str(tmp_path / "a"), [], [], 2, {"logits": str(tmp_path / "logits")})


def test_tars(tmp_path):
    make_images(tmp_path, 2)
    pixels = (tmp_path / "000.png").read_bytes()
    file = io.BytesIO()
    np.save(file, np.ones((2, 3, 4), np.float32))
    members = {
        "x/a.png": pixels, "x/a.txt": b"cat\nbig dog\n", "x/a.logits.npy": file.getvalue(),
        "b.json": b'{"classes": ["sofa"], "other": 1}', "b.jpeg": pixels,
    }  # fmt: skip
    write_tar(tmp_path / "0.tar", members)
    a, b = read_tar(str(tmp_path / "0.tar"), ["image", "classes", "logits"])
    assert (a.id, b.id) == ("x/a", "b")
    loaded = a.load()
    assert (loaded["classes"], loaded["image"]) == (["cat", "big dog"], pixels)
    assert loaded["logits"].shape == (2, 3, 4)
    assert dict(b.item) == {"classes": ["sofa"], "image": pixels}


# --------------------------------------------------------------------------- stores


def test_urls_that_pyarrow_and_fsspec_know(tmp_path):
    pytest.importorskip("fsspec")
    for root in (f"file://{tmp_path}/a", "memory://bucket/a"):
        store = Store(root)
        store.write("b/c.txt", b"12")
        assert store.read("b/c.txt") == b"12"
        assert store.sizes("b") == {"c.txt": 2}
        store.remove("b/c.txt")
        store.remove("b/c.txt")
        assert store.sizes("b") == store.sizes("absent") == {}
        with pytest.raises(FileNotFoundError):
            store.read("b/c.txt")
    with pytest.raises(InputError, match="a URL that pyarrow or fsspec knows"):
        Store("nothing://a").read("b")


def test_a_job_between_urls(tmp_path, here):
    images = make_images(tmp_path / "images", 5)
    summary = run(f"file://{images}", f"file://{tmp_path}/out")
    assert (summary.images, summary.failed) == (5, 0)
    labels, _ = read_labels(tmp_path / "out")
    assert sorted(labels) == ["000", "001", "002", "003", "004"]


# --------------------------------------------------------------------------- jobs


@pytest.mark.parametrize("format", ["parquet", "webdataset", "files"])
def test_each_format_holds_what_a_loop_gives(tmp_path, here, format):
    images = make_images(tmp_path / "images", 5)
    (images / "bad.png").write_bytes(b"cut off")
    summary = run(images, tmp_path / "out", format=format)
    assert (summary.images, summary.failed, summary.stopped) == (6, 1, "")
    labels, errors = read_labels(tmp_path / "out")
    wanted = label_plainly(Threshold(), sorted(images.glob("*.png")))
    assert labels.keys() == wanted.keys()
    assert all(np.array_equal(labels[name], wanted[name]) for name in wanted)
    if format != "files":
        assert "cannot be read" in errors["bad"]
    table = (tmp_path / "out" / "errors.csv").read_text().splitlines()
    assert table[0] == "id,path,reason"
    assert table[1].startswith(f"bad,{images}/bad.png,")


def test_refine_takes_folders(tmp_path, here):
    images = make_images(tmp_path / "images", 3)
    (tmp_path / "logits").mkdir()
    rng = np.random.default_rng(1)
    for path in images.iterdir():
        logits = rng.standard_normal((4, 3, 4), dtype=np.float32)
        np.save(tmp_path / "logits" / f"{path.stem}.npy", logits)
    refine = Refine("bilinear")
    run(images, tmp_path / "out", refine, folders={"logits": str(tmp_path / "logits")})
    labels, _ = read_labels(tmp_path / "out")
    for path in images.iterdir():
        logits = np.load(tmp_path / "logits" / f"{path.stem}.npy")
        wanted = refine.process({"logits": logits, "image": path.read_bytes()})["labels"]
        assert np.array_equal(labels[path.stem], wanted)


def test_doubts_about_images_are_told_once_for_all(tmp_path, here):
    images = make_images(tmp_path / "images", 5)
    (tmp_path / "logits").mkdir()
    for path, classes in zip(sorted(images.iterdir()), (2, 1, 2, 1, 1), strict=True):
        logits = np.random.default_rng(1).random((classes, 3, 4), np.float32)
        np.save(tmp_path / "logits" / f"{path.stem}.npy", logits)
    folders = {"logits": str(tmp_path / "logits")}
    for _ in range(2):  # the same call again, with nothing left to do, tells it as well
        with pytest.warns(InputWarning) as told:
            run(images, tmp_path / "out", Refine("bilinear"), folders=folders)
        (only,) = told
        assert str(only.message).startswith("001 and 2 more: logits: got a single class")


def state(out):
    """When each output was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(out, "labels").rglob("*")}


def test_the_same_call_does_what_is_missing_and_nothing_else(tmp_path, here):
    images, out = make_images(tmp_path / "images", 7), tmp_path / "out"
    (images / "003.png").write_bytes(b"cut off")
    run(images, out)
    before = state(out)
    again = run(images, out)
    assert (again.images, again.skipped, again.failed_before) == (0, 7, 1)
    assert state(out) == before

    (out / "labels" / "000002.parquet").unlink()
    (out / "labels" / "000003.parquet").write_bytes(b"cut")
    again = run(images, out)
    assert (again.images, again.skipped) == (3, 4)
    changed = {name for name, time in state(out).items() if before[name] != time}
    assert changed == {"000002.parquet", "000003.parquet"}

    make_images(images, 4)  # the image is mended
    again = run(images, out, retry_failed=True)
    assert (again.images, again.failed, again.skipped) == (2, 0, 5)
    assert len(read_labels(out)[0]) == 7


@pytest.mark.parametrize("format", ["parquet", "files"])
def test_verify_finds_a_content_of_the_same_size(tmp_path, here, format):
    images, out = make_images(tmp_path / "images", 4), tmp_path / "out"
    run(images, out, format=format)
    path = sorted(path for path in (out / "labels").rglob("*") if path.is_file())[0]
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    assert run(images, out, format=format).images == 0
    again = run(images, out, format=format, verify=True)
    assert (again.images, again.skipped) == (2, 2)
    assert run(images, out, format=format, verify=True).images == 0


def test_another_job_is_refused(tmp_path, here):
    images, out = make_images(tmp_path / "images", 4), tmp_path / "out"
    run(images, out)
    with pytest.raises(InputError, match=r"seconds was 0\.0 and is 0\.001"):
        run(images, out, Threshold(0.001))
    with pytest.raises(InputError, match="images_per_shard was 2 and is 3"):
        run(images, out, images_per_shard=3)
    make_images(images, 5)
    with pytest.raises(InputError, match="the input has other images"):
        run(images, out)
    assert run(images, out, overwrite=True).images == 5
    (out / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"whose run\.json is damaged"):
        run(images, out)


def test_a_damaged_record_means_that_its_shard_is_done_again(tmp_path, here):
    images, out = make_images(tmp_path / "images", 4), tmp_path / "out"
    run(images, out)
    lines = (out / "finished.jsonl").read_text().splitlines()
    (out / "finished.jsonl").write_text(f"{lines[0]}\n{lines[1][:30]}")
    assert run(images, out).images == 2
    assert len(read_labels(out)[0]) == 4


def test_a_tar_that_is_cut_off_costs_what_is_behind(tmp_path, here):
    images = make_images(tmp_path / "images", 4)
    members = {f"{path.stem}.png": path.read_bytes() for path in sorted(images.iterdir())}
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars" / "a.tar", members)
    write_tar(tmp_path / "tars" / "b.tar", {f"b{name}": x for name, x in members.items()})
    whole = (tmp_path / "tars" / "b.tar").read_bytes()
    (tmp_path / "tars" / "b.tar").write_bytes(whole[:2500])
    summary = run(tmp_path / "tars", tmp_path / "out")
    labels, errors = read_labels(tmp_path / "out")
    assert {"000", "001", "002", "003", "b000"} <= labels.keys()
    assert "cannot be read to its end" in errors["b"]
    assert summary.failed == 1


def test_a_full_disk_ends_the_job_and_the_same_call_continues(tmp_path, here, monkeypatch):
    images, out = make_images(tmp_path / "images", 6), tmp_path / "out"
    write = Store.write

    def fail(self, name, content):
        if name == "labels/000001.parquet":
            raise OSError(28, "No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Store, "write", fail)
    summary = run(images, out)
    assert (summary.images, summary.stopped) == (2, "OSError: [Errno 28] No space left on device")
    monkeypatch.setattr(Store, "write", write)
    assert run(images, out).images == 4
    assert len(read_labels(out)[0]) == 6


def test_a_machine_that_does_not_see_the_folder(tmp_path, here, monkeypatch):
    monkeypatch.setattr(engine, "run_everywhere", lambda *_: {"one": None})
    with pytest.raises(InputError, match="which the machine one does not see"):
        run(make_images(tmp_path / "images", 2), tmp_path / "out")


def test_options_that_are_refused(tmp_path):
    images = make_images(tmp_path / "images", 2)
    for options, said in (
        ({"format": "zip"}, "format: got 'zip'"),
        ({"images_per_shard": 0}, "images_per_shard: got 0"),
        ({"workers": 0}, "workers: got 0"),
        ({"gpus_per_worker": -1}, "gpus_per_worker: got -1"),
        ({"address": "ray://a:1"}, "the address of the cluster itself"),
        ({"mapper": Refine("bilinear", outputs=["scores"])}, "mapper: got one whose outputs"),
    ):
        with pytest.raises(InputError, match=said):
            run(images, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not a folder"):
        run(images, tmp_path / "file")


def test_names_that_cannot_be_those_of_files():
    check_ids(["a/b.c", "..", "/x"], "parquet")
    check_ids(["a/b.c", "a"], "files")
    for format, name in (
        ("files", "../a"), ("files", "/a"), ("files", "a//b"), ("files", ""), ("files", "a/.."),
        ("webdataset", "a.b"), ("webdataset", "a/b.c"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="names that can be those of files"):
            check_ids([name], format)


# --------------------------------------------------------------------------- workers that die


def test_an_image_at_which_workers_die_is_an_error(tmp_path, monkeypatch):
    """Each attempt is a process of its own, as those that Ray starts."""
    images, out = make_images(tmp_path / "images", 4), tmp_path / "out"
    fatal = (images / "002.png").read_bytes()
    store = Store(str(out))
    store.write("plan.parquet", make_plan(str(images), ["image"], [], 4).to_parquet())
    codes = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            ShardWorker(Job(Threshold(fatal=fatal), str(out), "parquet", "run"))({"shard": [0]})
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert codes == [7, 7, 7, 0]
    labels, errors = read_labels(out)
    assert sorted(labels) == ["000", "001", "003"]
    assert errors == {"002": "2 worker processes died while they worked on it"}
    assert list((out / "attempts").iterdir()) == []


def test_attempts_of_another_run_count_for_nothing(tmp_path):
    manifest = Manifest(Store(str(tmp_path)))
    for _ in range(3):
        attempt = manifest.attempt(0, "first")
        attempt.at = "a"
        manifest.note(0, attempt)
    assert (attempt.number, attempt.deaths) == (3, {"a": 1})
    again = manifest.attempt(0, "second")
    assert (again.number, again.deaths) == (1, {})
    (tmp_path / "attempts" / "000000.json").write_text("{")
    assert manifest.attempt(0, "second").number == 1


def test_workers_that_die_before_their_first_image_end_the_job(tmp_path):
    manifest = Manifest(Store(str(tmp_path)))
    for _ in range(4):
        manifest.attempt(0, "run")
    worker = ShardWorker(Job(Threshold(), str(tmp_path), "parquet", "run"))
    (stopped,) = worker({"shard": [0]})["stopped"]
    assert "died before their first image" in stopped
