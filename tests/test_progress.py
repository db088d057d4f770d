"""Progress: a bar where somebody watches, after a second, and nothing anywhere else."""

import io
import sys
from types import SimpleNamespace

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from tqdm import tqdm

import lpprop
from lpprop._core import progress
from lpprop._core.progress import LINE_SECONDS, Progress, hide_progress, in_notebook, track
from lpprop.backbones.backbone import Backbone, BackboneOutput
from lpprop.evaluation import evaluate
from lpprop.models.references import References


class Terminal(io.StringIO):
    """A stream that somebody watches."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """A terminal on which bars appear at once."""
    stream = Terminal()
    write_to(stream, monkeypatch)
    return stream


def write_to(stream, monkeypatch):
    # pytest sets sys.stderr anew after the fixtures.
    streams = SimpleNamespace(stderr=stream, stdout=sys.stdout, modules=sys.modules)
    monkeypatch.setattr(progress, "sys", streams)
    monkeypatch.setattr(progress, "_DELAY", 1e-9)
    monkeypatch.setattr(progress, "_INTERVAL", 0)


def settled(stream):
    """What a terminal shows in the end, line by line."""
    lines = [
        line.rstrip("\r").rsplit("\r", 1)[-1].strip() for line in stream.getvalue().split("\n")
    ]
    return [line for line in lines if line]


def test_a_bar_counts_and_clears_itself(terminal, capfd):
    assert list(track(range(3), unit="cat")) == [0, 1, 2]
    assert "3/3" in terminal.getvalue()
    assert "cat/s" in terminal.getvalue()
    assert settled(terminal) == []
    assert capfd.readouterr().out == ""


def test_nothing_shows_within_the_first_second(monkeypatch, terminal):
    monkeypatch.setattr(progress, "_DELAY", 1.0)
    list(track(range(3)))
    assert terminal.getvalue() == ""


def test_a_bar_that_was_asked_for_stays(monkeypatch, terminal):
    monkeypatch.setattr(progress, "_DELAY", 1.0)
    with Progress(2, True) as bar:
        bar.describe("cats")
        bar.update("two at once", count=2)
    (line,) = settled(terminal)
    assert line.startswith("cats: 100%")
    assert "2/2" in line
    assert "two at once" in line


@pytest.mark.parametrize("stream", [io.StringIO(), None])
def test_nothing_shows_where_nobody_watches(monkeypatch, stream, capfd):
    write_to(stream, monkeypatch)
    list(track(range(3)))
    list(track(range(3), False))
    assert stream is None or stream.getvalue() == ""
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("logged", [True, False])
def test_a_log_has_a_line_per_minute_where_that_is_asked_for(monkeypatch, logged, capsys):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with Progress(None, unit="cat", logged=logged) as bar:
        for _ in range(5):
            now[0] += LINE_SECONDS / 2
            bar.update("asleep")
    lines = ["lpprop: 2 cats in 1 min; asleep", "lpprop: 4 cats in 2 min; asleep"]
    assert capsys.readouterr().err.splitlines() == lines * logged


class TestWorkWithinWork:
    def test_only_the_outermost_shows(self, terminal):
        for _ in track(range(2), unit="outer"):
            list(track(range(5), unit="inner"))
        assert "outer/s" in terminal.getvalue()
        assert "inner" not in terminal.getvalue()
        list(track(range(5), unit="later"))
        assert "5/5" in terminal.getvalue()

    def test_what_is_hidden_hides_what_is_within(self, terminal):
        for _ in track(range(2), False):
            list(track(range(5)))
        assert terminal.getvalue() == ""

    def test_a_single_step_lets_its_parts_show(self, terminal):
        for _ in track([0]):
            list(track(range(5)))
        assert "5/5" in terminal.getvalue()

    def test_nothing_shows_within_a_bar_of_the_caller(self, terminal):
        with tqdm(total=1, file=Terminal()):
            list(track(range(5)))
        assert terminal.getvalue() == ""
        list(track(range(5)))
        assert "5/5" in terminal.getvalue()

    def test_an_error_ends_it(self, terminal):
        with pytest.raises(ZeroDivisionError), Progress(2):
            raise ZeroDivisionError
        list(track(range(5)))
        assert "5/5" in terminal.getvalue()

    def test_a_worker_shows_nothing(self, monkeypatch, terminal):
        monkeypatch.setattr(progress, "_open", 0)
        hide_progress()
        list(track(range(5), True))
        assert terminal.getvalue() == ""


@pytest.mark.parametrize(
    ("shell", "found"),
    [(None, False), (SimpleNamespace(), False), (SimpleNamespace(kernel=1), True)],
)
def test_only_a_kernel_is_a_notebook(monkeypatch, shell, found):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook() is found


class Grey(Backbone):
    """A backbone that sees one image at a time."""

    provides = ("feats",)

    def __init__(self):
        super().__init__(patch_size=8, mean=(0, 0, 0), std=(1, 1, 1), max_bytes=1)
        self.weight = torch.nn.Parameter(torch.ones(()), requires_grad=False)

    def _item_bytes(self, size):
        return 1

    def _see(self, pixels, classes):
        feats = torch.nn.functional.avg_pool2d(pixels, 8)
        return BackboneOutput(feats.shape[-2:], feats=feats)


class Images:
    """A data set of four grey images."""

    name, class_names = "grey", ("one", "two")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        gt = torch.arange(256).reshape(16, 16).numpy() // 128
        return SimpleNamespace(name=str(index), image=torch.rand(3, 16, 16), gt=gt)


def run_compare():
    start = torch.rand(2, 4, 4)
    lpprop.compare(start, size=(16, 16), methods=["bilinear"], repeats=2)


def run_backbone():
    Grey()(torch.rand(4, 3, 16, 16))


def run_references():
    labels = [torch.arange(256).reshape(16, 16) // 128] * 4
    References.from_images(Grey(), torch.rand(4, 3, 16, 16), labels, ["one", "two"])


def run_evaluation():
    evaluate(Images(), {"gt": lambda sample: sample.gt})


@pytest.mark.parametrize("run", [run_compare, run_backbone, run_references, run_evaluation])
def test_what_takes_long_has_a_bar(terminal, run):
    run()
    assert "4/4" in terminal.getvalue() or "4image" in terminal.getvalue()
    assert ("bilinear: 100%" in terminal.getvalue()) == (run is run_compare)
    assert settled(terminal) == []


# The file alone, without the package, whose import takes seconds.
WITHOUT_WIDGETS = f"""
import importlib.util, sys
sys.modules["ipywidgets"] = None
spec = importlib.util.spec_from_file_location("progress", {progress.__file__!r})
sys.modules["progress"] = progress = importlib.util.module_from_spec(spec)
spec.loader.exec_module(progress)
progress._DELAY, progress._INTERVAL = 1e-9, 0
for _ in progress.track(range(3)): pass
"""
WITH_WIDGETS = """
for name in [name for name in sys.modules if name.split(".")[0] == "tqdm"] + ["ipywidgets"]:
    del sys.modules[name]
import ipywidgets
for number in progress.track(range(3)):
    if number == 2:
        shown = [x.value for x in ipywidgets.Widget.widgets.values() if hasattr(x, "max")]
print(shown)
"""


def test_in_a_notebook(tmp_path, monkeypatch):
    """A bar of text where ipywidgets is missing, else a widget; neither warns."""
    pytest.importorskip("ipywidgets")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONWARNINGS", "error,ignore::DeprecationWarning")
    cells = [nbformat.v4.new_code_cell(text) for text in (WITHOUT_WIDGETS, WITH_WIDGETS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    plain, rich = (cell.outputs for cell in notebook.cells)
    assert {output.get("name") for output in plain} == {"stdout"}
    assert "3/3" in "".join(output.text for output in plain)
    views = [x for x in rich if "application/vnd.jupyter.widget-view+json" in x.get("data", {})]
    assert len(views) == 1
    assert [x.text for x in rich if x.output_type == "stream"] == ["[2.0]\n"]
