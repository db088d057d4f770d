"""Check the built site: links, anchors, pictures, and that no page asks another host for anything.

    python docs/extensions/check.py docs/_build/html

Links to other hosts are left alone: nothing is requested.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["find_problems"]

# Elements whose address the browser fetches by itself, and the attribute that holds it.
_FETCHED = {
    "audio": "src", "embed": "src", "iframe": "src", "img": "src", "input": "src", "object": "data",
    "script": "src", "source": "src", "track": "src", "video": "src",
}  # fmt: skip
# Of the links in a page's head, those that are no more than a note.
_NOTES = {"author", "canonical", "genindex", "index", "next", "prev", "search", "top"}


@dataclass
class _Page(HTMLParser):
    """What a page links to, what it fetches, and its anchors."""

    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of an element."""
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.append(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and not set(values.get("rel", "").split()) & _NOTES:
            self.fetched.append(values.get("href", ""))
        elif tag in _FETCHED and values.get(_FETCHED[tag]):
            self.fetched.append(values[_FETCHED[tag]])
        if tag == "img" and not values.get("alt"):
            self.unnamed.append(values.get("src", "")[:60])


def find_problems(root: Path) -> Iterator[str]:
    """Yield a line for everything that is wrong in a folder of pages.

    Args:
        root: the folder that Sphinx built.
    """
    pages = {path: _read(path) for path in sorted(root.rglob("*.html"))}
    if not pages:
        yield f"{root} holds no page"
    for path, page in pages.items():
        name = path.relative_to(root)
        for twice in sorted({x for x in page.anchors if page.anchors.count(x) > 1}):
            yield f"{name}: two elements are #{twice}"
        for address in page.unnamed:
            yield f"{name}: a picture has no alternative text: {address}"
        for address in page.fetched:
            if _is_elsewhere(address):
                yield f"{name}: is fetched from another host: {address}"
        for address in (*page.links, *page.fetched):
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: leads nowhere: {address}"
            elif target in pages and unquote(parts.fragment) not in ["", *pages[target].anchors]:
                yield f"{name}: has no such anchor: {address}"
    for path in sorted(root.rglob("*.css")):
        if "url(http" in path.read_text(encoding="utf-8").replace('"', "").replace("'", ""):
            yield f"{path.relative_to(root)}: fetches from another host"


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _is_elsewhere(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


if __name__ == "__main__":
    problems = list(find_problems(Path(sys.argv[1])))
    print("\n".join(problems) or "every link, anchor and picture is there")
    sys.exit(bool(problems))
