"""The study of references: its page shows the committed results, by settings of one drive."""

import json

from benchmarks.marked import MARKED, renew
from benchmarks.references import study
from benchmarks.references.__main__ import FILE, PAGE
from benchmarks.references.tables import tables
from benchmarks.transformer.scenes import DRIVES


def test_the_page_shows_the_committed_results(tmp_path):
    made = tables(json.loads(FILE.read_text()))
    text = PAGE.read_text()
    assert {name for _, name, _ in MARKED.findall(text)} == set(made)
    copy = tmp_path / "references.md"
    copy.write_text(text)
    renew(copy, made)
    assert copy.read_text() == text


def test_the_settings_are_chosen_on_one_drive():
    found = json.loads(FILE.read_text())
    chosen = found["starts"]["20 rank, patches"]["bilinear"][study.CHOSEN_ON]
    assert found["temperatures"]["rank, patches"][str(study.RANK["temperature"])] == chosen
    assert set(found["starts"]["1 rank, patches"]["bilinear"]) == set(DRIVES)
