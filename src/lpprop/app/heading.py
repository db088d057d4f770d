"""The top of the page: the title, and the photographs to start with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lpprop.app.layers import as_data_url
from lpprop.app.picture import Picture

if TYPE_CHECKING:
    import gradio

__all__ = ["make_examples", "make_title"]

# Thumbnails are shown at half this height, so that they are sharp on fine screens.
_HEIGHT = 128

_TITLE = """
<header class="lp-title">
  <h1>lpprop</h1>
  <p>Segment a picture by clicks or by words, and compare what refines it.</p>
  <button type="button" id="dark">Light / dark</button>
</header>
"""
_TITLE_CSS = """
.lp-title { display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 14px; }
.lp-title h1 { margin: 0; font-size: 24px; font-weight: 700; color: var(--body-text-color); }
.lp-title p { margin: 0; flex: 1 1 240px; font-size: 15px; color: var(--body-text-color-subdued); }
.lp-title button {
  min-height: 36px; padding: 4px 12px; border-radius: 6px; cursor: pointer; font-size: 14px;
  border: 1px solid var(--border-color-primary); color: var(--button-secondary-text-color);
  background: var(--button-secondary-background-fill);
}
"""
_TITLE_JS = """
const dark = element.querySelector("#dark");
dark.addEventListener("click", () => document.body.classList.toggle("dark"));
"""

_EXAMPLES_CSS = """
.lp-examples { display: flex; flex-wrap: wrap; gap: 8px; }
.lp-examples button {
  display: flex; flex-direction: column; gap: 2px; padding: 0; border: 0; background: none;
  cursor: pointer; font-size: 13px; color: var(--body-text-color); text-align: left;
}
.lp-examples img { height: 64px; border-radius: 6px; display: block; margin: 0; }
.lp-examples button:hover img { box-shadow: 0 0 0 2px var(--color-accent); }
"""
_EXAMPLES_JS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  props.value = button.dataset.name;
  trigger("input");
});
"""


def make_title() -> gradio.HTML:
    """Make the title, with a button that changes between light and dark."""
    import gradio

    return gradio.HTML(
        html_template=_TITLE, css_template=_TITLE_CSS, js_on_load=_TITLE_JS,
        apply_default_css=False, elem_id="title",
    )  # fmt: skip


def make_examples(pictures: Sequence[tuple[str, Picture]]) -> gradio.HTML:
    """Make a row of photographs; the one that was chosen last is the component's value.

    Args:
        pictures: names, which are this package's own and hold no HTML, and pictures.
    """
    import gradio

    buttons = []
    for name, picture in pictures:
        small = picture.image.copy()
        small.thumbnail((2 * _HEIGHT, _HEIGHT))
        source = as_data_url(small, "WEBP")
        image = f'<img src="{source}" alt="" width="{small.width // 2}" height="{_HEIGHT // 2}">'
        buttons.append(f'<button type="button" data-name="{name}">{image}{name}</button>')
    return gradio.HTML(
        pictures[0][0],
        html_template=f'<div class="lp-examples">{"".join(buttons)}</div>',
        css_template=_EXAMPLES_CSS,
        js_on_load=_EXAMPLES_JS,
        apply_default_css=False,
        elem_id="examples",
    )
