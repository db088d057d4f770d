"""The site's sources, its extensions, and builds of parts of it; without Sphinx the tests skip."""

import importlib
import io
import sys
import warnings
from pathlib import Path

import pytest

for _package in ("sphinx", "furo", "myst_nb", "sphinx_copybutton", "sphinx_design"):
    pytest.importorskip(_package)

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(DOCS))
check, docstrings, flowchart, public_names = (
    importlib.import_module(f"extensions.{name}")
    for name in ("check", "docstrings", "flowchart", "public_names")
)


def build(source, out, options=None):
    """Build the pages of a folder; return Sphinx's application and its warnings."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    said = io.StringIO()
    with warnings.catch_warnings(), patch_docutils(source), docutils_namespace():
        # Of what its extensions call.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        folders = (source, source, out, out.with_name("trees"))
        app = Sphinx(*folders, "html", options, status=None, warning=said)
        app.build()
    return app, said.getvalue()
