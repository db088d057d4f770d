"""The public surface as text, a line per name: `python tests/api_snapshot.py` writes it anew.

Names, parameters and defaults are part of a method: a change of the file is a change of the API,
and belongs into the changelog.
"""

import inspect
from collections.abc import Iterator
from pathlib import Path

import lpprop
from lpprop.compose import presets
from lpprop.numerics.cg import cg
from lpprop.numerics.ipf import ipf
from lpprop.numerics.sinkhorn import sinkhorn

FILE = Path(__file__).with_name("api.txt")


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


if __name__ == "__main__":
    FILE.write_text(snapshot(), encoding="utf-8")
