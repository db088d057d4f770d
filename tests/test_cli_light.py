"""What the command line answers before torch is there, and that it says the same as after."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout

import pytest

import lpprop.interaction.controls
import lpprop.models  # so that the tables themselves are read here
from lpprop import cli
from lpprop.cli import build_parser, listing
from lpprop.compose.presets import METHODS, Preset

COMMANDS = list(build_parser()._subparsers._group_actions[0].choices)
# Anything that takes long: over 30 ms, or not needed to print a text.
HEAVY = {"PIL", "cv2", "jaxtyping", "kornia", "numpy", "scipy", "torch", "tqdm", "transformers"}

# Runs one command in a fresh interpreter; what it prints, its exit code and what it has imported.
SCRIPT = """
import contextlib, io, json, sys
out = io.StringIO()
with contextlib.redirect_stdout(out):
    from lpprop.cli import main
    try:
        code = main(sys.argv[1:])
    except SystemExit as error:
        code = error.code or 0
print(json.dumps([out.getvalue(), code, sorted(sys.modules)]))
"""


def fresh(*argv):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *argv], capture_output=True, text=True, check=False,
        env=os.environ | {"COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said, code, modules = json.loads(done.stdout)
    return said, code, {name.partition(".")[0] for name in modules}, done.stderr


def here(*argv):
    """What the command prints in this process, where the tables are imported."""
    out = io.StringIO()
    with redirect_stdout(out), pytest.raises(SystemExit):
        cli.main(argv)
    return out.getvalue()


@pytest.mark.parametrize("argv", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy_and_reads_as_the_tables_do(argv, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said, code, modules, _ = fresh(*argv, "--help")
    assert code == 0
    assert not modules & HEAVY
    assert said == here(*argv, "--help")


def test_version_and_wrong_usage_import_nothing_heavy():
    said, code, modules, _ = fresh("--version")
    assert (said, code) == (f"lpprop {lpprop.__version__}\n", 0)
    assert not modules & HEAVY
    _, code, modules, errors = fresh("refine", "a.png", "--logit", "a.npy")
    assert code == 2
    assert "the following arguments are required: --out" in errors
    assert not modules & HEAVY


def test_the_package_itself_imports_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, lpprop; dir(lpprop); print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    modules = done.stdout.split()
    assert not {name.partition(".")[0] for name in modules} & HEAVY
    assert len([name for name in modules if name.startswith("lpprop")]) < 8


def test_a_table_that_is_imported_is_read_itself(monkeypatch):
    row = Preset("mine", (lpprop.BilinearUpsample,), paper="Nobody", note="a row of a user's own")
    assert "mine" not in here("refine", "--help")
    monkeypatch.setitem(METHODS, "mine", row)
    assert "  mine             a row of a user's own (needs nothing)\n" in here("refine", "--help")
    assert listing.options("mine") == []


def test_what_an_option_may_be_is_what_its_error_says():
    options = {row.name: row for row in listing.options("lposs+")}
    assert options["k"].default == "400"
    assert options["k"].allowed == 'an integer >= 1, or "auto"'
    assert options["k"].tuned == "0.3 to 100 % of the patches"
    assert options["alpha"].tuned == "0.1 to 0.99"
    assert options["max_iter"].tuned == ""
    with pytest.raises(lpprop.InputError, match=options["alpha"].allowed.partition("[")[0]):
        lpprop.presets.lposs_plus(alpha="none")
