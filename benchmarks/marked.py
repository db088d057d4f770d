"""Tables within a document: `<!-- table NAME -->` and `<!-- /table -->` enclose each."""

import re
from collections.abc import Mapping
from pathlib import Path

from lpprop.io.atomic import atomic_write

MARKED = re.compile(r"(<!-- table (.+?) -->\n).*?(<!-- /table -->)", re.DOTALL)


def renew(file: Path, made: Mapping[str, str]) -> None:
    """Write each table of a document anew."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{made[match[2]]}\n{match[3]}"

    text = MARKED.sub(table, file.read_text(encoding="utf-8"))
    with atomic_write(file) as out:
        out.write(text.encode())
