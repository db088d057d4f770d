"""Every Python block of the README and the docs runs; the blocks of one file share a namespace.

A block is left out where the line before it is the comment `<!-- no-run -->`. The README's block
loads a model of the hub: here it gets one of the same class, trained where the weights are at hand.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import readme_picture

ROOT = Path(__file__).parents[1]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "getting_started.md"
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [README, *DOCS]
WEIGHTS = ROOT.parent / "shared" / "dinov2-small"
BLOCK = re.compile(
    r"^(?P<skip>[ \t]*<!-- no-run -->[ \t]*\n\s*)?[ \t]*```python\n(?P<code>.*?)^[ \t]*```",
    re.DOTALL | re.MULTILINE,
)


def blocks_of(text):
    """List the (line, code) of the blocks to run."""
    return [
        (text.count("\n", 0, found.start("code")), textwrap.dedent(found["code"]))
        for found in BLOCK.finditer(text)
        if not found["skip"]
    ]


@pytest.mark.parametrize("page", DOCS, ids=[str(page.relative_to(ROOT)) for page in DOCS])
def test_the_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, code in blocks_of(page.read_text(encoding="utf-8")):
        # Blank lines first, so that a traceback names the line of the page.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_readme_runs():
    """On tiny random weights of the checkpoint's class, as it stands."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=70, patch_size=14
    )
    (line_and_code,) = blocks_of(README.read_text(encoding="utf-8"))
    assert line_and_code[1] == readme_picture.block()
    names = readme_picture.run(transformers.Dinov2Model(config).eval())
    assert names["feats"].shape == (1, 32, 35, 52)
    assert names["scores"].shape == (1, 3, 490, 728)
    assert names["scores"].isfinite().all()


@pytest.mark.skipif(not WEIGHTS.is_dir(), reason="no trained weights")
def test_the_readme_shows_what_its_block_makes():
    pytest.importorskip("transformers")
    names = readme_picture.run(readme_picture.trained(WEIGHTS))
    labels = names["scores"].argmax(1)[0]
    assert [labels[point].item() for point in names["points"]] == [0, 1, 2, 2]
    assert labels.flatten().bincount().min() > 0.1 * labels.numel()
    stored = Image.open(readme_picture.PICTURE)
    assert stored.size == names["picture"].size
    apart = np.abs(np.asarray(stored.convert("RGB"), int) - np.asarray(names["picture"], int))
    # The stored colours are few; a pixel of another class differs by more than a hundred.
    assert (apart.max(-1) > 60).mean() < 0.01, "run python tests/readme_picture.py WEIGHTS"
    assert readme_picture.PICTURE.stat().st_size < 200_000


def test_the_readme_is_short_and_shows_no_noise():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert max(map(len, text.splitlines())) < 120
    assert "torch.rand" not in text


LINK = re.compile(r"\]\((?!https?://)([^)#]+)(?:#([^)]+))?\)")


def anchors(page):
    """List the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [README, GUIDE], ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert len(links) > 15
    for target, anchor in links:
        found = page.parent / target
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), f"{target}#{anchor}"


def test_how_blocks_are_found():
    page = "a\n```python\nx = 1\n```\n<!-- no-run -->\n```python\n1 / 0\n```\n```sh\nls\n```\n"
    assert blocks_of(page + "- b\n  ```python\n  y = x\n  ```\n") == [
        (2, "x = 1\n"),
        (13, "y = x\n"),
    ]


# Kernels are inside: a backend is imported where it is used.
NAME = re.compile(r"`(lpprop(?!\.kernels)(?:\.\w+)+)[`(]")
FOLDER_ROW = re.compile(r"^lpprop (?:refine|segment|compare|eval|tune) .*--out (\S+)", re.MULTILINE)


def test_the_examples_write_into_different_folders():
    """Results of one command are not for the next one to skip."""
    folders = FOLDER_ROW.findall(GUIDE.read_text(encoding="utf-8"))
    assert len(folders) >= 6
    assert len(set(folders)) == len(folders)


def test_the_names_are_there_after_import_lpprop_alone():
    names = sorted({name for page in PAGES for name in NAME.findall(page.read_text("utf-8"))})
    assert len(names) > 20
    code = "import lpprop, sys\nfor name in sys.argv[1:]:\n    eval(name)"
    done = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
