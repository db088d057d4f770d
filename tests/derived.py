"""Write what the repository derives from its code: `make derived`.

- Type stubs of what takes its options from functions, which editors and mypy cannot see through.
- The public surface, a line per name. Names, parameters and defaults are part of a method: a change
  of tests/api.txt is a change of the API, and belongs into the changelog.
- The README's table of methods, and the table of commands in docs/command_line.md.
- What `lpprop --help` lists of the tables, which it cannot wait for: cli/listing.json.
- The version and the date in CITATION.cff, and Zenodo's metadata from it.
"""

import inspect
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import lpprop
from lpprop import cli
from lpprop._core.refiner import Refiner
from lpprop.cli import listing
from lpprop.compose import presets
from lpprop.numerics.cg import cg
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

ROOT = Path(__file__).parents[1]
SOURCE = Path(lpprop.__file__).parent
COMMANDS = ROOT / "docs" / "command_line.md"
HEAD = """\
# Written by tests/derived.py from the signatures of the functions.
# mypy: disable-error-code="override"
"""
IMPORTS = {
    "Sequence": "from collections.abc import Sequence",
    "Any": "from typing import Any",
    "Literal": "from typing import Literal",
}


def face() -> str:
    """Return the stub of `lpprop`: where each name comes from."""
    homes = {"__version__": "_version"} | dict.fromkeys(lpprop.refiners.__all__, "refiners")
    homes |= lpprop._NAMES | dict.fromkeys(lpprop._PACKAGES, "")
    lines = [
        f"from {f'lpprop.{home}'.removesuffix('.')} import {name} as {name}"
        for name, home in homes.items()
    ]
    return stub(lines, [f"__all__ = {lpprop.__all__}"])


def refiners() -> str:
    """Return the stub of `lpprop.refiners`: functions as they are, constructors spelt out."""
    lines, classes = [], []
    for name in lpprop.refiners.__all__:
        found = getattr(lpprop.refiners, name)
        if not inspect.isclass(found):
            lines.append(f"from {found.__module__} import {name} as {name}")
            continue
        options = parameters(found)
        classes.append(f"class {name}(Refiner):")
        classes += [f"    {option}: {kind}" for option, kind, _ in options]
        classes += ["", f"    def __init__({signature(options)}) -> None: ...", ""]
    lines.append("from lpprop._core.refiner import Refiner")
    return stub(lines, [f"__all__ = {lpprop.refiners.__all__}", *classes])


def preset_table() -> str:
    """Return the stub of `lpprop.presets`: what is in the table, and a type for each row."""
    lines = ["from typing import Literal", "from lpprop.compose.chain import Chain"]
    lines += [
        f"from {'lpprop.compose.presets.table'} import {name} as {name}"
        for name in ("FEATS_FROM", "METHODS", "by_name", "find", "markdown_table")
    ]
    lines.append("from lpprop.compose.presets.preset import Preset as Preset")
    rows = []
    for preset in presets.METHODS.values():
        kinds = {
            "temperature": "float | None",
            "feats_from": f"Literal[{', '.join(map(repr, preset.feats_from))}]",
        }
        for step, names in preset.names():
            kinds |= {names[option]: kind for option, kind, _ in parameters(step)}
        options = [(name, kinds[name], default) for name, default in preset.options.items()]
        kind = f"_{preset.python_name}".title().replace("_", "")
        rows.append(f"class _{kind}(Preset):")
        rows.append(f"    def __call__({signature(options)}) -> Chain: ...")
        rows += ["", f"{preset.python_name}: _{kind}", ""]
    return stub(lines, rows)


def parameters(refiner: type[Refiner]) -> list[tuple[str, str, object]]:
    """List name, type and default of a refiner's options."""
    of = inspect.signature(refiner).parameters.values()
    return [(x.name, str(x.annotation), x.default) for x in of]


def signature(options: list[tuple[str, str, object]]) -> str:
    """Write keywords with types and defaults."""
    keywords = [f"{name}: {kind} = {default!r}" for name, kind, default in options]
    return ", ".join(["self", *(["*", *keywords] if keywords else [])])


def stub(lines: list[str], body: list[str]) -> str:
    """Put the imports that the text needs before it, and format all."""
    text = "\n".join(body)
    lines += [line for name, line in IMPORTS.items() if re.search(rf"\b{name}\b", text)]
    for command in (["check", "--select", "I,RUF022", "--fix", "-q"], ["format", "-q"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", "stub.pyi", "-"]
        source = HEAD + "\n".join(lines) + "\n\n" + text if command[0] == "check" else source
        done = subprocess.run(ruff, input=source, capture_output=True, text=True, check=True)
        source = done.stdout
    return source


def public() -> Iterator[tuple[str, object]]:
    """Yield everything public with its path, but modules and the version."""
    for name in lpprop.__all__:
        found = getattr(lpprop, name)
        if not inspect.ismodule(found) and name != "__version__":
            yield name, found
    for name in presets.__all__:
        found = getattr(presets, name)
        if callable(found):
            yield f"presets.{name}", found
    for solver in (cg, sinkhorn, ipf):
        yield f"numerics.{solver.__name__}.{solver.__name__}", solver


def write(path: str, found: object) -> str:
    """Return a name with its parameters and their defaults, without types."""
    if inspect.isclass(found) and issubclass(found, Exception):
        return f"{path}({found.__base__.__name__})"
    signature = inspect.signature(found)
    bare = [x.replace(annotation=x.empty) for x in signature.parameters.values()]
    return f"{path}{inspect.Signature(bare)}"


def snapshot() -> str:
    """Return the whole surface."""
    return "".join(f"{write(path, found)}\n" for path, found in public())


def listed() -> str:
    """Return what help and completion read in place of the tables."""
    return json.dumps(listing.read_tables(), ensure_ascii=False, indent=1) + "\n"


def between(path: Path, name: str, text: str) -> str:
    """Return a page with the text between its marks of this name."""
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, rest = path.read_text(encoding="utf-8").split(begin)
    return before + begin + text + end + rest.split(end.lstrip())[1]


def readme() -> str:
    """Return the README with the table of methods as it is now."""
    return between(ROOT / "README.md", "methods", presets.markdown_table())


def commands() -> str:
    """Return the page of the command line with the commands of now."""
    (group,) = cli.build_parser()._subparsers._group_actions
    rows = [f"| `lpprop {row.dest}` | {row.help} |" for row in group._choices_actions]
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    return between(COMMANDS, "commands", table)


def citation() -> str:
    """Return CITATION.cff with the version, and with the date of the changelog's last release."""
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    date = re.search(r"^## \d[\d.]* - (\S+)$", changelog, re.MULTILINE)[1]
    text = re.sub(r"^version: .*$", f"version: {lpprop.__version__}", text, flags=re.MULTILINE)
    return re.sub(r"^date-released: .*$", f"date-released: {date}", text, flags=re.MULTILINE)


def zenodo() -> str:
    """Return what Zenodo reads when it archives a release, as its API documents the fields."""
    import yaml

    cited = yaml.safe_load(citation())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    fields = {
        "title": f"{cited['title']}: refinement of open-vocabulary segmentation",
        "description": cited["abstract"],
        "creators": [{"name": author["name"]} for author in cited["authors"]],
        "upload_type": "software",
        "access_right": "open",
        "license": cited["license"],
        "version": cited["version"],
        "publication_date": str(cited["date-released"]),
        "language": "eng",
        "keywords": project["keywords"],
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


DERIVED = {
    SOURCE / "__init__.pyi": face,
    SOURCE / "refiners" / "__init__.pyi": refiners,
    SOURCE / "compose" / "presets" / "__init__.pyi": preset_table,
    SOURCE / "cli" / "listing.json": listed,
    ROOT / "tests" / "api.txt": snapshot,
    ROOT / "README.md": readme,
    COMMANDS: commands,
    ROOT / "CITATION.cff": citation,
    ROOT / ".zenodo.json": zenodo,
}

if __name__ == "__main__":
    for path, make in DERIVED.items():
        path.write_text(make(), encoding="utf-8")
