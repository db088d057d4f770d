"""The README's block on a photograph, and its picture: `python tests/readme_picture.py WEIGHTS`.

WEIGHTS is a folder with trained weights of the checkpoint that the block names.
"""

import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "readme.png"
BLOCK = re.compile(r"^```python\n(import .*?)^```", re.DOTALL | re.MULTILINE)
#: Enough for a photograph, and a third of the bytes.
COLOURS = 256


def block() -> str:
    """Return the block as it stands."""
    (found,) = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    return found


def run(model: object) -> dict[str, Any]:
    """Run the block with a model in place of the download; return its names."""
    import transformers

    names: dict[str, Any] = {"__name__": "__main__"}
    load = mock.patch.object(transformers.AutoModel, "from_pretrained", return_value=model)
    with load as loaded:
        exec(compile(block(), "README.md", "exec"), names)
    loaded.assert_called_once_with("facebook/dinov2-small")
    return names


def trained(folder: Path) -> object:
    """Load trained weights of the class that the checkpoint has."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(folder)


def reduced(picture: Image.Image) -> Image.Image:
    """Return the picture with few colours."""
    return picture.quantize(COLOURS, dither=Image.Dither.NONE)


if __name__ == "__main__":
    reduced(run(trained(Path(sys.argv[1])))["picture"]).save(PICTURE, optimize=True)
