"""The tests and the speed on a CUDA device, in one report: `make gpu`.

It writes `gpu.md`, to be pasted as it is, and, by the schema of all benchmarks, `gpu.json`. The
report has the tests by what they promise; each step with its aim, its share of the roofline, its
time with bfloat16 inputs and in batches of 8 to 64; the kernels that its time goes to; the best
choice of what may be tuned; and each work beside its competitors. Beside lpprop's own
dependencies it needs pytest, hypothesis and jsonschema, and nothing from a network: where PyTorch
with CUDA is installed already, `make gpu VENV= PYTHON=python3` takes that interpreter as it is, and
`PYTHONPATH=src python3 -m benchmarks.gpu` does the same without make.

The works are those of `benchmarks.speed --device cuda`, less the competitors that run on one thread
of a CPU whatever the device, and with one more: lpprop on the CPU of the same machine. Without
CUDA, `--device fake` runs the tests and, at tiny sizes, the steps on the suite's fake device, and
measures nothing; with `--quick` in seconds, since it takes a few of the tests only.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from lpprop._core.text import markdown_table

from .contract import document, machine, save, version_of
from .cuda import profile, steps, sweep, timing
from .report import number, table
from .speed import Plan, plans
from .work import Work

ROOT = Path(__file__).parents[1]
NEEDED = ("pytest", "hypothesis", "jsonschema")
PACKAGES = "lpprop torch triton numpy"
# What runs on one thread of a CPU whatever the device.
ONE_THREAD = ("SciPy", "DenseCRF")
ON_CPU = "lpprop, on the CPU"
# The tests of a quick run.
FEW = "test_shape_and_dtype and float32"


# --------------------------------------------------------------------------- the contract


@dataclass(frozen=True)
class Outcome:
    """What pytest counted; `failed` has a line for each test that failed or could not start.

    `promises` has the numbers passed, failed and skipped for each function of tests.
    """

    passed: int
    skipped: int
    failed: Sequence[str]
    seconds: float
    promises: Mapping[str, Sequence[int]] = field(default_factory=dict)


def run_tests(device: str, *arguments: str) -> Outcome:
    """Run the tests that use a GPU where there is one, on a device."""
    files = [x for x in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in x.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "tests.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
        command += ["--device", device, f"--junitxml={result}", *arguments, *map(str, files)]
        done = subprocess.run(command, cwd=ROOT, check=False)
        if not result.is_file():
            raise RuntimeError(f"pytest ended with {done.returncode}, and counted nothing")
        return counted(ElementTree.parse(result).getroot())


def counted(results: ElementTree.Element) -> Outcome:
    """Read the counts off pytest's JUnit file."""
    failed, promises = [], {}
    for case in results.iter("testcase"):
        name = f"{case.get('classname', '').removeprefix('tests.')}::{case.get('name')}"
        counts = promises.setdefault(name.split("[")[0], [0, 0, 0])
        wrong = [x for kind in ("failure", "error") if (x := case.find(kind)) is not None]
        if wrong:
            failed.append(f"{name}: {wrong[0].get('message', '').split(chr(10))[0]}")
        counts[1 if wrong else 2 if case.find("skipped") is not None else 0] += 1
    seconds = sum(float(suite.get("time", 0)) for suite in results.iter("testsuite"))
    passed, _, skipped = (sum(counts[i] for counts in promises.values()) for i in range(3))
    return Outcome(passed, skipped, failed, seconds, promises)


# --------------------------------------------------------------------------- the speed


def beside_cpu(on_gpu: Callable[..., Work], on_cpu: Callable[..., Work], **sizes: Any) -> Work:
    """The work on the GPU, and lpprop's share of it on the CPU as one competitor more."""
    work, host = on_gpu(**sizes), on_cpu(**sizes).competitors[0]
    competitors = [c for c in work.competitors if not c.name.startswith(ONE_THREAD)]
    host = replace(host, name=ON_CPU, note=f"{host.name}: {host.note}", limit=None, device="cpu")
    return replace(work, competitors=[*competitors, host])


def paired_plans(repeats: int) -> list[Plan]:
    return [
        replace(plan, step=partial(beside_cpu, plan.step, host.step))
        for plan, host in zip(plans("cuda", repeats), plans("cpu", repeats), strict=True)
    ]


def measured(plans: Sequence[Plan], quick: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Measure the works; one that fails, or whose competitors disagree, is a line of its own."""
    works, problems = [], []
    for plan in plans:
        try:
            works += plan.run("cuda", quick)
        except Exception as error:
            traceback.print_exc()
            name = plan.step.args[0].func.__name__
            problems.append(f"{name}: {type(error).__name__}: {str(error).split(chr(10))[0]}")
    return works, problems


@dataclass(frozen=True)
class Steps:
    """What was found of the steps by themselves, as sections of the report."""

    sections: Mapping[str, str]
    problems: Sequence[str]


def measure_steps(quick: bool) -> Steps:
    """Time, profile and tune the steps on CUDA."""
    sizes, batches = (steps.TINY, (1, 2)) if quick else (steps.FULL, timing.BATCHES)
    ceilings = timing.measure_ceilings("cuda")
    clock = partial(timing.seconds_of, device="cuda")
    timed, problems = timing.time_steps(steps.STEPS, "cuda", sizes, batches=batches, clock=clock)
    sections = {"Steps": timing.section(timed, ceilings)}
    sections["Where the time goes"] = profiled("cuda", sizes, problems)
    if not quick and find_spec("triton"):
        sections["What may be tuned"] = sweep.section(sweep.sweep("cuda"))
    return Steps(sections, problems)


def rehearse_steps() -> Steps:
    """Run the steps on the fake device, at tiny sizes, and measure nothing."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fake_device import fake_device

    def call(run: Callable[[], Any]) -> Sequence[float]:
        run()
        return ()

    with fake_device() as device:
        timed, problems = timing.time_steps(
            steps.STEPS, device, steps.TINY, batches=(2,), clock=call
        )
        kernels = profiled(device, steps.TINY, problems)
    return Steps({"Steps": timing.section(timed, None), "Where the time goes": kernels}, problems)


def profiled(device: str | torch.device, sizes: Mapping[str, int], problems: list[str]) -> str:
    """Profile all steps; one that fails is a line more of the problems."""
    found = []
    for step in steps.STEPS:
        try:
            found.append(profile.profile_step(step, device, sizes))
        except Exception as error:
            traceback.print_exc()
            problems.append(f"{step.name}, profile: {type(error).__name__}")
    return profile.section(found)


# --------------------------------------------------------------------------- the report


def report(
    device: str,
    tests: Outcome,
    result: dict[str, Any] | None,
    problems: Sequence[str],
    sections: Mapping[str, str] | None = None,
) -> str:
    """All of it as Markdown."""
    lines = ["# lpprop on a GPU", "", *environment(device), "", "## Tests", ""]
    lines += [
        f"{tests.passed} passed, {len(tests.failed)} failed, {tests.skipped} skipped "
        f"in {tests.seconds:.0f} s.",
        *(["", *(f"- {line}" for line in tests.failed)] if tests.failed else []),
        "",
        *promised(tests),
    ]
    for name, text in (sections or {}).items():
        lines += [f"## {name}", "", text, ""]
    lines += ["## Beside others", ""]
    if problems:
        lines += ["Not measured:", "", *(f"- {line}" for line in problems), ""]
    if result is None:
        lines += ["Nothing was measured."]
    else:
        lines += [*summary(result), "", table(result)]
    return "\n".join(lines) + "\n"


def promised(tests: Outcome) -> list[str]:
    """Return the counts of each function of tests, folded in."""
    if not tests.promises:
        return []
    lines = [[name, *map(str, counts)] for name, counts in tests.promises.items()]
    rows = markdown_table(["test", "passed", "failed", "skipped"], lines)
    return ["<details><summary>By test</summary>", "", rows, "", "</details>", ""]


def environment(device: str) -> list[str]:
    name = torch.cuda.get_device_name() if device == "cuda" else f"the suite's {device} device"
    capability = ".".join(map(str, torch.cuda.get_device_capability())) if device == "cuda" else "-"
    host = machine()
    return [
        "| | |",
        "|---|---|",
        f"| device | {name} |",
        f"| compute capability | {capability} |",
        f"| driver | {driver()} |",
        f"| CUDA of torch | {torch.version.cuda or 'none'} |",
        *(f"| {package} | {version_of(package)} |" for package in PACKAGES.split()),
        f"| CPU | {host['cpu']}, {host['cores']} cores, {host['threads']} threads |",
    ]


def driver() -> str:
    """The NVIDIA driver's version, as its own tool tells it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return answer[0] if answer else "unknown"


def summary(result: dict[str, Any]) -> list[str]:
    """A line for each work: lpprop's time, and how many times as long the others take."""
    lines = [
        "| | GPU, ms | backend torch, times as long | CPU, times as long |",
        "|---|--:|--:|--:|",
    ]
    for work in result["works"]:
        ours, *others = work["competitors"]
        ratios = {c["name"]: number(c["ratio"]["median"]) for c in others}
        sizes = ", ".join(f"{name} {size}" for name, size in work["sizes"].items())
        cells = (
            f"{work['name']} ({sizes})",
            number(1e3 * ours["seconds"]["median"]),
            ratios.get("lpprop, torch", ""),
            ratios.get(ON_CPU, ""),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--device", choices=["cuda", "fake"], default="cuda")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each work")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and few tests: tests this command alone"
    )
    parser.add_argument("--out", type=Path, default=Path("out"), help="a folder (default: out)")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"torch {torch.__version__} finds no CUDA device", file=sys.stderr)
        return 1
    if lacking := [package for package in NEEDED if find_spec(package) is None]:
        print(f"not installed: pip install {' '.join(lacking)}", file=sys.stderr)
        return 1

    tests = run_tests(args.device, *(["-k", FEW] if args.quick else []))
    works, problems = [], []
    if args.device == "cuda":
        found = measure_steps(args.quick)
        works, problems = measured(paired_plans(args.repeats), args.quick)
    else:
        found = rehearse_steps()
    problems = [*found.problems, *problems]
    result = None
    if works:
        result = document("gpu", works, quick=args.quick, packages=PACKAGES)
        result["versions"] |= {"cuda": torch.version.cuda, "driver": driver()}
        save(result, args.out / "gpu.json")
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "gpu.md"
    file.write_text(report(args.device, tests, result, problems, found.sections))
    print(file)
    return 1 if tests.failed or problems else 0


if __name__ == "__main__":
    sys.exit(main())
