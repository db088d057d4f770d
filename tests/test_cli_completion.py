"""`lpprop completion`, in the shells themselves."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from lpprop import cli
from lpprop.cli import listing, main
from lpprop.cli.completion import _LISTED
from test_cli_light import COMMANDS

pytest.importorskip("shtab")

METHODS = [row.name for row in listing.methods()]
# Words that are there, the last of which is completed; and what the shell should offer.
CASES = [
    ("lpprop ref", ["refine"]),
    ("lpprop refine --me", ["--method"]),
    ("lpprop refine --method lposs", ["lposs", "lposs+", "lposs+regions"]),
    ("lpprop refine a.npy --logits log", ["logits.npy"]),
    ("lpprop segment --recipe dinov2", ["dinov2-references"]),
    ("lpprop eval --dataset coco", ["coco-object", "coco-stuff"]),
    ("lpprop eval --images fol", ["folder"]),
    ("lpprop compare a.png --methods pamr gui", ["guided_filter"]),
    ("lpprop compare a.png --palette city", ["cityscapes"]),
    ("lpprop methods clip", ["clip_dinoiser"]),
    ("lpprop completion z", ["zsh"]),
]
SETUP = {
    "zsh": "fpath=($PWD $fpath); autoload -Uz compinit; compinit -u -D",
    "tcsh": "source lpprop.tcsh",
}


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    """A folder with files to complete, and the script of each shell."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logits.npy").touch()
    (tmp_path / "folder").mkdir()
    for shell, name in {"bash": "lpprop.bash", "zsh": "_lpprop", "tcsh": "lpprop.tcsh"}.items():
        assert main(["completion", shell]) == 0
        (tmp_path / name).write_text(capsys.readouterr().out)
    return tmp_path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_names_and_files(place):
    function = """
    source lpprop.bash
    offer() {
        COMP_LINE="$*" COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        _shtab_lpprop lpprop "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}"
    }
    """
    lines = [f"offer {line}" for line, _ in CASES] + ["offer lpprop ''"]
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join([function, *lines])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    *offered, commands = [line.split() for line in done.stdout.splitlines()]
    assert offered == [expected for _, expected in CASES]
    assert set(COMMANDS) <= set(commands)


@pytest.mark.parametrize("shell", SETUP)
@pytest.mark.parametrize("line", ["lpprop refi", "lpprop eval --dataset camv"])
def test_a_shell_completes_at_the_tabulator_key(place, shell, line):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    terminal, other_end = pty.openpty()
    # Not pty.fork, which forks the threads of torch. Who opens a terminal first, controls it.
    tty = os.ttyname(other_end)
    child = subprocess.Popen(
        ["sh", "-c", f"exec {shell} -f -i <{tty} >{tty} 2>&1"],
        env=os.environ | {"TERM": "xterm"}, start_new_session=True,
    )  # fmt: skip
    try:
        # The shell's own echo of the command has the two quotes.
        os.write(terminal, f"{SETUP[shell]}\necho rea''dy\n".encode())
        assert read(terminal, r"ready\r\n")
        os.write(terminal, f"{line}\t".encode())
        assert read(terminal, "refine" if "refi" in line else "camvid")
    finally:
        child.kill()
        child.wait()
        os.close(terminal)
        os.close(other_end)


def read(terminal, pattern):
    """Read what a terminal shows until it shows a pattern, for half a minute at most."""
    shown, end = "", time.monotonic() + 30
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                shown += os.read(terminal, 2**16).decode(errors="replace")
            except OSError:  # the shell has ended
                break
        if re.search(pattern, shown):
            return True
    pytest.fail(f"no {pattern!r} in {shown!r}")


def test_every_argument_with_a_name_is_completed(capsys):
    """Those whose values are in a table, by the names that the commands give them now."""
    named = {
        action.dest
        for command in cli.build_parser()._subparsers._group_actions[0].choices.values()
        for action in command._actions
    }
    assert set(_LISTED) <= named
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for names in (METHODS, listing.recipes(), listing.datasets(), listing.palettes()):
        assert " ".join(names) in script.replace("'", "")


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "korn"])
    assert "invalid choice: 'korn'" in capsys.readouterr().err
