"""A part of the site as Sphinx builds it: complete, and right in a browser."""

import contextlib
import html
import importlib
import inspect
import re

import pytest

import derived
import lpprop
from browser import browsing, visit
from site_builds import DOCS, build, check

# The whole reference, and one guide with equations; `make docs` builds all.
PAGES = ["reference/*", "label_propagation.md"]
PACKAGES = (
    "backbones", "comparison", "evaluation", "evaluation.analyses", "evaluation.datasets",
    "evaluation.tuning", "integrations", "integrations.huggingface", "integrations.mmsegmentation",
    "models", "refiners", "regions", "viz",
)  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built pages, and the names that they document."""
    out = tmp_path_factory.mktemp("site") / "html"
    options = {
        "include_patterns": PAGES,
        "root_doc": "reference/index",
        # Of links to the pages that are left out.
        "suppress_warnings": ["myst.xref_missing", "toc.not_included"],
    }
    app, said = build(DOCS, out, options)
    assert not said
    return out, set(app.env.domains.python_domain.objects)


def test_every_public_name_is_in_the_reference(site):
    _, documented = site
    objects = [resolve(path) for path in documented]
    public = {f"lpprop.{path}": value for path, value in derived.public()}
    for package in PACKAGES:
        found = importlib.import_module(f"lpprop.{package}")
        public |= {f"lpprop.{package}.{name}": getattr(found, name) for name in found.__all__}
    missing = [path for path, value in public.items() if not any(x is value for x in objects)]
    assert not missing, "name them in a page of docs/reference"


def resolve(path):
    """The object of a documented path; None for an attribute that instances alone have."""
    value = lpprop
    for name in path.split(".")[1:]:
        value = getattr(value, name, None)
    return value


def test_signatures_have_types_and_shapes_and_docstrings_their_examples(site):
    page = (site[0] / "reference" / "refiners.html").read_text(encoding="utf-8")
    for name, function in inspect.getmembers(lpprop.refiners, inspect.isfunction):
        entry = page.split(f'id="lpprop.{name}"')[1].split('<dl class="py')[0]
        text = squeeze(html.unescape(re.sub("<[^>]*>", "", entry)))
        for parameter in inspect.signature(function).parameters.values():
            assert squeeze(f"{parameter.name}: {parameter.annotation}") in text
        assert all(part in text for part in ("Returns:", "Raises:", ">>>"))


def squeeze(text):
    """A text without blanks, and with one kind of quotes."""
    return re.sub(r"\s", "", text).replace('"', "'")


def test_links_anchors_and_pictures_are_there(site):
    problems = [x for x in check.find_problems(site[0]) if not x.startswith("label_propagation")]
    assert not problems


# --------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture
def open_page(browser, site):
    """A function that opens a page from the disk; nothing else may be asked for."""
    with contextlib.ExitStack() as stack:
        opened = []

        def open_(address, **options):
            url = f"{site[0].as_uri()}/{address}"
            opened.append(stack.enter_context(visit(browser, url, **options)))
            return opened[-1].page

        yield open_
        for watched in opened:
            assert not watched.foreign


def test_search_works_from_the_disk(open_page):
    page = open_page("label_propagation.html")
    page.get_by_placeholder("Search").first.fill("conjugate gradients")
    page.keyboard.press("Enter")
    found = page.locator("#search-results li a")
    found.first.wait_for()
    assert "label_propagation.html" in " ".join(x.get_attribute("href") for x in found.all())
    page = open_page("search.html?q=propagate_pixels")
    found = page.locator("#search-results li a")
    found.first.wait_for()
    found.first.click()
    assert page.url.endswith("reference/refiners.html#lpprop.propagate_pixels")


@pytest.mark.parametrize("address", ["label_propagation.html", "reference/refiners.html"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_page_is_as_wide_as_the_window_and_its_pictures_are_there(open_page, address, width):
    page = open_page(address, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every((image) => image.naturalWidth)")


def test_equations_are_drawn(open_page):
    boxes = open_page("label_propagation.html").evaluate(
        "[...document.querySelectorAll('math')].map((x) => x.getBoundingClientRect().height)"
    )
    assert len(boxes) > 10
    assert min(boxes) > 8
    assert max(boxes) > 40  # fractions and sums stand above each other


def test_text_and_diagrams_can_be_read_in_the_dark(open_page):
    light, dark = (
        open_page("label_propagation.html", color_scheme=scheme).evaluate(
            "[document.body, document.querySelector('math')].map((x) => getComputedStyle(x))"
            ".map((style, i) => i ? style.color : style.backgroundColor)"
        )
        for scheme in ("light", "dark")
    )
    for background, text in (light, dark):
        first, second = (
            sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (background, text)
        )
        assert abs(first - second) > 300
    assert light[0] != dark[0]
