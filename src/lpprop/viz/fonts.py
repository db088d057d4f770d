"""Text of any script in pictures: a font that has it, or letters that stand for it; never boxes."""

from __future__ import annotations

import functools
import re
import unicodedata

from PIL import ImageFont

__all__ = ["Font", "legible", "load_font"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Files as Linux, Windows and macOS call them; Pillow searches the system's folders of fonts. Those
# of many scripts come first, then those of a few: Chinese, Japanese and Korean; India; Thailand.
_FILES = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial.ttf", "segoeui.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.ttf",
    "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "msyh.ttc", "simsun.ttc", "msgothic.ttc", "malgun.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
    "Nirmala.ttc", "Nirmala.ttf", "NotoSansThai-Regular.ttf", "leelawui.ttf", "Thonburi.ttc",
    "FreeSans.ttf",
)  # fmt: skip
_LONGEST = 300


def legible(text: str) -> str:
    r"""Return a text as it can be drawn, in one line.

    Control characters go, and more than three marks on a letter. Where no font of this machine has
    all characters, letters lose their accents, and "?" stands for those that are none of ours.

    >>> legible("black\n\u202ecat"), legible("\U00012000 cat")  # cuneiform
    ('black cat', '? cat')
    """
    text = _clean(text)
    if _find(text) is not None:
        return text
    return re.sub(r"\?(?:\s*\?)+", "?", "".join(map(_in_ascii, text)))


def load_font(text: str, size: float) -> Font:
    """Return the first font that has all characters of a legible text.

    >>> load_font("cat", 12).getname()
    ('Aileron', 'Regular')
    """
    return _load(_find(text) or "", size) or ImageFont.load_default(size)


def _clean(text: str) -> str:
    kept: list[str] = []
    marks = 0
    for character in unicodedata.normalize("NFC", " ".join(text.split())[:_LONGEST]):
        kind = unicodedata.category(character)
        marks = marks + 1 if kind.startswith("M") else 0
        # C: controls, directions, surrogates and what Unicode has not assigned; and choices of a
        # character's variant, which fonts do not draw.
        if not (kind.startswith("C") or marks > 3 or "\ufe00" <= character <= "\ufe0f"):
            kept.append(character)
    return " ".join("".join(kept).split())


def _in_ascii(character: str) -> str:
    """Write a character without its accents, or as "?"."""
    # To Unicode Ø is a letter of its own, and no O with an accent.
    name = unicodedata.name(character, "")
    if named := re.match(r"LATIN (CAPITAL|SMALL) (?:LETTER|LIGATURE) (\w\w?)\b", name):
        return named[2].title() if named[1] == "CAPITAL" else named[2].lower()
    parts = unicodedata.normalize("NFKD", character)
    plain = "".join(x for x in parts if not unicodedata.category(x).startswith("M"))
    plain = plain if plain.isascii() else plain.casefold()  # which writes ß as ss
    return plain if plain.isascii() else "?"


@functools.lru_cache(maxsize=4096)
def _find(text: str) -> str | None:
    """Return the first file that has all characters; "" for Pillow's own font, None for none."""
    characters = {*text, "."} - {" "}  # a shortened text ends with dots
    for file in ("", *_FILES):
        if all(_has(file, character) for character in characters):
            return file
    return None


@functools.lru_cache(maxsize=65536)
def _has(file: str, character: str) -> bool:
    """Tell whether a font draws a character otherwise than one that no font has."""
    if not file and character.isascii():
        return True
    font = _load(file, 16, basic=True) if file else ImageFont.load_default(16)
    if font is None:
        return False
    drawn, box = (font.getmask(x) for x in (character, "\U0010ffff"))
    return (drawn.size, bytes(drawn)) != (box.size, bytes(box))


@functools.lru_cache(maxsize=256)
def _load(file: str, size: float, *, basic: bool = False) -> Font | None:
    """Open a font; a basic one draws a mark alone, without the circle that stands for a letter."""
    engine = ImageFont.Layout.BASIC if basic else None  # None: the best that Pillow has
    try:
        return ImageFont.truetype(file, size, layout_engine=engine) if file else None
    except OSError:
        return None
