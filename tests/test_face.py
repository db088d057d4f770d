"""The face of the package: what `import lpprop` gives, what `dir` shows, what the docs name."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lpprop

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.ipynb")]
PACKAGES = ("backbones", "batch", "cluster", "comparison", "evaluation", "integrations", "io",
            "models", "numerics", "presets", "regions", "tiled", "video", "viz")  # fmt: skip


def fresh(script):
    """Run a script in a fresh interpreter; return what it prints as JSON."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def named():
    """Every dotted name of a public package in the docs."""
    found = {
        name
        for page in PAGES
        for name in re.findall(r"\blpprop(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8"))
    }
    return sorted(name for name in found if name.split(".")[1] in (*PACKAGES, *lpprop.__all__))


def test_every_name_in_the_docs_is_there_after_a_bare_import():
    names = named()
    assert "lpprop.models.Segmenter" in names
    assert "lpprop.integrations.huggingface.refine_outputs" in names
    missing = fresh(
        "import json, operator, lpprop\n"
        "missing = []\n"
        f"for name in {names!r}:\n"
        "    try:\n"
        "        operator.attrgetter(name.partition('.')[2])(lpprop)\n"
        "    except AttributeError as error:\n"
        "        missing.append(str(error))\n"
        "print(json.dumps(missing))"
    )
    assert missing == []


def test_packages_and_what_is_in_them_without_an_import_of_their_own():
    names = [
        "viz.overlay", "show", "viz.figures", "viz.sheets", "viz.drawing.overlay", "viz.colours",
        "viz.palettes.colours", "evaluation.datasets", "evaluation.analyses", "models.Segmenter",
        "models.RECIPES", "integrations.huggingface", "integrations.mmsegmentation", "io.files",
        "io.arrays", "io.label_maps", "io.images", "numerics.cg.cg", *PACKAGES,
    ]  # fmt: skip
    listed = ", ".join(f"lpprop.{name}" for name in names)
    assert len(fresh(f"import json, lpprop; print(json.dumps([*map(repr, [{listed}])]))")) > 20


def test_what_does_not_exist_says_so_and_names_what_is_near():
    with pytest.raises(AttributeError, match=r"^module 'lpprop' has no attribute 'segmenter'$"):
        _ = lpprop.segmenter
    assert not hasattr(lpprop.viz, "overlays")
    done = subprocess.run(
        [sys.executable, "-c", "import lpprop; lpprop.refin"], capture_output=True, text=True
    )
    assert "has no attribute 'refin'. Did you mean: 'refine'?" in done.stderr


def test_dir_shows_what_is_public_and_nothing_else():
    shown, presets = fresh(
        "import json, lpprop; print(json.dumps([dir(lpprop), dir(lpprop.presets)]))"
    )
    assert shown == sorted({*lpprop.__all__, *PACKAGES})
    assert presets == sorted(lpprop.presets.__all__)
    # Nor does it change when the packages have been imported.
    after = fresh(
        "import json, lpprop, lpprop.cli, lpprop.models, lpprop.integrations.huggingface\n"
        "print(json.dumps(dir(lpprop)))"
    )
    assert after == shown
    assert all(hasattr(lpprop, name) for name in shown)


def test_packages_are_imported_when_they_are_asked_for():
    loaded = fresh("import json, sys, lpprop; dir(lpprop); print(json.dumps(sorted(sys.modules)))")
    for name in ("backbones", "evaluation", "integrations", "models", "viz.drawing"):
        assert f"lpprop.{name}" not in loaded
    assert "PIL" not in loaded
