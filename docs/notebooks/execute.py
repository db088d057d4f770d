"""Run the notebooks of this folder from a clean kernel, and store what they show.

    python docs/notebooks/execute.py                      # all
    python docs/notebooks/execute.py quickstart.ipynb     # some

It needs the extras demo and eval, and nbclient with ipykernel.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

HERE = Path(__file__).parent
PARAMETERS = "parameters"  # the tag of the cell that sets SIDE
_SIDE = re.compile(r"^SIDE = \d+", re.MULTILINE)
_DATA_URL = re.compile(r"data:image/png;base64,(?P<png>[A-Za-z0-9+/=]+)")


def notebooks() -> list[Path]:
    """List the notebooks of this folder."""
    return sorted(HERE.glob("*.ipynb"))


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Return the SHA-256 of the code; `stored` keeps that of the code that ran."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256("\n\0".join(code).encode()).hexdigest()


def with_side(notebook: nbformat.NotebookNode, side: int) -> nbformat.NotebookNode:
    """Return a copy that works on smaller pictures and is otherwise the same."""
    copy = nbformat.from_dict(notebook)
    (cell,) = [x for x in copy.cells if PARAMETERS in x.metadata.get("tags", ())]
    cell.source, count = _SIDE.subn(f"SIDE = {side}", cell.source)
    if count != 1:
        raise ValueError(f"the cell tagged {PARAMETERS!r} has {count} lines 'SIDE = ...', not one")
    return copy


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 600) -> None:
    """Run all cells in a clean kernel that works in a folder; a cell that raises ends it."""
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
        store_widget_state=False,
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(_settled, cell.outputs) if output is not None]


def stored(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return what is committed: small pictures, no trace of the machine, the code's fingerprint."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                # The picture's text, for terminals, may be long and full of times.
                kind, picture = _small(data["image/png"])
                output.data = nbformat.from_dict({kind: picture})
            elif "text/html" in data:
                data["text/html"] = _DATA_URL.sub(_small_url, data["text/html"])
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            "executed": fingerprint(notebook),
        }
    )
    return notebook


def _settled(output: nbformat.NotebookNode) -> nbformat.NotebookNode | None:
    """Show what is there in the end: a progress bar that cleared itself is gone.

    A widget is gone, too: what a notebook that is closed shows of it is nothing.
    """
    if "application/vnd.jupyter.widget-view+json" in output.get("data", {}):
        return None
    if output.output_type != "stream":
        return output
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in output.text.split("\n")]
    output.text = "\n".join(lines)
    return output if output.text.strip() else None


def _small(png: str) -> tuple[str, str]:
    """Return a picture's type and data, in the smaller of two forms: photographs become JPEG."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    photograph, drawing = io.BytesIO(), io.BytesIO()
    picture.save(photograph, format="JPEG", quality=75, optimize=True)
    picture.save(drawing, format="PNG", optimize=True)
    forms = {"image/jpeg": photograph.getvalue(), "image/png": drawing.getvalue()}
    kind = min(forms, key=lambda name: len(forms[name]))
    return kind, base64.b64encode(forms[kind]).decode()


def _small_url(found: re.Match[str]) -> str:
    kind, picture = _small(found["png"])
    return f"data:{kind};base64,{picture}"


def main() -> None:
    """Run the notebooks that are named, or all."""
    parser = argparse.ArgumentParser(description="Run notebooks and store what they show.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of this folder if none")
    for path in parser.parse_args().notebooks or notebooks():
        notebook = nbformat.read(path, as_version=4)
        execute(notebook, path.parent)
        nbformat.write(stored(notebook), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
