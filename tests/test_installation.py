"""docs/installation.md says what pyproject.toml says: Pythons, versions, extras, packages."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGE = (ROOT / "docs" / "installation.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (`[\w-]+`(?:, `[\w-]+`)*) \| .* \| (.+) \|$", re.MULTILINE)
ROWS = [(re.findall(r"[\w-]+", names), brings) for names, brings in ROW.findall(PAGE)]


def canonical(name):
    return name.lower().replace("_", "-")


def test_every_extra_has_its_row():
    assert set(EXTRAS) == {name for names, _ in ROWS for name in names}


def test_the_packages_named_there_are_those_of_the_extra():
    for names, brings in ROWS:
        required = [x for name in names for x in EXTRAS.get(name, ())]
        if names == ["test", "dev"] or not required:
            continue
        wanted = {canonical(re.match(r"[\w.-]+", requirement).group()) for requirement in required}
        assert {canonical(name) for name in brings.split(", ")} <= wanted, names


def test_the_versions():
    assert f"Python {PROJECT['requires-python'].removeprefix('>=')} or newer" in PAGE
    (llvmlite,) = (x for x in PROJECT["dependencies"] if x.startswith("llvmlite"))
    assert f"llvmlite {llvmlite.partition('>=')[2]} or newer" in PAGE


def test_what_pip_is_asked_for_is_there():
    asked = [name for names in re.findall(r"'\.\[([\w,-]+)\]'", PAGE) for name in names.split(",")]
    assert len(asked) >= 4
    assert set(asked) <= set(EXTRAS)
