"""What stands in several files about the project agrees: Pythons, pins, workflows, targets."""

import datetime
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import lpprop

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = {path.name: path.read_text() for path in (ROOT / ".github/workflows").iterdir()}
PREFIX = "Programming Language :: Python :: 3."
PYTHONS = [
    line.removeprefix(PREFIX[:-2])
    for line in PROJECT["project"]["classifiers"]
    if line.startswith(PREFIX)
]
workflows = pytest.mark.parametrize("name", WORKFLOWS)


def jobs(name):
    return yaml.safe_load(WORKFLOWS[name])["jobs"]


def steps(name):
    return [step for job in jobs(name).values() for step in job["steps"]]


def canonical(requirement):
    return re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-")


def test_the_pythons_that_are_claimed():
    lowest = PYTHONS[0]
    assert PROJECT["project"]["requires-python"] == f">={lowest}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == lowest
    assert f"Python {lowest} or newer" in (ROOT / "README.md").read_text()
    matrix = {job: jobs("tests.yml")[job]["strategy"]["matrix"] for job in ("test", "install")}
    assert matrix["test"]["python"] == PYTHONS
    assert matrix["install"]["python"] == [lowest, PYTHONS[-1]]


def test_every_direct_dependency_is_pinned():
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        wanted += extra
    wanted = {canonical(requirement) for requirement in wanted} - {"lpprop"}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonical(line) for line in lines if re.fullmatch(r"[\w.-]+==\S+", line)}
    assert wanted <= pinned
    assert len(pinned) == len([line for line in lines if not line.startswith("#")])


@workflows
def test_actions_are_pinned_by_commit(name):
    lines = [line for line in WORKFLOWS[name].splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert re.fullmatch(r" +- uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@workflows
def test_permissions_are_the_least(name):
    assert yaml.safe_load(WORKFLOWS[name])["permissions"] == {"contents": "read"}
    more = {job: what["permissions"] for job, what in jobs(name).items() if "permissions" in what}
    assert more == ({"publish": {"id-token": "write"}} if name == "release.yml" else {})
    for step in steps(name):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"] == {"persist-credentials": False}


@workflows
def test_commands_name_what_exists(name):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M).group(1).split()
    for command in (step["run"] for step in steps(name) if "run" in step):
        program, *arguments = command.split()
        if program == "make":
            assert arguments[0] in targets
        elif program == "python" and arguments[0] != "-m":
            assert (ROOT / arguments[0]).is_file()
        else:
            assert command in {
                "python -m pip install .",
                'test -f "dist/lpprop-${GITHUB_REF_NAME#v}.tar.gz"',
            }


def test_the_other_files_are_well_formed():
    for path in [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert isinstance(yaml.safe_load(path.read_text()), dict), path


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_the_demo_installs_what_it_needs_and_the_tests_install_all(tmp_path):
    def installed(target):
        line = ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=True)
        return [line for line in done.stdout.splitlines() if "/pip install" in line]

    (demo,) = installed("demo")
    assert demo.endswith(" -e '.[demo]'")
    first, *others = installed("test")
    assert first == demo
    assert "-e '.[demo,dev]'" in others[0]
    assert "pydensecrf2" in others[-1]


@pytest.mark.parametrize("name", ["README.md", "docs/getting_started.md"])
def test_the_extras_that_pages_name(name):
    found = re.findall(r"'\.\[([\w,-]+)\]'", (ROOT / name).read_text(encoding="utf-8"))
    named = {extra for extras in found for extra in extras.split(",")}
    assert named
    assert named <= set(PROJECT["project"]["optional-dependencies"])


def test_the_version_and_its_date_are_one_everywhere():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", changelog, re.MULTILINE)
    assert [f"## {' - '.join(x)}" for x in releases] == re.findall(r"^## \d.*$", changelog, re.M)
    version, date = releases[0]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    archived = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    assert version == lpprop.__version__ == cited["version"] == archived["version"]
    assert cited["date-released"] == datetime.date.fromisoformat(date)
    assert archived["publication_date"] == date
    dates = [date for _, date in releases]
    assert dates == sorted(dates, reverse=True)


def test_the_citation_and_the_package_describe_one_thing():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    archived = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
    project = PROJECT["project"]
    # What the format's version 1.2.0 requires, and what Zenodo does of software.
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
    assert {"title", "creators", "description", "upload_type", "access_right"} <= set(archived)
    assert cited["title"] == project["name"]
    assert cited["license"] == archived["license"] == project["license"]
    names = [author["name"] for author in project["authors"]]
    assert [author["name"] for author in cited["authors"]] == names
    assert [author["name"] for author in archived["creators"]] == names
    assert archived["keywords"] == project["keywords"]
