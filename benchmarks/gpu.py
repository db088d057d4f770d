"""The tests and the speed on a CUDA device, in one report: `make gpu`.

It writes `gpu.md`, to be pasted as it is, and, by the schema of all benchmarks, `gpu.json`. The
report has the tests by what they promise; each step with its aim, its share of the roofline, its
time with bfloat16 inputs and in batches of 8 to 64; the kernels that its time goes to; the best
choice of what may be tuned; and each work beside its competitors. Beside lpprop's own
dependencies it needs pytest, hypothesis and jsonschema, and nothing from a network: where PyTorch
with CUDA is installed already, `make gpu VENV= PYTHON=python3` takes that interpreter as it is, and
`PYTHONPATH=src python3 -m benchmarks.gpu` does the same without make.

The works are those of `benchmarks.speed --device cuda` and the local CRF, less the competitors that
run on one thread of a CPU whatever the device, and with one more: lpprop on the CPU of the same
machine. `benchmarks.random_field` says how to install the local CRF's peer. Without CUDA,
`--device fake` runs the tests and, at tiny sizes, the steps on the suite's fake device, and
measures nothing; with `--quick` in seconds, since it takes a few of the tests only.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from .contract import document, save
from .cuda import profile, steps, sweep, timing
from .cuda.outcome import ROOT, run_tests
from .cuda.report import ON_CPU, PACKAGES, driver, report
from .random_field import MONAI, WITHOUT_MONAI, random_field
from .speed import IMAGE, TINY_IMAGE, Plan, plans
from .work import Work

NEEDED = ("pytest", "hypothesis", "jsonschema")
# What runs on one thread of a CPU whatever the device.
ONE_THREAD = ("SciPy", "DenseCRF")
# The tests of a quick run.
FEW = "test_shape_and_dtype and float32"


def beside_cpu(on_gpu: Callable[..., Work], on_cpu: Callable[..., Work], **sizes: Any) -> Work:
    """The work on the GPU, and lpprop's share of it on the CPU as one competitor more."""
    work, host = on_gpu(**sizes), on_cpu(**sizes).competitors[0]
    competitors = [c for c in work.competitors if not c.name.startswith(ONE_THREAD)]
    host = replace(host, name=ON_CPU, note=f"{host.name}: {host.note}", limit=None, device="cpu")
    return replace(work, competitors=[*competitors, host])


def planned(device: str, repeats: int) -> list[Plan]:
    return [
        *plans(device, repeats),
        Plan(partial(random_field, device), [IMAGE], TINY_IMAGE, repeats),
    ]


def paired_plans(repeats: int) -> list[Plan]:
    return [
        replace(plan, step=partial(beside_cpu, plan.step, host.step))
        for plan, host in zip(planned("cuda", repeats), planned("cpu", repeats), strict=True)
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
            problems.append(f"{name}: {timing.describe(error)}")
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
            problems.append(f"{step.name}, profile: {timing.describe(error)}")
    return profile.section(found)


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
    notes = [] if MONAI else [WITHOUT_MONAI]
    file.write_text(report(args.device, tests, result, problems, found.sections, notes))
    print(file)
    return 1 if tests.failed or problems else 0


if __name__ == "__main__":
    sys.exit(main())
