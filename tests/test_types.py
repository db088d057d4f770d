"""What editors and mypy see: options of modules and presets, by name and type."""

import re
import subprocess
import sys

SNIPPET = """\
import lpprop
from torch import Tensor, rand

right = lpprop.PatchPropagation(k=3, storage="csr")
size: float = right.patch_size
chain: lpprop.Chain = lpprop.presets.lposs_plus(feats_from="dinov2", r=9)
scores: Tensor = chain(rand(1, 2, 3, 4), feats=rand(1, 2, 3, 4))
scores = lpprop.PAMR()(scores, image=rand(1, 3, 8, 8))
needs: tuple[str, ...] = lpprop.presets.kl.needs
made: type[lpprop.models.Segmenter] = lpprop.models.Segmenter
backbone: lpprop.backbones.Backbone
metrics = lpprop.evaluation.SegmentationMetrics(classes=3)
number: float = metrics.miou
rows: list[lpprop.comparison.Row] = lpprop.compare(rand(2, 3, 4), size=(9, 9)).rows
picture = lpprop.viz.overlay(rand(3, 8, 8), [[0]], 2)
page = lpprop.show(rand(3, 8, 8), [[0]], ["cat"])
page.save("page.png")
solved = lpprop.numerics.cg.cg
loaded = lpprop.io.images.load_image
tree = lpprop.evaluation.datasets.load_dataset
lpprop.refin  # wrong
lpprop.viz.overlays  # wrong
lpprop.show(rand(3, 8, 8), [[0]], side="480")  # wrong
lpprop.PatchPropagation(kk=3)  # wrong
lpprop.PAMR(iterations="5")  # wrong
lpprop.DenseCRF(5)  # wrong
lpprop.presets.pamr(iteration=3)  # wrong
lpprop.presets.lposs(feats_from="dinov3")  # wrong
lpprop.presets.bilinear(size=3)  # wrong
"""


def test_mypy_finds_wrong_options_and_no_others(tmp_path):
    file = tmp_path / "snippet.py"
    file.write_text(SNIPPET)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", str(file)]
    found = subprocess.run(mypy, capture_output=True, text=True, cwd=tmp_path, check=False)
    lines = SNIPPET.splitlines()
    wrong = {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}
    errors = re.findall(r"^snippet\.py:(\d+): error", found.stdout, re.MULTILINE)
    assert {int(line) for line in errors} == wrong, found.stdout + found.stderr
