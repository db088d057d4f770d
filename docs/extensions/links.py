"""Links that leave docs/, and code that names what the reference has."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

from extensions.public_names import documented_name

__all__ = ["NamesInCode", "setup"]

_logger = logging.getLogger(__name__)

# The pages of the site that stand for files at the root of the repository.
_PAGES = {
    "CHANGELOG": "/project/changelog.md",
    "CONTRIBUTING": "/project/contributing.md",
    "README": "/index.md",
    "SECURITY": "/project/security.md",
}
_LINK = re.compile(rf"(?<=\]\()(?:\.\./)+({'|'.join(_PAGES)})\.md(#[\w-]+)?(?=\))")


def _lead_to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Replace links to files at the root by links to their pages."""

    def link(match: re.Match[str]) -> str:
        anchor = "" if match[1] == "README" else match[2] or ""  # other headings stand there
        return _PAGES[match[1]] + anchor

    source[0] = _LINK.sub(link, source[0])


class NamesInCode(SphinxTransform):
    """Link code such as `lpprop.refine` in the text of a page to the reference."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Wrap each literal that names something public."""
        if self.env.docname == "project/changelog":  # it tells of names that are gone
            return
        for node in list(self.document.findall(nodes.literal)):
            if isinstance(node.parent, nodes.reference | addnodes.pending_xref | nodes.title):
                continue
            try:
                path = documented_name(node.astext())
            except LookupError as error:
                _logger.warning("%s", error, location=node)
                continue
            if path:
                link = addnodes.pending_xref(
                    "", refdomain="py", reftype="obj", reftarget=path, refexplicit=True,
                    refdoc=self.env.docname,
                )  # fmt: skip
                node.replace_self(link)
                link += node


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect both."""
    app.connect("source-read", _lead_to_pages)
    app.add_transform(NamesInCode)
    return {"parallel_read_safe": True}
