"""The notebooks run from a clean kernel, and what is stored in them is what their code shows."""

import importlib.util
import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
for _package in ("nbclient", "ipykernel", "matplotlib", "efficientnet_lite_pytorch", "skimage"):
    pytest.importorskip(_package)

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [
    "compare_and_tune",
    "dslo_step_by_step",
    "interactive_segmentation",
    "quickstart",
    "vision_transformer",
    "your_own_model",
]

# Of the machine that ran it; a place in memory is one, too.
TRACE = re.compile(
    r"/(?:home|root|tmp|usr|opt|work|Users|mnt|var)/|[A-Z]:\\|\b0x[0-9a-f]{6,}", re.I
)
TIME = re.compile(r"time \(ms\)|\d\s?(?:ms|s|seconds|minutes)\b")
CAVEAT = "of the machine that ran this"
IN_A_PICTURE = re.compile(r"base64,[A-Za-z0-9+/=]+")

spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output):
    """What of an output is text, without the pictures in it."""
    parts = [output.get("text", ""), *output.get("data", {}).values()]
    kinds = ["text", *output.get("data", {})]
    return "\n".join(
        IN_A_PICTURE.sub("", part)
        for kind, part in zip(kinds, parts, strict=True)
        if not kind.startswith("image/")
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_a_clean_kernel(path, tmp_path, monkeypatch):
    # Neither settings of the user nor warnings that a kernel would let pass.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONWARNINGS", "error,ignore::DeprecationWarning")
    committed = nbformat.read(path, as_version=4)
    notebook = tool.with_side(committed, 128)
    tool.execute(notebook, tmp_path, timeout=120)
    assert [cell.source for cell in committed.cells] == [
        re.sub(r"^SIDE = 128\b", f"SIDE = {side_of(committed)}", cell.source)
        for cell in notebook.cells
    ]
    for before, after in zip(code_cells(committed), code_cells(notebook), strict=True):
        assert [kinds(x) for x in before.outputs] == [kinds(x) for x in after.outputs], after.source
        assert not [x for x in after.outputs if x.get("name") == "stderr"], after.outputs


def kinds(output):
    """An output's type, and what it holds: pictures are stored in another format than they come."""
    held = {kind.split("/")[0] for kind in output.get("data", {})}
    return output.output_type, "image" if "image" in held else sorted(held)


def side_of(notebook):
    (cell,) = [x for x in notebook.cells if tool.PARAMETERS in x.metadata.get("tags", ())]
    return int(re.search(r"SIDE = (\d+)", cell.source)[1])


def test_these_are_the_notebooks():
    assert [path.stem for path in NOTEBOOKS] == NAMES
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"({name}.ipynb)" in page for name in NAMES)


def test_the_outputs_are_those_of_this_code(notebook):
    assert notebook.metadata["executed"] == tool.fingerprint(notebook), (
        "run docs/notebooks/execute.py"
    )
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_are_there(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    pictures = [x for x in outputs if {"image/png", "image/jpeg"} & set(x.get("data", {}))]
    assert len(pictures) >= 4
    assert code_cells(notebook)[-1].outputs


def test_no_output_is_an_error_or_a_warning(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", output
            assert output.get("name") != "stderr", output
            assert "Traceback" not in texts(output)
            assert not re.search(r"\w+Warning\b", texts(output)), output


def test_no_trace_of_a_machine(notebook):
    for cell in notebook.cells:
        for text in (cell.source, *(texts(output) for output in cell.get("outputs", ()))):
            assert not TRACE.search(text), TRACE.search(text)
        assert not set(cell.metadata) - {"tags"}


def test_times_come_with_a_caveat(notebook):
    before = ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            before = cell.source
            continue
        if any(TIME.search(texts(output)) for output in cell.outputs):
            assert CAVEAT in before, cell.source


def test_notebooks_are_small(notebook):
    assert len(nbformat.writes(notebook)) < 650_000


def test_links_lead_somewhere(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\((?!https?:)([^)#]+)", cell.source):
                assert (FOLDER / target).exists(), target
            for name in re.findall(r"`(\w+)`", cell.source):
                assert name not in NAMES or (FOLDER / f"{name}.ipynb").exists()


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (TRACE, "File /home/someone/x.py", True),
        (TRACE, "<object at 0x7f3a1c9d2e50>", True),
        (TRACE, "<PIL.Image.Image image mode=RGB size=320x320>", False),
        (TIME, "lposs  12 ms", True),
        (TIME, "took 0.31 s", True),
        (TIME, "32 x 32 = 1024 patches, 98.2% of the pixels", False),
    ],
)
def test_what_the_patterns_find(pattern, text, found):
    assert bool(pattern.search(text)) == found


def test_a_progress_bar_that_cleared_itself_is_gone():
    def stream(text):
        return nbformat.v4.new_output("stream", name="stderr", text=text)

    assert tool._settled(stream("\rlposs:  50%|##  | 1/2\r           \r")) is None
    assert tool._settled(stream("\r 50%\r    \rUserWarning: x\n")).text == "UserWarning: x\n"
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "50%"}
    assert tool._settled(nbformat.v4.new_output("display_data", data=view)) is None
    assert tool._settled(nbformat.v4.new_output("display_data", data={"text/plain": "1"}))
