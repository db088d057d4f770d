"""The command for a machine with a GPU, on one without: what it counts, pairs and writes."""

import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

pytest.importorskip("jsonschema", reason="results are checked by jsonschema")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import contract, gpu, speed
from benchmarks.work import Competitor, Work

GREEN = gpu.Outcome(12, 3, [], 4.2)


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
    return contract.document("gpu", [measured], quick=True, packages=gpu.PACKAGES)


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


def test_the_tests_run_on_the_device_that_is_named():
    """For real, on the device that is here; what is skipped needs a package that may be absent."""
    outcome = gpu.run_tests(
        "fake", "-k", "test_shape_and_dtype and (pamr or pixels-llvm) and float32"
    )
    assert (outcome.passed, outcome.skipped, list(outcome.failed)) == (2, 1, [])
    assert outcome.seconds > 0


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
    outcome = gpu.counted(results)
    assert (outcome.passed, outcome.skipped, outcome.seconds) == (1, 1, 1.5)
    assert list(outcome.failed) == [
        "test_a::test_bad[x]: AssertionError: 1 != 2",
        "test_b::test_broken: no module",
    ]


def test_the_cpu_is_a_competitor_more():
    paired = gpu.beside_cpu(partial(work, "cuda"), partial(work, "cpu"), W=7)
    assert [c.name for c in paired.competitors] == [
        "lpprop, triton", "lpprop, torch", "PAMR", gpu.ON_CPU,
    ]  # fmt: skip
    host = paired.competitors[-1]
    assert (host.note, host.device, host.limit) == ("lpprop, llvm: note", "cpu", None)
    assert paired.sizes == {"H": 4, "W": 7}


def test_every_work_has_its_twin_on_the_cpu():
    for plan, planned in zip(gpu.paired_plans(3), speed.plans("cuda", 3), strict=True):
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
    failed = gpu.Outcome(1, 0, ["test_a::test_b: AssertionError"], 0.4)
    text = gpu.report("fake", failed, result, ["patch_step: OutOfMemoryError: 3 GiB"])
    for line in (
        "| device | the suite's fake device |",
        f"| torch | {version('torch')} |",
        "1 passed, 1 failed, 0 skipped in 0 s.",
        "- test_a::test_b: AssertionError",
        "- patch_step: OutOfMemoryError: 3 GiB",
        "| pixel step (H 4, C 2) | 2 | 15 | 250 |",
        "| lpprop, on the CPU: lpprop, llvm: note | 500 (500–500) | 250 (250–250) |",
    ):
        assert line in text, text
    assert "Nothing was measured" in gpu.report("fake", GREEN, None, [])


def test_it_writes_both_files(monkeypatch, tmp_path, capsys, result):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "NVIDIA Invented 9")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (9, 0))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(gpu, "run_tests", lambda device: GREEN)
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
