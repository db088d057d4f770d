"""The benchmarks keep their contract, and the yardstick is the equations. Nothing is timed."""

import copy
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import reference

pytest.importorskip("faiss", reason="the benchmarks compare with faiss-cpu (extra bench)")
jsonschema = pytest.importorskip("jsonschema", reason="results are checked by jsonschema")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks import contract, label_propagation, report, scipy_reference  # noqa: E402
from benchmarks.contract import Competitor, Work  # noqa: E402
from benchmarks.inputs import scene  # noqa: E402


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmarks") / "result.json"
    label_propagation.main(["--quick", "--repeats", "2", "--out", str(file)])
    return json.loads(file.read_text())


def test_a_quick_run_gives_a_valid_result(result):
    contract.validate(result)
    assert [work["name"] for work in result["works"]] == ["patch step", "pixel step"]
    for work in result["works"]:
        assert work["agreement"]["differences"]
        assert all(c["peak_memory_bytes"] is None for c in work["competitors"])


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
        (lambda c, r: c.update(seconds=contract.summary([1.0])), "not timed as often"),
        (lambda c, r: c.update(ratio=contract.summary([1e6, 1e6])), "not those of the times"),
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


def allocation(megabytes: int) -> Work:
    def run():
        return np.ones(megabytes * 2**20, np.uint8)[:1].copy()

    return Work("allocation", {"megabytes": megabytes}, 1e-3, [Competitor("numpy", "", run)])


def test_peak_memory_is_what_the_call_adds():
    peak = contract.peak_memory(partial(allocation, 96), partial(allocation, 1), "numpy", "cpu")
    if peak is None:
        pytest.skip("this system cannot reset a process's peak memory")
    assert 94 < peak / 2**20 < 104


@pytest.mark.parametrize("file", sorted(contract.RESULTS.glob("*.json")), ids=lambda f: f.stem)
def test_committed_results_are_valid(file):
    result = json.loads(file.read_text())
    contract.validate(result)
    assert not result["quick"]


def test_the_documentation_holds_the_committed_results():
    text = (contract.RESULTS.parents[1] / "docs" / "benchmarks.md").read_text()
    assert list(contract.RESULTS.glob("*.json"))
    assert report.report() in text, "run python -m benchmarks.report docs/benchmarks.md"


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
