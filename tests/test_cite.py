"""docs/cite.md has an entry for each paper of the registry, and agrees with it and CITATION.cff."""

import re
import unicodedata
from pathlib import Path

import pytest

import lpprop

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "cite.md").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
BLOCK = re.compile(r"^(?:### ([^\n]+)\n\n)?```bibtex\n(.*?)^```", re.DOTALL | re.MULTILINE)
FIELD = re.compile(r"^  (\w+) += \{(.+)\},?$", re.MULTILINE)
CITED = re.compile(r"\[([^]]+), (\d{4})\]\(#([\w-]+)\)")
PLACES = {
    "article": "journal", "inproceedings": "booktitle", "software": "license",
    "techreport": "institution",
}  # fmt: skip


def bare(text):
    """Letters and digits in lower case: without accents, TeX's commands, braces and hyphens."""
    text = re.sub(r"\\[^\w\s]|\\v", "", text)
    plain = unicodedata.normalize("NFKD", text)
    return "".join(x for x in plain.lower() if x.isalnum())


def anchor(heading):
    return heading.lower().replace(" ", "-")


ENTRIES = {
    anchor(heading or "lpprop"): (entry, dict(FIELD.findall(entry)))
    for heading, entry in BLOCK.findall(PAGE)
}
ROWS = {
    name: CITED.findall(line)
    for line in PAGE.splitlines()
    if line.startswith('| `"')
    for name in re.findall(r'`"([^"]+)"`', line.split("|")[1])
}


@pytest.mark.parametrize("name", ENTRIES)
def test_the_entry_is_complete(name):
    entry, fields = ENTRIES[name]
    kind, key = re.match(r"@(\w+)\{([a-z0-9]+),\n", entry).groups()
    assert entry.count("{") == entry.count("}")
    assert len(entry.strip().splitlines()) == len(fields) + 2  # every line is a field
    assert {"title", "author", "year", PLACES[kind]} <= fields.keys()
    assert re.fullmatch(r"\d{4}", fields["year"])
    assert name == "lpprop" or fields["year"] in key
    assert all("," in author or author[0] == "{" for author in fields["author"].split(" and "))


def test_keys_are_unique():
    keys = [entry.split(",")[0] for entry, _ in ENTRIES.values()]
    assert len(set(keys)) == len(keys) == PAGE.count("```bibtex")


def test_every_method_has_its_row_and_every_row_its_entry():
    assert set(ROWS) == set(lpprop.presets.METHODS)
    for _, year, where in CITED.findall(PAGE):
        assert ENTRIES[where][1]["year"] == year
    linked = {where for _, _, where in CITED.findall(PAGE)}
    assert linked == ENTRIES.keys() - {"lpprop"}


def surnames(text):
    """The surnames of "Stojnic et al.", "He, Sun, Tang" or "Araslanov and Roth"."""
    return [bare(x) for x in re.split(r", | and ", text.removesuffix(" et al."))]


@pytest.mark.parametrize("preset", lpprop.presets.METHODS.values(), ids=lambda preset: preset.name)
def test_the_papers_of_the_registry_are_cited(preset):
    """Each part of the column, such as "Kopf et al., SIGGRAPH 2007", has an entry in the row."""
    cited = [ENTRIES[where][1] for _, _, where in ROWS[preset.name]]
    parts = re.findall(r"(?:^|after )(\D+?), (?:\w+ )?(\d{4})", preset.paper)
    assert bool(parts) == (preset.name != "bilinear")
    for who, year in parts:
        found = [
            fields
            for fields in cited
            if fields["year"] == year
            and all(name in bare(fields["author"]) for name in surnames(who))
        ]
        assert len(found) == 1, (who, year)


def test_the_links_name_the_authors_of_their_entries():
    for who, _, where in CITED.findall(PAGE):
        authors = ENTRIES[where][1]["author"].split(" and ")
        named = surnames(who)
        firsts = [bare(author.split(",")[0]) for author in authors]
        assert named == (firsts[:1] if "et al." in who else firsts), who


def test_what_citation_cff_says_is_here():
    titles = {bare(fields["title"]): fields for _, fields in ENTRIES.values()}
    for work in (CITATION, *CITATION["references"]):
        fields = titles[bare(work["title"])]
        assert str(work.get("year") or work["date-released"].year) == fields["year"]
        for author in work["authors"]:
            assert bare(author.get("family-names") or author["name"]) in bare(fields["author"])
