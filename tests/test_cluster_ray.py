"""Jobs on a real cluster of Ray with two machines, and what may befall them: `make cluster`.

Each fault prints how long it took until the shard that it hit was finished by another worker.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

import lpprop
from cluster_mappers import Threshold
from cluster_trees import label_plainly, make_images, read_labels
from lpprop import InputError
from lpprop.cluster import RayPool, map_images, ray_data
from lpprop.cluster.ray_data import Workers, connect, run_everywhere
from test_cluster_jobs import state, write_tar

pytestmark = [
    pytest.mark.cluster,
    # Ray leaves sockets and subprocesses to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


class Machines:
    """A cluster of two machines with one CPU each, of which the second may be lost."""

    def __init__(self):
        head = {**MACHINE, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        # While there is no other: a driver dies with the machine that it is connected to.
        ray.init(address=self.address, log_to_driver=False, logging_level="CRITICAL")
        self.second = None
        self.restore()

    def restore(self):
        if self.second is None:
            self.second = self.cluster.add_node(**MACHINE)
            self.cluster.wait_for_nodes()

    def lose(self):
        self.cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def machines():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # mappers are in this folder
        machines = Machines()
        yield machines
        ray.shutdown()
        machines.cluster.shutdown()


def run(machines, source, out, mapper, **options):
    machines.restore()
    given = {"images_per_shard": 4, "progress": False, "workers": 2, "address": machines.address}
    return map_images(mapper, str(source), str(out), **given | options)


class Watch(threading.Thread):
    """Look at a job from beside it: do something once, and note when its shards are finished."""

    def __init__(self, out, after, act):
        super().__init__(daemon=True)
        self.out, self.after = Path(out), after
        self.act = threading.Thread(target=act, daemon=True)  # which may take seconds
        self.at, self.again, self.finished, self.ended = None, {}, {}, False
        self.start()

    def run(self):
        while not self.ended:
            for path in (*self.out.glob("finished/*.json"), *self.out.glob("attempts/*.json")):
                with contextlib.suppress(OSError):
                    if path.parent.name == "finished":
                        self.finished.setdefault(path.name, time.monotonic())
                    elif '"number": 1,' not in path.read_text():
                        self.again.setdefault(path.name, time.monotonic())
            begun = len(list(self.out.glob("attempts/*.json"))) == 2  # both are at work
            if self.at is None and begun and len(self.finished) >= self.after:
                self.at = time.monotonic()
                self.act.start()
            time.sleep(0.05)

    def recovery(self):
        """Seconds from the fault until a shard that it hit was begun again, and was finished."""
        self.ended, now = True, time.monotonic()
        self.join()
        self.act.join()
        began = min(self.again.values()) - self.at
        # The record of the last shard may be put away before it is seen.
        return began, max(self.finished.get(name, now) for name in self.again) - self.at


def say(capsys, fault, text):
    with capsys.disabled():
        print(f"\n  {fault}: {text}", flush=True)


def check(out, images, mapper):
    """Every image is there once, with the labels of a plain loop."""
    labels, errors = read_labels(out)
    assert errors == {}
    wanted = label_plainly(mapper, sorted(images.glob("*.png")))
    assert labels.keys() == wanted.keys()
    assert all(np.array_equal(labels[name], wanted[name]) for name in wanted)


def kill_a_worker(diary, out):
    """Kill a worker that has a shard in work: of the processes in the diary, a live one."""
    for path in sorted(diary.iterdir()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(path.name), signal.SIGKILL)
            return


# --------------------------------------------------------------------------- results


def test_segment_gives_the_bits_of_a_plain_loop(machines, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    images = make_images(tmp_path / "images", 10, (40, 56))
    segment = lpprop.batch.Segment(["cat", "dog", "sofa"], "offline")
    summary = run(machines, images, tmp_path / "out", segment)
    assert (summary.images, summary.failed) == (10, 0)
    check(tmp_path / "out", images, segment)


def test_refine_gives_the_bits_of_a_plain_loop(machines, tmp_path):
    images = make_images(tmp_path / "images", 8, (64, 80))
    rng = np.random.default_rng(1)
    inputs = {"logits": (6, 8, 10), "feats": (16, 8, 10)}
    for name, shape in inputs.items():
        (tmp_path / name).mkdir()
        for path in images.iterdir():
            array = rng.standard_normal(shape, dtype=np.float32)
            np.save(tmp_path / name / f"{path.stem}.npy", array)
    refine = lpprop.batch.Refine("lposs+", k=20, patch_size=8)
    folders = {name: str(tmp_path / name) for name in inputs}
    run(machines, images, tmp_path / "out", refine, folders=folders)
    labels, errors = read_labels(tmp_path / "out")
    assert errors == {}
    for path in images.iterdir():
        arrays = {name: np.load(tmp_path / name / f"{path.stem}.npy") for name in inputs}
        wanted = refine.process({**arrays, "image": path.read_bytes()})["labels"]
        assert np.array_equal(labels[path.stem], wanted)


def test_prompts_of_each_image_in_tars(machines, tmp_path):
    pytest.importorskip("efficientnet_lite_pytorch")
    images = sorted(make_images(tmp_path / "images", 4, (40, 56)).iterdir())
    prompts = [["cat", "dog"], ["sofa", "cat", "cup"], ["dog", "car"], ["car", "cat"]]
    for number in range(2):
        members = {}
        for path, classes in list(zip(images, prompts, strict=True))[number::2]:
            members[f"{path.stem}.png"] = path.read_bytes()
            members[f"{path.stem}.txt"] = "\n".join(classes).encode()
        write_tar(tmp_path / f"{number}.tar", members)
    (tmp_path / "tars").mkdir()
    for number in range(2):
        (tmp_path / f"{number}.tar").rename(tmp_path / "tars" / f"{number}.tar")
    segment = lpprop.batch.Segment(None, "offline")
    run(machines, tmp_path / "tars", tmp_path / "out", segment)
    labels, _ = read_labels(tmp_path / "out")
    for path, classes in zip(images, prompts, strict=True):
        item = {"image": path.read_bytes(), "classes": classes}
        assert np.array_equal(labels[path.stem], segment.process(item)["labels"])


def test_images_of_4k_and_a_small_object_store(machines, tmp_path):
    """Pixels and labels do not go through the store, of which 80 MB would hold three images."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        small = Image.fromarray(rng.integers(0, 256, (27, 48, 3), dtype=np.uint8))
        small.resize((3840, 2160), Image.Resampling.BICUBIC).save(images / f"{number}.png")
    summary = run(machines, images, tmp_path / "out", Threshold(), images_per_shard=3)
    assert (summary.images, summary.failed) == (6, 0)
    check(tmp_path / "out", images, Threshold())


def test_evaluation_gives_the_serial_report(machines, tmp_path):
    machines.restore()
    dataset, predictors = evaluation()
    serial = lpprop.evaluation.evaluate(dataset, predictors, tmp_path / "a", progress=False)
    pool = RayPool(2, address=machines.address)
    spread = lpprop.evaluation.evaluate(
        dataset, predictors, tmp_path / "b", progress=False, pool=pool
    )
    for name in predictors:
        assert np.array_equal(spread[name].metrics.confusion, serial[name].metrics.confusion)
        assert spread[name].metrics.miou == serial[name].metrics.miou


def evaluation():
    from cluster_evaluation import Noise, Shifted

    return Noise(6), {"shifted by 1": Shifted(1), "shifted by 2": Shifted(2)}


# --------------------------------------------------------------------------- faults


def test_a_worker_is_killed(machines, tmp_path, capsys):
    images = make_images(tmp_path / "images", 48)
    (diary := tmp_path / "diary").mkdir()
    mapper = Threshold(0.1, str(diary))
    watch = Watch(tmp_path / "out", 2, lambda: kill_a_worker(diary, tmp_path / "out"))
    summary = run(machines, images, tmp_path / "out", mapper)
    assert (summary.images, summary.failed, summary.stopped) == (48, 0, "")
    check(tmp_path / "out", images, Threshold())
    assert len(list(diary.iterdir())) == 3
    began, finished = watch.recovery()
    say(
        capsys, "worker killed", f"its shard begun again after {began:.1f} s, done {finished:.1f} s"
    )


def test_a_machine_is_lost(machines, tmp_path, capsys):
    images = make_images(tmp_path / "images", 64)
    mapper = Threshold(0.6)
    watch = Watch(tmp_path / "out", 3, machines.lose)
    summary = run(machines, images, tmp_path / "out", mapper)
    assert (summary.images, summary.failed, summary.stopped) == (64, 0, "")
    check(tmp_path / "out", images, Threshold())
    began, finished = watch.recovery()
    say(capsys, "machine lost", f"its shard begun again after {began:.1f} s, done {finished:.1f} s")


def test_an_image_that_kills_its_worker(machines, tmp_path, capsys):
    images = make_images(tmp_path / "images", 12)
    fatal = (images / "005.png").read_bytes()
    summary = run(machines, images, tmp_path / "out", Threshold(0.01, fatal=fatal))
    assert (summary.images, summary.failed, summary.stopped) == (12, 1, "")
    labels, errors = read_labels(tmp_path / "out")
    assert len(labels) == 11
    assert errors == {"005": "2 worker processes died while they worked on it"}
    say(capsys, "image that kills", f"the job of 12 images took {summary.seconds:.1f} s")


DRIVER = """
import sys
from cluster_mappers import Threshold
from lpprop.cluster import map_images

source, out, address = sys.argv[1:]
done = map_images(Threshold(0.1), source, out, images_per_shard=4, workers=2, address=address,
                  progress=False)
print(done.images, done.skipped, done.failed, done.stopped)
"""


def test_the_driver_is_killed(machines, tmp_path, capsys):
    machines.restore()
    images, out = make_images(tmp_path / "images", 48), tmp_path / "out"
    script = [sys.executable, "-c", DRIVER, str(images), str(out), machines.address]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    first = subprocess.Popen(script, env=environment, stderr=subprocess.DEVNULL)
    while len(list(out.glob("finished/*.json"))) < 3:
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    time.sleep(2)  # until Ray has ended the workers of a driver that is gone
    before, start = state(out), time.monotonic()
    assert 3 <= len(before) < 12
    again = subprocess.run(
        script, env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    made, skipped, failed = map(int, again.stdout.split()[:3])
    assert (made + skipped, skipped, failed) == (48, 4 * len(before), 0)
    assert {name: time for name, time in state(out).items() if name in before} == before
    check(out, images, Threshold())
    took = time.monotonic() - start
    say(capsys, "driver killed", f"{skipped} of 48 kept; the same command took {took:.1f} s")


@pytest.fixture
def disk(tmp_path):
    """A disk of 64 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def remount(disk, options):
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


def test_a_disk_that_fills_up(machines, tmp_path, disk, capsys):
    images = make_images(tmp_path / "images", 40, (32, 32))
    first = run(machines, images, disk / "out", Threshold(0.02))
    assert "No space left on device" in first.stopped
    assert first.images < 40
    assert [path for path in disk.rglob("*") if path.suffix == ".tmp"] == []
    remount(disk, "size=16m")
    again = run(machines, images, disk / "out", Threshold(0.02))
    assert (again.images + again.skipped, again.skipped, again.stopped) == (40, first.images, "")
    check(disk / "out", images, Threshold())
    say(
        capsys, "disk full",
        f"ended with {first.images} of 40 finished; the rest took {again.seconds:.1f} s",
    )  # fmt: skip


def test_a_permission_that_vanishes(machines, tmp_path, capsys):
    """The folder becomes immutable, which binds root too."""
    images, out = make_images(tmp_path / "images", 40), tmp_path / "out"
    if subprocess.run(["chattr", "+i", tmp_path], capture_output=True, check=False).returncode:
        pytest.skip("no folder can be made immutable here")
    subprocess.run(["chattr", "-i", tmp_path], check=True)
    Watch(out, 2, lambda: subprocess.run(["chattr", "+i", out / "labels"], check=True))
    try:
        first = run(machines, images, out, Threshold(0.1))
    finally:
        subprocess.run(["chattr", "-i", out / "labels"], check=False)
    assert "PermissionError" in first.stopped
    assert 8 <= first.images < 40
    again = run(machines, images, out, Threshold(0.1))
    assert (again.images + again.skipped, again.skipped, again.stopped) == (40, first.images, "")
    check(out, images, Threshold())
    say(
        capsys, "permission lost",
        f"ended with {first.images} of 40 finished; the rest took {again.seconds:.1f} s",
    )  # fmt: skip


# --------------------------------------------------------------------------- refused at once


def answer():
    return 1


def fail():
    raise ModuleNotFoundError("No module named 'lpprop.cluster'")


def test_machines_that_cannot_be_asked(machines, monkeypatch):
    """One that is lost is left out; one without the package is named."""
    machines.restore()
    with connect(Workers(machines.address)):
        nodes = ray.nodes()
        gone = {**nodes[0], "NodeID": "ab" * 28, "NodeManagerHostname": "gone", "Alive": True}
        monkeypatch.setattr(ray, "nodes", lambda: [*nodes, gone])
        found = run_everywhere(answer)
        assert len(found) == sum(node["Alive"] for node in nodes)
        assert not any(name.startswith("gone") for name in found)
        with pytest.raises(InputError, match=r"cannot do the work \(Module.*lpprop\.cluster'\)"):
            run_everywhere(fail)


def test_more_workers_than_fit(machines, tmp_path):
    images = make_images(tmp_path / "images", 8)
    with pytest.raises(
        InputError, match="workers: got 3 workers of one CPU, expected at most the 2"
    ):
        run(machines, images, tmp_path / "out", Threshold(), workers=3)
    with pytest.raises(InputError, match="and 1 GPUs, expected at most the 0"):
        run(machines, images, tmp_path / "out", Threshold(), gpus_per_worker=1)


def test_addresses_without_a_cluster(tmp_path, monkeypatch):
    import socket

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_data, "_HEALTH", 5)
    images = make_images(tmp_path / "images", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        for listens in (False, True):
            if listens:
                silent.listen()
            with pytest.raises(InputError, match="where no cluster answers"):
                map_images(
                    Threshold(), str(images), str(tmp_path / "out"), address=f"127.0.0.1:{port}"
                )
    with pytest.raises(InputError, match="expected HOST:PORT"):
        map_images(Threshold(), str(images), str(tmp_path / "out"), address="head")
