"""What the commands say: in words of the command line, and without what would drive a terminal."""

from __future__ import annotations

import argparse
import io
import re
from typing import TextIO

from lpprop._core.errors import InputError, InputWarning

__all__ = ["PlainStream", "one_line", "translate", "visible"]


def visible(text: str) -> str:
    r"""Return a line whose invisible characters are written out, as `repr` does it.

    A file name may hold newlines, codes that a terminal obeys, and bytes that are no text.

    >>> print(visible("a\x1b[31m\n.png"))
    a\x1b[31m\n.png
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class PlainStream(io.TextIOBase):
    """A stream that hands on text with all but newlines visible, in the other's encoding.

    Args:
        stream: the one that gets it; characters that its encoding lacks are written out.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The other stream's."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Hand on a text."""
        plain = "\n".join(map(visible, text.split("\n")))
        coded = plain.encode(self.encoding, "backslashreplace")
        self._stream.write(coded.decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the other stream is a terminal."""
        return self._stream.isatty()


def one_line(said: Exception | str, command: argparse.ArgumentParser) -> str:
    """Return an error or a warning in one line; the package's own in the words of a command."""
    if isinstance(said, (InputError, InputWarning)):
        return translate(str(said), command)
    return " ".join(str(said).split()) or type(said).__name__


# What the Python interface calls otherwise.
_RENAMED = {"shorter_side": "side", "class_names": "classes", "checkpoint": "affinity"}

_VALUE = r"""\([^()]*\)|\[[^][]*\]|"[^"]*"|'[^']*'|[\w.+/-]*\w|"""


def translate(message: str, command: argparse.ArgumentParser) -> str:
    """Put a message of the Python interface into the words of a command.

    >>> from lpprop.cli import build_parser
    >>> refine = build_parser().parse_args(
    ...     ["refine", "a.png", "--logits", "a.npy", "--out", "b"]
    ... ).command
    >>> translate("logits: got 1. Pass logit_scale=100, or size=(H, W) with image=.", refine)
    '--logits: got 1. Pass --option logit_scale=100, or --size H W with IMAGE.'
    """
    from lpprop.compose.presets import FEATS_FROM, METHODS

    names = {
        action.dest: action.option_strings[0] if action.option_strings else str(action.metavar)
        for action in command._actions
    }
    names |= {python: names[own] for python, own in _RENAMED.items() if own in names}
    if "--option" in command._option_string_actions:
        options = {option for preset in METHODS.values() for option in preset.options}
        names |= {option: f"--option {option}" for option in options - names.keys()}

    def keyword(found: re.Match[str]) -> str:
        name, value = found["name"], found["value"]
        if name not in names:
            return found[0]
        own, plain = names[name], value.strip("()[]\"'")
        if "/" in plain and plain not in FEATS_FROM:  # a folder called k=50
            return found[0]
        if own.startswith("--option"):
            return f"{own}={plain.replace(', ', ',')}"
        return own if not (plain and own.startswith("-")) else f"{own} {plain.replace(',', '')}"

    listing = "lpprop.backbones.imagenet_classes() lists"
    message = message.replace(listing, "lpprop segment --list-classes lists")
    message = re.sub(r"\bas image\b", f"as {names.get('image', 'image')}", message)
    start = re.match(r"(\w+)(\[\d+\])?: got ", message)
    if start and start[1] in names:
        message = names[start[1]] + message[start.end(1) :].replace(
            f"Change {start[1]}.", f"Change {names[start[1]]}."
        )
    start_of_word = r"(?<![^\s(])(?<!--option )"
    return re.sub(rf"{start_of_word}(?P<name>\w+)=(?P<value>{_VALUE})", keyword, message)
