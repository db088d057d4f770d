"""Every Python block of the README and the docs runs; the blocks of one file share a namespace.

A block is left out where the line before it is the comment `<!-- no-run -->`.
"""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
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


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_the_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for line, code in blocks_of(page.read_text(encoding="utf-8")):
        # Blank lines first, so that a traceback names the line of the page.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_readme_has_blocks_to_run():
    assert len(blocks_of(PAGES[0].read_text(encoding="utf-8"))) >= 2


def test_how_blocks_are_found():
    page = "a\n```python\nx = 1\n```\n<!-- no-run -->\n```python\n1 / 0\n```\n```sh\nls\n```\n"
    assert blocks_of(page + "- b\n  ```python\n  y = x\n  ```\n") == [
        (2, "x = 1\n"),
        (13, "y = x\n"),
    ]


# Kernels are inside: a backend is imported where it is used.
NAME = re.compile(r"`(lpprop(?!\.kernels)(?:\.\w+)+)[`(]")
FOLDER_ROW = re.compile(r"^lpprop (refine|segment|compare|eval|tune) .*--out (\S+)", re.MULTILINE)


def test_the_examples_write_into_different_folders():
    """Results of one command are not for the next one to skip."""
    folders = [folder for _, folder in FOLDER_ROW.findall(PAGES[0].read_text(encoding="utf-8"))]
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
