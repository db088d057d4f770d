"""The command for a machine with a GPU, on one without: what it counts, pairs and writes."""

import json
import sys
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import fake_device

pytest.importorskip("jsonschema", reason="results are checked by jsonschema")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import contract, gpu, random_field, speed
from benchmarks.cuda import outcome, profile, report, steps, sweep, timing
from benchmarks.work import Competitor, Work

GREEN = outcome.Outcome(12, 3, [], 4.2)


def work(device, name="pixel step", values=1.0, **sizes):
    """One that takes no time, with the competitors that such works have."""
    names = ["lpprop, triton", "lpprop, torch", "SciPy, CSR", "DenseCRF", "PAMR"]
    names = names if device == "cuda" else ["lpprop, llvm", *names[1:]]
    runs = [Competitor(x, "note", lambda: np.full(3, values), limit=5) for x in names]
    return Work(name, {"H": 4} | sizes, 1e-3, runs)


@pytest.fixture(scope="module")
def result():
    """Invented times: nothing here has a GPU to take them on."""
    paired = partial(gpu.beside_cpu, partial(work, "cuda"), partial(work, "cpu"), C=2)
    measured = contract.measure(paired, repeats=0) | {"device": "cuda"}
    for competitor, seconds in zip(measured["competitors"], (0.002, 0.03, 0.1, 0.5), strict=True):
        competitor["seconds"] = contract.summary([seconds])
        competitor["ratio"] = contract.summary([seconds / 0.002])
    return contract.document("gpu", [measured], quick=True, packages=report.PACKAGES)


def test_without_cuda_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "finds no CUDA device" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_without_pytest_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert gpu.main(["--device", "fake"]) == 1
    assert "pip install pytest hypothesis jsonschema" in capsys.readouterr().err


def test_the_tests_run_on_the_device_that_is_named(monkeypatch):
    """For real, on the device that is here; what is skipped is for a CPU."""
    (contract,) = (x for x in outcome.list_files() if x.name == "test_contract.py")
    monkeypatch.setattr(outcome, "list_files", lambda: [contract])
    found = gpu.run_tests(
        "fake", "-k", "test_shape_and_dtype and (pamr or pixels-llvm) and float32"
    )
    assert (found.passed, found.skipped, list(found.failed)) == (2, 1, [])
    assert found.seconds > 0


def test_what_fails_is_named():
    results = ElementTree.fromstring("""
        <testsuites><testsuite time="1.5">
          <testcase classname="tests.test_a" name="test_good"/>
          <testcase classname="tests.test_a" name="test_bad[x]">
            <failure message="AssertionError: 1 != 2&#10;more">text</failure></testcase>
          <testcase classname="tests.test_b" name="test_broken">
            <error message="no module"/></testcase>
          <testcase classname="tests.test_b" name="test_left"><skipped message="no"/></testcase>
        </testsuite></testsuites>""")
    found = outcome.counted(results)
    assert (found.passed, found.skipped, found.seconds) == (1, 1, 1.5)
    assert found.promises == {
        "test_a::test_good": [1, 0, 0],
        "test_a::test_bad": [0, 1, 0],
        "test_b::test_broken": [0, 1, 0],
        "test_b::test_left": [0, 0, 1],
    }
    assert list(found.failed) == [
        "test_a::test_bad[x]: AssertionError: 1 != 2",
        "test_b::test_broken: no module",
    ]


def test_the_cpu_is_a_competitor_more():
    paired = gpu.beside_cpu(partial(work, "cuda"), partial(work, "cpu"), W=7)
    assert [c.name for c in paired.competitors] == [
        "lpprop, triton", "lpprop, torch", "PAMR", report.ON_CPU,
    ]  # fmt: skip
    host = paired.competitors[-1]
    assert (host.note, host.device, host.limit) == ("lpprop, llvm: note", "cpu", None)
    assert paired.sizes == {"H": 4, "W": 7}


def test_every_work_has_its_twin_on_the_cpu():
    works = gpu.planned("cuda", 3)
    assert len(works) == len(speed.plans("cuda", 3)) + 1
    for plan, planned in zip(gpu.paired_plans(3), works, strict=True):
        on_gpu, on_cpu = plan.step.args
        assert on_gpu.func is on_cpu.func
        assert (on_gpu.args[0], on_cpu.args[0]) == ("cuda", "cpu")
        assert on_gpu.args[1:] == on_cpu.args[1:]
        assert (plan.full, plan.tiny, plan.memory) == (planned.full, planned.tiny, planned.memory)


def test_a_work_that_fails_leaves_the_others(monkeypatch):
    monkeypatch.setattr(contract, "time_call", lambda run, device: (run(), 1.0))
    other = partial(work, "cpu", values=2.0)  # which another device would not agree with
    works, problems = gpu.measured(
        [
            speed.Plan(partial(gpu.beside_cpu, partial(work, "cuda"), host), [], {}, 0)
            for host in (other, partial(work, "cpu"))
        ],
        quick=True,
    )
    assert [x["name"] for x in works] == ["pixel step"]
    (problem,) = problems
    assert problem.startswith("work: DisagreementError: pixel step: lpprop, on the CPU")


def test_the_report_holds_all_of_it(result):
    failed = outcome.Outcome(
        1, 0, ["test_a::test_b: AssertionError"], 0.4, {"test_a::test_b": [1, 1, 0]}
    )
    problems = ["patch_step: OutOfMemoryError: 3 GiB"]
    text = report.report("fake", failed, result, problems, {"Steps": "a table"})
    for line in (
        "| device | the suite's fake device |",
        f"| torch | {version('torch')} |",
        "1 passed, 1 failed, 0 skipped in 0 s.",
        "- test_a::test_b: AssertionError",
        "| test_a::test_b | 1 | 1 | 0 |",
        "## Steps\n\na table",
        "- patch_step: OutOfMemoryError: 3 GiB",
        "| pixel step (H 4, C 2) | 2 | 15 | 250 |",
        "| lpprop, on the CPU: lpprop, llvm: note | 500 (500–500) | 250 (250–250) |",
    ):
        assert line in text, text
    assert "Nothing was measured" in report.report("fake", GREEN, None, [])
    assert "## Beside others\n\nx is left out.\n\n" in report.report(
        "fake", GREEN, None, [], notes=["x is left out."]
    )


def test_it_writes_both_files(monkeypatch, tmp_path, capsys, result):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA Invented 9")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(gpu, "run_tests", lambda device, *_: GREEN)
    monkeypatch.setattr(gpu, "measure_steps", lambda quick: gpu.Steps({"Steps": "x"}, []))
    monkeypatch.setattr(gpu, "measured", lambda plans, quick: (result["works"], []))
    assert gpu.main(["--quick", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "gpu.md")
    text, saved = ((tmp_path / name).read_text() for name in ("gpu.md", "gpu.json"))
    assert "| device | NVIDIA Invented 9 |\n| compute capability | 9.0 |" in text
    contract.validate(json.loads(saved))
    assert json.loads(saved)["versions"]["cuda"] == "12.8"

    monkeypatch.setattr(
        gpu, "measured", lambda plans, quick: ([], ["pixel_step: RuntimeError: no"])
    )
    assert gpu.main(["--quick", "--out", str(tmp_path)]) == 1


# --------------------------------------------------------------------------- the local CRF


class ExactFilter:
    """MONAI's filter by all pairs, normalised by rows; its lattice is near that."""

    @staticmethod
    def apply(x, features):
        assert x.shape[1] <= 16, "more channels than MONAI takes on a GPU"
        points = features[0].flatten(1).T
        kernel = (-(points[:, None] - points).square().sum(-1) / 2).exp()
        return (x.flatten(2) @ (kernel / kernel.sum(1, keepdim=True)).T).view_as(x)


@pytest.mark.parametrize("there", [False, True])
def test_the_permutohedral_crf_is_there_where_monai_is(monkeypatch, there):
    monkeypatch.setattr(random_field, "MONAI", there)
    names = [x.name for x in random_field.random_field("cpu", H=8, W=9, C=2).competitors]
    assert ("permutohedral CRF" in names) == there
    assert names[:2] == ["lpprop, llvm", "lpprop, torch"]


def test_the_permutohedral_crf_is_the_mean_field(monkeypatch):
    """Against a loop in float64 over the equations of DenseCRF, for more classes than a group."""
    monkeypatch.setitem(
        sys.modules, "monai.networks.layers", SimpleNamespace(PHLFilter=ExactFilter)
    )
    monkeypatch.setitem(sys.modules, "monai.networks", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "monai", SimpleNamespace())
    rng = np.random.default_rng(0)
    image, P = rng.random((3, 5, 4)), rng.dirichlet(np.ones(18), 20).T
    found = random_field.lattice_crf(*(torch.tensor(x)[None] for x in (P.reshape(18, 5, 4), image)))

    place = np.indices((5, 4)).reshape(2, -1).T
    far = ((place[:, None] - place) ** 2).sum(-1)
    colours = 255 * image.reshape(3, -1).T
    unlike = ((colours[:, None] - colours) ** 2).sum(-1)
    kernels = [np.exp(-far / (2 * 80**2) - unlike / (2 * 13**2)), np.exp(-far / (2 * 3**2))]
    Q = P
    for _ in range(5):
        energy = np.log(P)
        for weight, k in zip((10, 3), kernels, strict=True):
            energy = energy + weight * Q @ (k / k.sum(1, keepdims=True)).T
        Q = np.exp(energy) / np.exp(energy).sum(0)
    np.testing.assert_allclose(found[0].flatten(1), Q, rtol=1e-12)


# --------------------------------------------------------------------------- the steps


def test_all_of_it_is_rehearsed_without_a_gpu(monkeypatch, tmp_path, capfd):
    """Every step, in float32, bfloat16 and a batch, is timed, profiled and written."""
    if why := fake_device.why_not():
        pytest.skip(why)
    monkeypatch.setattr(gpu, "run_tests", lambda device, *_: GREEN)
    assert gpu.main(["--device", "fake", "--out", str(tmp_path)]) == 0
    text = (tmp_path / "gpu.md").read_text()
    for step in steps.STEPS:
        aim = "" if step.aim is None else f"{step.aim:g}"
        assert f"| {step.name} | – | {aim} |  |" in text
        assert f"| {step.name} | aten::" in text or f"| {step.name} | Python" in text
    assert "not measured" in text


def test_the_aims():
    assert {step.name: step.aim for step in steps.STEPS if step.aim} == {
        "pixel step": 2,
        "patch step, windows": 1.5,
        'refine("lposs+"), windows': 5,
        "optimal path": 2,
        "maximum velocity": 2,
        "upsampling": 0.3,
        "region vote": 0.2,
        "local CRF": 5,
    }


def flops_by_torch(run):
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_the_path_needs_its_products():
    """Torch counts the same products, and a few more that are not needed."""
    run, need = steps.optimal_path(steps.Setting("cpu", steps.TINY | {"C": 5, "side": 16}))
    assert need.flops <= flops_by_torch(run) <= 1.5 * need.flops


def test_the_patch_step_needs_its_similarities():
    """At the published size: 2,940 patches of 768 features, and ten products with the graph."""
    need = steps.need_of_patches(2940, 21, 768)
    assert need.flops == 2 * 768 * 2940**2 + 10 * 2 * 21 * 2940**2
    assert 13 * 4 * 2940**2 < need.bytes < 14 * 4 * 2940**2


def test_the_pixel_step_needs_its_neighbours():
    """At the published size: ten products with 168 neighbours of each pixel, for 21 classes."""
    need = steps.need_of_pixels(448 * 597, 21, 13)
    products = 10 * 2 * 168 * 448 * 597 * 21
    assert products < need.flops < 1.1 * products
    weights = 4 * 84 * 448 * 597
    assert 12 * weights < need.bytes < 12 * weights + 11 * 10 * 4 * 448 * 597 * 21


CEILINGS = timing.Ceilings(bandwidth=1e12, flops=1e13)


def test_the_roofline_is_the_higher_of_both():
    memory, arithmetic = steps.Need(2e9, 1e10), steps.Need(1e9, 1e11)
    assert (CEILINGS.least(memory), CEILINGS.bound(memory)) == (2e-3, "memory")
    assert (CEILINGS.least(arithmetic), CEILINGS.bound(arithmetic)) == (1e-2, "arithmetic")


def test_steps_are_judged_by_their_aims():
    need = steps.Need(2e9, 1e10)
    rows = [
        timing.Timed(
            steps.Step(name, aim, steps.pixel_step), need, [0.004] * 3, [0.005] * 3, batches
        )
        for name, aim, batches in (("a", 5.0, {1: [0.004], 8: [0.016], 64: ()}), ("b", 3.0, {}))
    ]
    text = timing.section(rows, CEILINGS)
    assert "| a | 4 (4–4) | 5 | met | 2,000 | 10 | 2 | 50% | memory | 5 (5–5) |" in text
    assert "| b | 4 (4–4) | 3 | missed |" in text
    assert "| a | 4 | 2 | – |" in text
    assert "1 TB/s" in text
    assert "10 TFLOP/s" in text


def test_a_step_that_fails_leaves_the_others():
    def build(setting):
        if setting.batch == 8:
            raise torch.OutOfMemoryError("3 GiB\nmore")
        return (lambda: torch.zeros(1)), steps.Need(1, 1)

    def broken(setting):
        raise RuntimeError("no")

    planned = [steps.Step("x", 1, broken), steps.Step("y", 1, build, batched=True)]
    timed, problems = timing.time_steps(
        planned, "cpu", {}, batches=(1, 8, 16), clock=lambda run: [1.0]
    )
    assert [row.step.name for row in timed] == ["y"]
    assert timed[0].batches == {1: [1.0], 8: (), 16: [1.0]}
    assert problems == [
        "x, one image: RuntimeError: no",
        "y, a batch of 8: OutOfMemoryError: 3 GiB",
    ]


def test_a_profile_names_where_the_time_goes():
    kernels = [(f"k{i}", (7 - i) * 1e-4, 2) for i in range(7)]
    text = profile.section([profile.Profile("s", kernels, 4e-3)])
    assert "| s | k0 | 2 | 18% |" in text
    assert "k5" not in text
    assert "| s | all other kernels |  | 8% |" in text
    assert "| s | no kernel runs |  | 30% |" in text


def test_the_sweep_keeps_what_wins():
    """Each field by itself; what is refused is passed over, and less than 2 % is noise."""

    @dataclass(frozen=True)
    class Choice:
        a: int = 1
        b: int = 1

    def time(choice):
        if choice.a == 3:
            raise RuntimeError("out of registers")
        return {1: 1.0, 2: 0.8}[choice.a] * {1: 1.0, 2: 0.99, 4: 0.5}[choice.b]

    best, seconds, default = sweep.search(Choice(), {"a": (1, 2, 3), "b": (1, 2, 4)}, time)
    assert (best, seconds, default) == (Choice(2, 4), 0.4, 1.0)
    none, *_ = sweep.search(Choice(), {"b": (1, 2)}, time)
    assert none == Choice()
    text = sweep.section([sweep.Best("s", "1 x 1", {"a": 2}, 1e-3, 2e-3)])
    assert "| s | 1 x 1 | 2 | 1 | 2.00 | a 2 |" in text


def test_the_sweep_names_the_fields_of_the_kernels():
    tiling = pytest.importorskip("lpprop.kernels.triton.tiling")
    names = {field.name for field in fields(tiling.Tuning)}
    assert set(tiling.SPACE) == names == set().union(*sweep.FIELDS.values())
    for name, values in tiling.SPACE.items():
        assert getattr(tiling.Tuning(), name) in values
