"""Names in any script: drawn by a font that has them, else in our letters or numbered; no boxes."""

import io
import sys

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from PIL import Image, ImageFont

import lpprop
from lpprop.comparison import compare
from lpprop.viz import fonts
from lpprop.viz.drawing import keys
from lpprop.viz.sheets import Cell, sheet

# What a name becomes where no font has more than Pillow's own.
ASCII = {
    "cat": "cat", "Café Ångström": "Cafe Angstrom", "Smørrebrød, ß, Łódź": "Smorrebrod, ss, Lodz",
    "Đàn piano": "Dan piano", "Æon œuvre": "Aeon oeuvre",
    "e\u0301le\u0300ve": "eleve", "z\u0335\u0321a" + "\u0301" * 50: "za",
    "猫 (cat)": "? (cat)", "кошка cat": "? cat", "😀 face": "? face",
    "tab\tnew\nline": "tab new line",
    "a\x00b\x1b[2Jc": "ab[2Jc", "\u202ecat\u202c\u200b": "cat", "\ufeffcat\ufe0f": "cat",
}  # fmt: skip
UNWRITABLE = ["天空", "ソファ", "고양이", "кошка", "γάτα", "قطة", "חתול", "बिल्ली", "แมว", "😀",
              "\ud800", "", " ", "\x00", "\u0301", "\ue000", "\U0010ffff"]  # fmt: skip


@pytest.fixture
def files(monkeypatch):
    """Let a test say which fonts the machine has."""

    def use(*paths):
        monkeypatch.setattr(fonts, "_FILES", tuple(map(str, paths)))
        fonts._find.cache_clear()

    use()
    yield use
    fonts._find.cache_clear()


def make_font(path, characters):
    """Write a font whose every character is a solid square of one em, and .notdef a thin box."""
    pen, box = TTGlyphPen(None), TTGlyphPen(None)
    for drawn, edges in ((pen, [(0, 1000)]), (box, [(0, 1000), (30, 970)])):
        for low, high in edges:
            corners = [(low, low), (low, high), (high, high), (high, low)]
            corners = corners if low == 0 else corners[::-1]
            drawn.moveTo(corners[0])
            for corner in corners[1:]:
                drawn.lineTo(corner)
            drawn.closePath()
    builder = FontBuilder(1000, isTTF=True)
    names = [f"u{ord(character):X}" for character in characters]
    builder.setupGlyphOrder([".notdef", *names])
    builder.setupCharacterMap(dict(zip(map(ord, characters), names, strict=True)))
    builder.setupGlyf({".notdef": box.glyph(), **dict.fromkeys(names, pen.glyph())})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names], (1000, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": "Solid", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def known_to(font):
    """The characters that a font's own table has."""
    source = font.path
    source = source if isinstance(source, str) else io.BytesIO(source.getvalue())
    return {*map(chr, TTFont(source, fontNumber=0).getBestCmap())}


@pytest.mark.parametrize("name", ASCII, ids=ascii)
def test_what_stands_for_a_name_without_a_font(files, name):
    assert fonts.legible(name) == ASCII[name]
    assert keys([name])[0][0] == ASCII[name]


@pytest.mark.parametrize("name", UNWRITABLE, ids=ascii)
def test_a_name_that_cannot_be_written_is_a_number(files, name):
    assert [key[0] for key in keys(["cat", name, "?"])] == ["cat", "1", "2"]


def test_a_font_of_the_machine_draws_what_it_has(files, tmp_path):
    files(make_font(tmp_path / "latin.ttf", "ab."), make_font(tmp_path / "cat.ttf", "猫天. "))
    # No single font has both "猫" and "e".
    assert [key[0] for key in keys(["猫", "天 猫", "空", "猫 e"])] == ["猫", "天 猫", "2", "? e"]
    assert fonts.load_font("猫", 20).getname() == ("Solid", "Regular")
    assert fonts.load_font("cat", 20).getname()[0] == "Aileron"
    cells = [Cell("猫", [Image.new("RGB", (400, 90), "red")])]
    page = np.asarray(sheet(cells, [[("猫", (0, 0, 255))]]))
    ink = (page == (28, 28, 30)).all(-1).sum()
    # Two solid squares of an em, the title's and the legend's; a box's lines would be 12 % of that.
    assert ink == pytest.approx(38**2 + 34**2, rel=0.1)


def test_a_file_that_is_no_font_is_none(files, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    files(broken, tmp_path / "absent.ttf", make_font(tmp_path / "cat.ttf", "猫."))
    assert fonts.legible("猫") == "猫"


@pytest.mark.parametrize("machine", ["bare", "this one"])
def test_no_text_is_drawn_with_characters_that_its_font_lacks(files, monkeypatch, machine):
    """The fonts' own tables are the judge."""
    if machine == "this one":
        monkeypatch.undo()
        fonts._find.cache_clear()
    random = np.random.default_rng(0)
    tables = {}
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x700), (0x900, 0xE80), (0x1E00, 0x2C00),
              (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A0), (0xD800, 0x10000),
              (0x1D400, 0x1D800), (0x1F300, 0x1FA00)]  # fmt: skip
    for _ in range(400):
        low, high = blocks[random.integers(len(blocks))]
        text = "".join(map(chr, random.integers(low, high, random.integers(1, 6)))) + " cat"
        written = fonts.legible(text)
        font = fonts.load_font(written, 16)
        table = tables.setdefault(font.getname(), known_to(font))
        assert {*written} <= table | {" "}, (ascii(text), ascii(written), font.getname())
        assert written.endswith("cat")
        font.getmask(written)


@pytest.mark.parametrize("name", [*UNWRITABLE, *ASCII, "x" * 100_000, "\u0301" * 5000], ids=len)
def test_names_do_not_break_the_drawing(name):
    """As title, in the legend and in the note, with the fonts that this machine has."""
    blue, red = (1, 2, 250), (250, 2, 1)
    name = name or " "  # without a subtitle there is no line for it

    def draw(text):
        cell = Cell(text, [Image.new("RGB", (300, 40))], text)
        return sheet([cell], [[(text, blue), ("cat", red)]], text)

    page, plain = draw(name), draw("x")
    assert page.width == plain.width
    assert page.height - plain.height in (0, 3 * 16)  # a long name takes a line for itself
    assert (np.asarray(page)[:, -8:] == 255).all()
    assert {blue, red} <= {*map(tuple, np.asarray(page).reshape(-1, 3).tolist())}


def test_comparisons_and_pictures_of_odd_names(files):
    names = ["猫", "a" * 5000, "\u202e\x00", "Café"]
    logits = np.eye(4, dtype=np.float32).reshape(4, 2, 2)
    comparison = compare(logits, size=(64, 64), methods={"二": "bilinear"}, class_names=names)
    assert comparison.figure().mode == "RGB"
    assert "二" in repr(comparison)
    assert comparison.class_names == names
    assert lpprop.show(np.zeros((64, 64, 3)), comparison.labels["二"], names).mode == "RGB"


@pytest.mark.skipif(sys.platform != "linux", reason="Pillow looks there on Linux")
def test_pillow_finds_the_fonts_of_the_system(tmp_path, monkeypatch):
    folder = tmp_path / "fonts" / "deep"
    folder.mkdir(parents=True)
    make_font(folder / "wqy-microhei.ttc", "\ue123.")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for cached in (fonts._find, fonts._has, fonts._load):
        cached.cache_clear()
    assert ImageFont.truetype("wqy-microhei.ttc", 9).getname()[0] == "Solid"
    assert fonts._find("\ue123") == "wqy-microhei.ttc"
    monkeypatch.undo()
    for cached in (fonts._find, fonts._has, fonts._load):
        cached.cache_clear()
