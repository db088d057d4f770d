"""The guard of the speed: its judgement on made-up figures, its files, its rows; none is timed."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("faiss", reason="the benchmarks compare with faiss-cpu (extra bench)")
sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is no part of the package

from benchmarks.guard import __main__ as command
from benchmarks.guard import history, judgement, plan

from lpprop import __version__

KEY = ("pixel step", "DenseCRF")


def said(recorded, now, **options):
    (verdict,) = judgement.judge({KEY: recorded}, {KEY: now}, **options)
    return verdict.said


@pytest.mark.parametrize(
    ("recorded", "now", "verdict"),
    [
        ([2.0, 2.0, 2.0], [1.65], "fell"),
        ([2.0, 2.0, 2.0], [1.75], "holds"),  # less than 15 %
        ([2.0, 2.0, 2.0], [2.5], "rose"),
        ([1.6, 2.0, 2.4], [1.4], "holds"),  # the runs themselves differ by half
        ([1.6, 2.0, 2.4], [1.3], "fell"),
        ([2.0], [1.6, 2.0, 2.1], "holds"),  # the median of the runs counts
        ([2.0], [1.6, 1.6, 2.1], "fell"),
        ([0.2], [0.1], "fell"),  # a floor, of which lpprop is slower
    ],
)
def test_the_judgement(recorded, now, verdict):
    assert said(recorded, now) == verdict


def test_elsewhere_less_is_allowed_to_tell():
    assert said([2.0], [1.1], same_machine=False) == "holds"
    assert said([2.0], [0.9], same_machine=False) == "fell"


def test_rows_on_one_side_alone():
    one, other = ("a", "x"), ("b", "y")
    verdicts = judgement.judge({one: [1.0, 3.0]}, {other: [2.0]})
    assert [(v.row, v.recorded, v.now, v.said) for v in verdicts] == [
        ("a", 2.0, None, "missing"),
        ("b", None, 2.0, "new"),
    ]
    assert not judgement.fallen(verdicts)


def test_the_table_puts_falls_first():
    recorded = {("a", "x"): [2.0], ("b", "x"): [2.0], ("c", "x"): [2.0]}
    text = judgement.table(judgement.judge(recorded, {("a", "x"): [2.0], ("b", "x"): [1.0]}))
    assert text.splitlines()[2:] == [
        "| b / x | 2 | 1 | -50% | -15% | fell |",
        "| c / x | 2 | – | – | – | missing |",
        "| a / x | 2 | 2 | +0% | -15% | holds |",
    ]


def test_runs_are_gathered():
    runs = [{"a": {"x": 1.00004, "y": 2.0}}, {"a": {"x": 3.0}}]
    assert history.gather(runs) == {("a", "x"): [1.0, 3.0], ("a", "y"): [2.0]}


def test_files_are_read_as_they_are_written(tmp_path):
    ratios = {("a", "X Xᵀ"): [1.0, 2.0]}
    file = history.write(ratios, tmp_path)
    assert file.stem == __version__
    for version in ("0.0.9", "999.0.0"):  # an older one, and one of the future
        (tmp_path / f"{version}.json").write_text("{}")
    record = history.latest(tmp_path)
    assert record["version"] == __version__
    assert history.ratios_of(record) == ratios
    assert history.is_here(record)
    record["machine"]["cores"] += 1
    assert not history.is_here(record)


def test_what_is_committed_has_all_rows():
    """Else a row would be guarded by nothing."""
    record = history.latest()
    if record is None:
        pytest.skip("no version has been recorded yet: make bench-guard RECORD=1")
    rows = {(row.name, yardstick) for row in plan.plan() for yardstick in row.yardsticks}
    assert set(history.ratios_of(record)) == rows
    assert all(len(runs) == command.RECORDED_RUNS for runs in history.ratios_of(record).values())


@pytest.fixture
def recorded(tmp_path):
    history.write({KEY: [2.0, 2.0], ("gone", "x"): [1.0]}, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("ratios", "status", "asked"),
    [
        ([2.0], 0, [()]),
        ([1.0, 1.1], 1, [(), {"pixel step"}]),
        ([1.0, 2.0], 0, [(), {"pixel step"}]),  # it did not fall again
    ],
)
def test_the_command(ratios, status, asked, recorded, monkeypatch, capsys):
    seen, given = [], iter(ratios)

    def run(count, names, args):
        seen.append(names if isinstance(names, set) else tuple(names))
        return {KEY: [next(given)]}

    monkeypatch.setattr(command, "run_apart", run)
    assert command.main(["--history", str(recorded)]) == status
    assert seen == asked
    said = capsys.readouterr().out
    assert f"Against {__version__}" in said
    assert "| gone / x | 1 | – | – | – | missing |" in said
    assert ("| fell |" in said) == bool(status)


def test_nothing_to_compare(recorded, tmp_path_factory, monkeypatch, capsys):
    monkeypatch.setattr(command, "run_apart", lambda *_: {("new", "x"): [1.0]})
    assert command.main(["--history", str(recorded)]) == 1
    assert "nothing that was recorded" in capsys.readouterr().err
    assert command.main(["--history", str(tmp_path_factory.mktemp("empty"))]) == 1
    assert "RECORD=1" in capsys.readouterr().err


def test_every_row_runs(tmp_path):
    """At tiny sizes, for real: a ratio per yardstick, and results that agree."""
    file = tmp_path / "run.json"
    assert command.main(["--quick", "--once", str(file)]) == 0
    measured = json.loads(file.read_text())
    for row in plan.plan(quick=True):
        absent = set() if plan.DENSECRF else {"DenseCRF"}
        assert set(measured[row.name]) == set(row.yardsticks) - absent
        assert all(ratio > 0 for ratio in measured[row.name].values())


def test_a_run_is_a_process(tmp_path, monkeypatch):
    """With what it is started with, and the rows that are asked for."""
    started = []

    def run(words, **options):
        started.append(words)
        Path(words[words.index("--once") + 1]).write_text('{"a": {"x": 2.0}}')

    monkeypatch.setattr(command.subprocess, "run", run)
    monkeypatch.setattr(command.history, "FOLDER", tmp_path)
    arguments = ["--record", "--prefix", "nice -n 5", "--history", str(tmp_path), "patch step"]
    assert command.main(arguments) == 0
    assert len(started) == command.RECORDED_RUNS
    assert started[0][:3] == ["nice", "-n", "5"]
    assert started[0][-1] == "patch step"
    record = json.loads((tmp_path / f"{__version__}.json").read_text())
    assert record["ratios"] == [{"row": "a", "yardstick": "x", "runs": [2.0] * 5}]
