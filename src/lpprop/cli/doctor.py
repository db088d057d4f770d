"""`lpprop doctor`."""

from __future__ import annotations

import argparse

from lpprop.cli.arguments import add_command

__all__ = ["add_doctor"]

_HELP = """\
Tell what is installed and what works: versions, backends, devices, extras and weights, with the
line that installs what is missing. The backends are tried on a small image, and nothing is
downloaded. The text can be pasted into a report: the home folder is written as ~.

A line that begins with ! tells of something that is required and does not work; the exit code is
then 1."""

_EXAMPLE = """\
example:
  lpprop doctor"""


def add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    add_command(
        commands, "doctor", _doctor,
        short="tell what is installed, what works and what is missing", description=_HELP,
        example=_EXAMPLE, computes=False,
    )  # fmt: skip


def _doctor(arguments: argparse.Namespace) -> int:
    from lpprop.cli.checkup import SECTIONS, hide_paths

    broken = 0
    for title, check in SECTIONS.items():
        print(f"{title}:")
        for finding in check():
            broken += finding.broken
            mark = "!" if finding.broken else " "
            print(hide_paths(f"{mark} {finding.name:<18} {finding.state}"))
            if finding.fix:
                print(hide_paths(f"  {'':<18} {finding.fix}"))
        print()
    if broken:
        print(f"{broken} required {'thing does' if broken == 1 else 'things do'} not work: see !")
        return 1
    print("Everything that is required works.")
    return 0
