"""The directives of the reference: `{public}` documents names, `{commands}` the command line."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import stringify_signature

from extensions.docstrings import convert
from extensions.public_names import documented_name, public_names, role
from lpprop._core.refiner import Refiner
from lpprop.cli import build_parser
from lpprop.compose.presets import Preset

__all__ = ["Commands", "Public", "setup"]


class Public(SphinxDirective):
    """Document public names: a table with a line each, then each in full.

    The argument is the path of a module. The lines of the content name what is shown of it, by
    default all that is public there and not in a module below it.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Hand the entries to autodoc, which speaks reStructuredText."""
        module = self.arguments[0]
        paths = [f"{module}.{name.strip()}" for name in self.content] or _of_module(module)
        if unknown := set(paths) - set(public_names()):
            raise self.error(f"{', '.join(sorted(unknown))}: no public name")
        text = [".. list-table::", "   :class: names", "   :widths: auto", ""]
        for path in paths:
            link = f":py:obj:`{path.removeprefix('lpprop.')} <{path}>`"
            if module == "lpprop.refiners" and _is_refiner(public_names()[path]):
                text[-2] += f" {link}"  # beside its function, which says what it does
            else:
                text += [f"   * - {link}", f"     - {_first_sentence(path)}"]
        for path in paths:
            text += ["", *_entry(path)]
        return _parse(self, text)


class Commands(SphinxDirective):
    """Show the help of every command, as the command line prints it."""

    def run(self) -> list[nodes.Node]:
        """Make a section for each command."""
        (commands,) = (
            action
            for action in build_parser()._actions
            if isinstance(action, argparse._SubParsersAction)
        )
        sections: list[nodes.Node] = []
        # Of one width, and without colours, whatever the terminal is.
        os.environ |= {"COLUMNS": "92", "NO_COLOR": "1"}
        for name, parser in commands.choices.items():
            title = f"lpprop {name}"
            section = nodes.section(ids=[nodes.make_id(title)], names=[title])
            section += nodes.title("", title)
            section += nodes.literal_block("", parser.format_help(), language="text")
            sections.append(section)
        return sections


def _of_module(module: str) -> list[str]:
    """List what is public in a module; a refiner's module follows its function."""
    if module == "lpprop.refiners":
        values: dict[Any, str] = {
            value: path for path, value in public_names().items() if _is_refiner(value)
        }
        modules = {value._function.__name__: path for value, path in values.items()}
        return [path for name in sorted(modules) for path in (f"lpprop.{name}", modules[name])]
    return [path for path in public_names() if path.rpartition(".")[0] == module]


def _is_refiner(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Refiner)


def _parse(directive: SphinxDirective, text: list[str]) -> list[nodes.Node]:
    node = nodes.container()
    directive.content.data = ["````{eval-rst}", *text, "````"]
    directive.state.nested_parse(directive.content, directive.content_offset, node)
    return list(node.children)


def _entry(path: str) -> Iterator[str]:
    """Write the directive that documents a name."""
    value = public_names()[path]
    if isinstance(value, Preset):
        yield f".. py:function:: {path}{_write(inspect.signature(value))}"
    elif inspect.isclass(value):
        yield f".. autoclass:: {path}"
        if not issubclass(value, (Refiner, Exception)):
            yield "   :members:"
    elif inspect.isroutine(value):
        yield f".. autofunction:: {path}"
    else:
        yield f".. py:data:: {path}"
    yield ""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        yield from (f"   {line}" for line in convert(_text(path).splitlines(), role))


def _text(path: str) -> str:
    """Return a name's docstring; that of a constant is the comment above it."""
    value = public_names()[path]
    if isinstance(value, Preset) or inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    name = path.rpartition(".")[2]
    for module in [name for name in sys.modules if name.startswith("lpprop.")]:
        if vars(sys.modules[module]).get(name) is value:
            comments = ModuleAnalyzer.for_module(module).find_attr_docs()
            if lines := comments.get(("", name)):
                return "\n".join(lines)
    raise LookupError(f"{path} has no comment that begins with #:")


def _first_sentence(path: str) -> str:
    text = " ".join(_text(path).split("\n\n")[0].split())
    return convert([re.split(r"(?<=[a-z)`])[.:] ", text)[0].rstrip(".:")], role)[0]


def _sign(
    app: Sphinx, what: str, name: str, value: Any, options: Any, signature: str, result: str
) -> tuple[str, str] | None:
    """Write types as the source does."""
    if what not in ("function", "method", "class"):
        return None
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return None
    before, arrow, after = _write(found, bound=what != "method").rpartition(" -> ")
    if what == "class":
        return before or after, ""
    return (before, after) if arrow else (after, "")


def _write(signature: inspect.Signature, *, bound: bool = True) -> str:
    """Write a signature, with defaults to four digits, without the object of a method."""
    parameters = list(signature.parameters.values())
    if not bound and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    parameters = [
        parameter.replace(default=_Shown(f"{parameter.default:.4g}"))
        if isinstance(parameter.default, float)
        else parameter
        for parameter in parameters
    ]
    return stringify_signature(signature.replace(parameters=parameters))


class _Shown:
    """A default that is shown by this text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _skip(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the table of attributes has."""
    return True if (getattr(value, "__doc__", "") or "").startswith("Alias for field") else None


def _find_target(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    """Lead from the file in which a name is defined to where the reference has it."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or not target.startswith("lpprop."):
        return None
    try:
        path = documented_name(target)
    except LookupError:
        return None  # Sphinx warns
    if path is None:  # a type that a user meets, but does not make
        return text
    domain = env.domains.python_domain
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", path, node, text)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register both directives, and how signatures and fields look."""
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.label = "Attributes"
    app.add_directive("public", Public)
    app.add_directive("commands", Commands)
    app.connect("autodoc-process-signature", _sign)
    app.connect("autodoc-skip-member", _skip)
    app.connect("missing-reference", _find_target)
    return {"parallel_read_safe": True}
