"""The parts of the site: docstrings, links, equations, diagrams, and the check of built pages."""

import doctest
import re
import shutil

import pytest

from site_builds import DOCS, build, check, docstrings, flowchart, public_names


@pytest.mark.parametrize("module", [docstrings, flowchart, public_names], ids=lambda x: x.__name__)
def test_examples_of_the_extensions(module):
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


@pytest.mark.parametrize(
    "line",
    [
        "stop a class when its residual is at most tol |Y_c|.",
        "With Y_ and D^-1/2 w D^-1/2, x * y and **p: \\d, |f_i - f_j|.",
        "*emphasis* is not meant, nor _this_.",
    ],
)
def test_a_docstring_reads_on_the_site_as_it_does_in_help(line):
    text = "\n".join(docstrings.convert([line], "``{}``".format))
    from docutils.core import publish_doctree

    (paragraph,) = publish_doctree(text, settings_overrides={"halt_level": 2}).children
    assert paragraph.astext() == line
    assert len(paragraph.children) == 1  # plain text, without emphasis or links


def test_code_between_backticks_may_go_over_two_lines():
    lines = ["Pass `a=1,", "b=2`, then `c`."]
    assert docstrings.convert(lines, "<{}>".format) == ["Pass <a=1, b=2>, then <c>."]


def project(folder, page):
    """Build a page with the site's own settings; return its HTML and the warnings."""
    conf = (DOCS / "conf.py").read_text(encoding="utf-8")
    conf = conf.replace("Path(__file__).parent", f"Path({str(DOCS)!r})")
    (folder / "conf.py").write_text(conf, encoding="utf-8")
    shutil.copytree(DOCS / "_static", folder / "_static")
    (folder / "index.md").write_text(page, encoding="utf-8")
    _, said = build(folder, folder / "out")
    return (folder / "out" / "index.html").read_text(encoding="utf-8"), said


def test_what_is_wrong_in_a_page_is_a_warning(tmp_path):
    page = """\
# Page

`lpprop.refin`, `lpprop.presets.lpos`, [page](missing.md), [part](#missing), ![picture](missing.png)
and $\\nothing{x}$.

```mermaid
flowchart TD
    a -->|label| b
```
"""
    _, said = project(tmp_path, page)
    for wrong in (
        "lpprop.refin leads nowhere",
        "lpprop.presets.lpos leads nowhere",
        "'missing.md'",
        "'missing'",
        "image file not readable: missing.png",
        "Unknown LaTeX command",
        "not an arrow between names",
    ):
        assert wrong in said
    assert said.count("WARNING") + said.count("ERROR") == 7, said


def test_files_at_the_root_of_the_repository_are_pages(tmp_path):
    (tmp_path / "project").mkdir()
    for name in ("changelog", "contributing", "security"):
        (tmp_path / "project" / f"{name}.md").write_text("---\norphan: true\n---\n# Part\n")
    page = """\
# Page

[a](../CHANGELOG.md), [b](../../CONTRIBUTING.md#part), [c](../SECURITY.md), [d](../README.md#any)
"""
    html, said = project(tmp_path, page)
    assert not said
    links = re.findall(r'href="([^"]*)"><span[^>]*>[abcd]<', html)
    pages = [
        f"project/{page}" for page in ("changelog.html", "contributing.html#part", "security.html")
    ]
    assert links == [*pages, "#"]


def test_equations_and_diagrams_are_part_of_the_page(tmp_path):
    page = """\
# Page

With $x_i$:

```math
y = \\frac{1}{x}
```

```mermaid
flowchart TD
    a --> b
```
"""
    html, said = project(tmp_path, page)
    assert not said
    assert len(re.findall("<math", html)) == 2
    assert "<mfrac>" in html
    assert re.search(r'<svg class="flowchart".*<text[^>]*>a</text>.*<text[^>]*>b</text>', html)


def diagram():
    """The arrows of the architecture, and its drawing."""
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    edges = flowchart.read_edges(re.search(r"```mermaid\n(.*?)\n```", text, re.S)[1].split("\n"))
    return edges, flowchart.draw(edges)


def test_the_diagram_has_every_box_and_every_arrow():
    edges, drawn = diagram()
    names = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    assert sorted(names) == sorted({name for edge in edges for name in edge})
    assert drawn.count('class="arrow"') == len(edges)


def test_boxes_do_not_overlap_and_arrows_lead_down_from_box_to_box():
    edges, drawn = diagram()
    found = re.findall(
        r'<rect x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" rx="6"/><text[^>]*>(.*?)<', drawn
    )
    boxes = {name: tuple(map(float, box)) for *box, name in found}
    for first, (x, y, width, _) in boxes.items():
        assert x >= 0
        for second, (left, top, wide, _) in boxes.items():
            if first != second and y == top:
                assert x + width < left or left + wide < x
    paths = re.findall(r'class="arrow" d="M(.*?)"', drawn)
    for (first, second), path in zip(edges, paths, strict=True):
        numbers = [float(number) for number in re.split("[ C]", path)]
        (x, y, width, height), (left, top, wide, _) = boxes[first], boxes[second]
        assert numbers[:2] == pytest.approx([x + width / 2, y + height], abs=0.1)
        assert numbers[-2:] == pytest.approx([left + wide / 2, top], abs=0.1)
        assert top > y


GOOD = '<html><body id="top"><a href="b.html#c">b</a><img src="i.png" alt="an i"></body></html>'
BAD = {
    '<a href="c.html">c</a>': "a.html: leads nowhere: c.html",
    '<a href="b.html#d">b</a>': "a.html: has no such anchor: b.html#d",
    '<a href="#d">d</a>': "a.html: has no such anchor: #d",
    '<img src="j.png" alt="a j">': "a.html: leads nowhere: j.png",
    '<img src="i.png">': "a.html: a picture has no alternative text: i.png",
    '<script src="https://a.b/c"></script>': "a.html: is fetched from another host: https://a.b/c",
    '<img src="//a.b/c.png" alt="c">': "a.html: is fetched from another host: //a.b/c.png",
    '<link rel="icon" href="http://a.b/c">': "a.html: is fetched from another host: http://a.b/c",
    '<p id="top">': "a.html: two elements are #top",
}


@pytest.mark.parametrize("html", ["", '<a href="https://a.b/c">c</a>', *BAD])
def test_the_check_finds_what_is_wrong_and_nothing_else(tmp_path, html):
    (tmp_path / "a.html").write_text(GOOD.replace("</body>", f"{html}</body>"))
    (tmp_path / "b.html").write_text('<html><p id="c">c</p></html>')
    (tmp_path / "i.png").touch()
    assert list(check.find_problems(tmp_path)) == ([BAD[html]] if html in BAD else [])


def test_the_check_wants_pages_and_reads_style_sheets(tmp_path):
    assert list(check.find_problems(tmp_path)) == [f"{tmp_path} holds no page"]
    (tmp_path / "a.html").write_text("<html></html>")
    (tmp_path / "a.css").write_text('@font-face { src: url("https://a.b/c.woff2"); }')
    assert list(check.find_problems(tmp_path)) == ["a.css: fetches from another host"]
