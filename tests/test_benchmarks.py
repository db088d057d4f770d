"""The benchmarks keep their contract, and the yardstick is the equations. Nothing is timed."""

import copy
import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import lpprop
import reference
from lpprop._core import checks as checks_of_values

pytest.importorskip("faiss", reason="the benchmarks compare with faiss-cpu (extra bench)")
jsonschema = pytest.importorskip("jsonschema", reason="results are checked by jsonschema")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import (  # noqa: E402
    checks,
    contract,
    discrepancy,
    memory,
    peers,
    pixel_parts,
    pixel_step,
    products,
    regions,
    report,
    scipy_reference,
    speed,
    torch_loops,
)
from benchmarks.inputs import scene  # noqa: E402
from benchmarks.work import Competitor, Work  # noqa: E402


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmarks") / "result.json"
    speed.main(["--quick", "--repeats", "1", "--out", str(file)])
    return json.loads(file.read_text())


def test_a_quick_run_gives_a_valid_result(result):
    contract.validate(result)
    assert {work["name"]: len(work["agreement"]["differences"]) for work in result["works"]} == {
        "pixel step": 3,
        "first call, a process from start to end": 1,
        "first refine of a process": 1,
        "pixel step, its parts": 0,
        "pixel step of a large image": 0,
        "upsampling": 2,
        "patch step": 1,
        "both steps together": 1,
        "optimal path and its products, cost attention, epsilon 0.1": 1,
        "optimal path and its products, cost 1 - cosine, epsilon 0.05": 1,
        "maximum velocity and its products": 0,
    }
    for work in result["works"]:
        assert all(c["peak_memory_bytes"] is None for c in work["competitors"])


def test_every_aim_is_in_the_result(result):
    aims = {
        (work["name"].split(",")[0], c["name"]): c["target"]
        for work in result["works"]
        for c in work["competitors"]
        if c["target"] is not None
    }
    if not peers.DENSECRF:
        aims[("pixel step", "DenseCRF")] = 2
    assert aims == {
        ("pixel step", "SciPy, CSR"): 30,
        ("pixel step", "DenseCRF"): 2,
        ("pixel step", "PAMR, gathered"): 1,
        ("pixel step", "PAMR, added"): 1,
        ("first call", "lpprop, torch"): 1,
        ("first refine of a process", "lpprop, a later call"): pytest.approx(1 / 1.5),
        ("pixel step of a large image", "the same of a small image"): 0.5,
        ("upsampling", "kornia"): 1,
        ("patch step", "X Xᵀ alone"): pytest.approx(1 / 1.5),
        ("optimal path and its products", "products alone"): pytest.approx(1 / 1.5),
        ("maximum velocity and its products", "products alone"): pytest.approx(1 / 1.5),
    }
    limits = [
        (work["name"], c["limit"])
        for work in result["works"]
        for c in work["competitors"]
        if "limit" in c
    ]
    assert limits == [("pixel step of a large image", 1.5e9 / 2**20)]


def test_a_quick_run_of_discrepancy_gives_a_valid_result(tmp_path):
    file = tmp_path / "result.json"
    discrepancy.main(["--quick", "--repeats", "1", "--out", str(file)])
    result = json.loads(file.read_text())
    contract.validate(result)
    assert {work["name"]: len(work["agreement"]["differences"]) for work in result["works"]} == {
        "optimal path, cost attention, epsilon 0.1": 2,
        "optimal path, cost 1 - cosine, epsilon 0.05": 2,
        "maximum velocity": 1,
    }


def test_a_quick_run_of_regions_gives_a_valid_result(tmp_path):
    file = tmp_path / "result.json"
    regions.main(["--quick", "--repeats", "1", "--out", str(file)])
    result = json.loads(file.read_text())
    contract.validate(result)
    assert {work["name"]: len(work["agreement"]["differences"]) for work in result["works"]} == {
        "region vote, mean": 5,
        "region vote, vote": 0,
        "region vote, probability": 0,
    }


def test_the_cost_of_checks_is_part_of_their_calls(capsys):
    before = vars(checks_of_values)["check_finite"]
    checks.main(["--quick", "--repeats", "1"])
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert len(rows) == 4
    for name, whole, *parts, share in rows:
        assert 0 < sum(map(float, parts)) < float(whole), name
        assert all(float(part) > 0 for part in parts[:2])
        assert share.endswith("%")
    assert vars(checks_of_values)["check_finite"] is before


@pytest.mark.parametrize(("C", "target"), [(21, 2), (150, 5)])
@pytest.mark.parametrize("cost", discrepancy.COSTS)
def test_the_loop_over_the_classes_carries_the_aim_of_the_optimal_path(cost, C, target):
    work = discrepancy.optimal_path("cpu", cost, side=4, C=C)
    assert [c.target for c in work.competitors] == [None, target, None]


@pytest.mark.parametrize("C", [21, 150])
def test_the_papers_setting_takes_a_few_updates(C):
    """The plain loop holds the rows to 8 roundings after one to four, for every class."""
    easy = discrepancy.optimal_path("cpu", "attention", side=32, C=C)
    assert easy.sizes["iterations"] <= 5


def test_the_hard_cost_takes_the_whole_budget():
    """At 1,024 patches, as it is timed; else the benchmark would compare counts of iterations."""
    hard = discrepancy.optimal_path("cpu", "1 - cosine", side=32, C=21)
    assert hard.sizes == {"N": 1024, "C": 21, "iterations": 50}


def test_the_table_names_every_competitor(result):
    text = report.table(result)
    for work in result["works"]:
        for competitor in work["competitors"]:
            assert competitor["name"] in text


def broken(result, change):
    result = copy.deepcopy(result)
    change(result["works"][0]["competitors"][1], result)
    return result


@pytest.mark.parametrize(
    "change",
    [
        lambda c, r: r.pop("machine"),
        lambda c, r: r["machine"].update(hostname="somewhere"),
        lambda c, r: r.update(works=[]),
        lambda c, r: c["seconds"].update(median="fast"),
        lambda c, r: c["seconds"]["values"].clear(),
        lambda c, r: c.pop("note"),
        lambda c, r: c.update(peak_memory_bytes=-1),
        lambda c, r: c.update(limit=100),  # without the output, which it leaves out
    ],
)
def test_a_result_that_breaks_the_schema_is_refused(result, change, tmp_path):
    file = tmp_path / "result.json"
    with pytest.raises(jsonschema.ValidationError):
        contract.save(broken(result, change), file)
    assert not file.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, r: c["seconds"].update(median=9.0), "statistics of other values"),
        (lambda c, r: c.update(seconds=contract.summary([1.0, 1.0])), "not timed as often"),
        (lambda c, r: c.update(ratio=contract.summary([1e6])), "not those of the times"),
        (
            lambda c, r: r["works"][0]["agreement"]["differences"][0].update(max_relative=0.5),
            "results differ",
        ),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(result, change, message):
    with pytest.raises(ValueError, match=message):
        contract.validate(broken(result, change))


def test_competitors_that_disagree_are_not_timed():
    calls = []

    def wrong():
        calls.append("wrong")
        return np.full(3, 1.1)

    work = Work(
        "sum", {"N": 3}, 1e-3, [Competitor("a", "", lambda: np.ones(3)), Competitor("b", "", wrong)]
    )
    with pytest.raises(contract.DisagreementError, match=r"b and a differ by 9\.1e-02"):
        contract.measure(lambda: work, repeats=5)
    assert calls == ["wrong"]


def test_not_a_number_is_a_disagreement():
    work = Work(
        "sum",
        {"N": 1},
        1e-3,
        [
            Competitor("a", "", lambda: np.ones(1)),
            Competitor("b", "", lambda: np.full(1, np.nan)),
        ],
    )
    with pytest.raises(contract.DisagreementError):
        contract.measure(lambda: work, repeats=1)


def test_rounds_alternate_the_order():
    calls = []
    work = Work(
        "order",
        {"N": 1},
        1e-3,
        [
            Competitor(name, "", lambda name=name: calls.append(name) or np.ones(1))
            for name in ("a", "b")
        ],
    )
    contract.measure(lambda: work, repeats=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"  # the first pair warms up


def test_without_rounds_the_first_call_counts():
    calls = []
    work = Work(
        "once",
        {"N": 1},
        1e-3,
        [
            Competitor(name, "", lambda name=name: calls.append(name) or np.ones(1))
            for name in ("a", "b")
        ],
    )
    measured = contract.measure(lambda: work, repeats=0)
    assert "".join(calls) == "ab"
    assert all(len(c["seconds"]["values"]) == 1 for c in measured["competitors"])
    assert measured["agreement"]["differences"] == [{"competitor": "b", "max_relative": 0.0}]


def test_a_time_may_count_several_times(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("lpprop._core.measure.time.perf_counter", lambda: float(next(clock)))
    once, thrice = (Competitor(str(times), "", lambda: None, times=times) for times in (1, 3))
    work = Work("times", {"N": 1}, 1e-3, [once, replace(thrice, comparable=False)])
    measured = contract.measure(lambda: work, repeats=2)["competitors"]
    assert [c["seconds"]["values"] for c in measured] == [[1, 1], [3, 3]]
    assert [c["ratio"]["values"] for c in measured] == [[1, 1], [3, 3]]


def allocation(megabytes: int) -> Work:
    def run():
        return np.ones(megabytes * 2**20, np.uint8)[:1].copy()

    return Work("allocation", {"megabytes": megabytes}, 1e-3, [Competitor("numpy", "", run)])


def test_peak_memory_is_what_the_call_adds():
    peak = memory.peak_memory_of("numpy", partial(allocation, 96), partial(allocation, 1), "cpu")
    if peak is None:
        pytest.skip("this system cannot reset a process's peak memory")
    assert 94 < peak / 2**20 < 104


def with_limit(peak_mebibytes: int | None) -> dict:
    work = allocation(96)
    (competitor,) = work.competitors
    work = replace(work, competitors=[replace(competitor, limit=100)])
    measured = contract.measure(lambda: work, repeats=1)
    measured["competitors"][0] |= {
        "peak_memory_bytes": peak_mebibytes and peak_mebibytes * 2**20,
        "output_bytes": 20 * 2**20,
    }
    return measured


@pytest.mark.parametrize(
    ("peak", "said"), [(119, "99, met"), (121, "101, missed"), (None, "not measured")]
)
def test_the_aim_for_the_memory_leaves_the_output_out(result, peak, said):
    work = with_limit(peak)
    limited = result | {"works": [work]}
    contract.validate(limited)
    assert f"memory beyond the output ≤ 100 MiB: {said} |" in report.table(limited)


def test_the_size_of_the_output_stands_beside_a_limit():
    (competitor,) = allocation(1).competitors
    work = Work("limit", {"N": 1}, 1e-3, [replace(competitor, limit=1), competitor])
    first, second = contract.measure(lambda: work, repeats=1)["competitors"]
    assert (first["limit"], first["output_bytes"]) == (1, 1)
    assert "limit" not in second


@pytest.mark.parametrize(
    ("differences", "share", "end"),
    [
        ([], 0.25, "Other processes used 25% of the CPU time."),
        ([], None, " |"),
        ([("b", 1e-6)], None, "b agrees to 1e-06 of the maximum."),
        (
            [("b", 1e-6), ("c", 2e-6)],
            0.0,
            "b agrees to 1e-06 of the maximum; c agrees to 2e-06 of the maximum. "
            "Other processes used 0% of the CPU time.",
        ),
    ],
)
def test_the_last_line_of_a_table_says_what_is_known(result, differences, share, end):
    work = copy.deepcopy(result["works"][0])
    work["cpu_share_of_other_processes"] = share
    work["agreement"]["differences"] = [
        {"competitor": name, "max_relative": x} for name, x in differences
    ]
    last = report.table(result | {"works": [work]}).split("\n")[-1]
    assert last.endswith(end) if end == " |" else last == end


def test_the_products_do_the_work_that_the_methods_do():
    """As many rows as updates and steps were taken: their results are those of the methods."""
    work = products.optimal_path("cpu", "1 - cosine", side=8, C=3, D=16)
    assert work.sizes["products"] == 2 * work.sizes["updates"] + 1
    work = products.max_velocity("cpu", side=8, C=3, D=16)
    assert work.sizes["steps"] <= work.sizes["rows"] <= 3 * work.sizes["steps"]


def test_the_parts_of_the_pixel_step_are_its_parts():
    """Put together by hand, with steps of conjugate gradients, they solve."""
    s = scene(H=16, W=24, window=16, stride=8, patch_size=8, D=1, C=3)
    labels = s.pixel_logits[0].flatten(1)
    parts = pixel_parts.Parts(s.image[0], labels, r=5)
    value = np.zeros_like(parts.labels)
    with parts.threads(parts.group()) as group:
        group.pack(parts.labels, parts.one)
        rr = group.lower_residual(np.zeros(group.count))
        step = rr / np.where(rr > 0, group.multiply(1.0, 0.95), 1)
        group.advance(value, step, group.lower_residual(step) / np.where(rr > 0, rr, 1))
    expected = pixel_step.propagate(s.pixel_logits, s.image, r=5, backend="torch")
    one = lpprop.propagate_pixels(s.pixel_logits, s.image, r=5, max_iter=1, backend="torch")
    np.testing.assert_allclose(value, one[0].flatten(1), rtol=1e-5, atol=1e-6)
    assert not np.allclose(value, expected.flatten(1), rtol=1e-5, atol=1e-6)
    for part in (parts.products, parts.updates, parts.packing):
        part()
    assert not np.isnan(parts.warm.q).any()


@pytest.mark.parametrize("file", sorted(contract.RESULTS.glob("*.json")), ids=lambda f: f.stem)
def test_committed_results_are_valid(file):
    result = json.loads(file.read_text())
    contract.validate(result)
    assert not result["quick"]


def test_the_documentation_holds_the_committed_results():
    root = contract.RESULTS.parents[1]
    assert list(contract.RESULTS.glob("*.json"))
    run = "run python -m benchmarks.report docs/benchmarks.md README.md"
    assert report.report() in (root / "docs" / "benchmarks.md").read_text(), run
    assert report.speed() in (root / "README.md").read_text(), run


def test_scipy_patch_step_is_the_equations():
    s = scene(H=48, W=64, window=32, stride=16, patch_size=8, D=16, C=3)
    options = {"k": 9, "patch_size": 8}
    got = scipy_reference.propagate_patches(
        s.patch_logits.numpy(), s.patch_feats.numpy(), s.boxes.numpy(), **options
    )
    expected = reference.propagate_patches(
        s.patch_logits, s.patch_feats, windows=s.boxes, **options
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("matrix", ["csr", "dia"])
@pytest.mark.parametrize("r", [5, 31])  # 31 is wider than the image
def test_scipy_pixel_step_is_the_equations(matrix, r):
    s = scene(H=48, W=64, window=32, stride=16, patch_size=8, D=16, C=3)
    logits, image = s.pixel_logits[..., :12, :9], s.image[..., :12, :9]
    got = scipy_reference.propagate_pixels(
        logits[0].numpy(), image[0].numpy(), r=r, tau=0.05, matrix=matrix
    )
    expected = reference.propagate_pixels(logits, image, r=r, tau=0.05)[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


# ------------------------------------------------------------------- the loops, in float64


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.fixture(scope="module")
def transport():
    """Distributions with zeros, a cost that is not symmetric, attention to the next patches."""
    g = np.random.default_rng(0)
    f = g.random((3, 12)) * (g.random((3, 12)) < 0.4)
    apart = abs(np.arange(12) - np.arange(12)[:, None])
    attention = g.random((12, 12)) * np.exp(-2.0 * apart)
    return f / f.sum(1, keepdims=True), g.random((12, 12)), attention / attention.sum(1)[:, None]


@pytest.mark.parametrize("iterations", [1, 2, 50])
def test_torch_optimal_path_is_the_equations(transport, iterations):
    f, cost, _ = transport
    got = torch_loops.optimal_path(
        torch.tensor(f), torch.tensor(cost), epsilon=0.05, iterations=iterations
    )
    # With the plan itself, scaled to its two marginals in turn.
    for f_c, path in zip(f, got.numpy(), strict=True):
        plan = np.exp(-cost / 0.05)
        for _ in range(iterations):
            rows = plan.sum(1)
            plan *= np.divide(f_c, rows, out=np.zeros(12), where=f_c > 0)[:, None]
            plan *= 1 / 12 / plan.sum(0)
        close(path, (plan * cost).sum(0))


def test_the_torch_loop_that_stops_has_reached_the_marginals(transport):
    f, cost, _ = transport
    f, cost = torch.tensor(f), torch.tensor(cost)
    exact = torch_loops.optimal_path(f, cost, iterations=1000)
    # It would not come back from so many iterations if it did not stop.
    got = torch_loops.optimal_path(f, cost, iterations=10**9, roundings=8)
    close(got.numpy(), exact.numpy())
    # A wider stop is an earlier one, so it is this rule that ended it.
    early = torch_loops.optimal_path(f, cost, iterations=10**9, roundings=10**13)
    assert (early - exact).abs().max() > 1e-6 * exact.max()


@pytest.mark.parametrize("max_steps", [100, 2])  # all arrive; some do not
def test_torch_max_velocity_is_the_definition(transport, max_steps):
    f, _, T = transport
    got = torch_loops.max_velocity(torch.tensor(f), torch.tensor(T), max_steps=max_steps).numpy()
    for _ in range(15):
        T = T / T.sum(0)
        T = T / T.sum(1)[:, None]
    steps = []
    for f_c, velocities in zip(f, got, strict=True):
        walk = [f_c / f_c.max()]
        for _ in range(max_steps):
            following = walk[-1] @ T
            walk.append(following / following.max())
        for i, velocity in enumerate(velocities):
            step = next((n for n, p in enumerate(walk) if p[i] > 0.3), None)
            t = max_steps if step is None else step
            if step:
                before, after = walk[step - 1][i], walk[step][i]
                t = step - (after - 0.3) / (0.7 if step == 1 else after - before)
            assert math.isclose(velocity, 1 / (1 + t), rel_tol=1e-10)
            steps.append(step)
    assert 0 in steps
    assert (None in steps) == (max_steps == 2)


@pytest.mark.parametrize("radius", [1, 3])
def test_torch_upsampling_is_the_equation(radius):
    g = np.random.default_rng(0)
    (h, w), (H, W) = (3, 5), (8, 11)
    x, image = g.random((1, 2, h, w)), g.random((1, 3, H, W))
    got = torch_loops.upsample_by_offsets(
        torch.tensor(x), torch.tensor(image), sigma_space=0.8, sigma_range=0.5, radius=radius
    )
    points = np.stack([reference.bilinear(plane, (h, w)) for plane in image[0]])
    expected = np.zeros((1, 2, H, W))
    for py, px in np.ndindex(H, W):
        y, x_ = (py + 0.5) * h / H - 0.5, (px + 0.5) * w / W - 0.5
        total = 0.0
        for qy, qx in np.ndindex(h, w):
            if max(abs(qy - round(y)), abs(qx - round(x_))) <= radius:
                space = (y - qy) ** 2 + (x_ - qx) ** 2
                colour = ((image[0, :, py, px] - points[:, qy, qx]) ** 2).sum()
                weight = math.exp(-space / 0.8**2 - colour / 0.5**2)
                expected[0, :, py, px] += weight * x[0, :, qy, qx]
                total += weight
        expected[0, :, py, px] /= total
    close(got.numpy(), expected)


def test_a_quick_run_of_the_compilers_gives_a_valid_result(tmp_path):
    pytest.importorskip("numba", reason="the compiled kernels are compared with Numba's")
    from benchmarks import compilers

    file = tmp_path / "result.json"
    compilers.main(["--quick", "--repeats", "1", "--out", str(file)])
    result = json.loads(file.read_text())
    contract.validate(result)
    assert [len(work["agreement"]["differences"]) for work in result["works"]] == [1, 2, 1, 2]
