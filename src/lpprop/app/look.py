"""How the page looks: system fonts, so that no other host is asked; both modes; no footer."""

from __future__ import annotations

from typing import Any

__all__ = ["look"]

# Gradio's own column is too wide to read, and its paddings are too wide for a phone.
_CSS = """
.gradio-container { max-width: 1320px !important; margin: 0 auto !important; }
#title { display: flex; align-items: baseline; gap: 12px; flex-wrap: wrap; }
#title h1 { margin: 0; font-size: 22px; }
#title p { margin: 0; color: var(--body-text-color-subdued); }
#title button { margin-left: auto; min-height: 32px; padding: 2px 12px; border-radius: 6px; cursor: pointer;
  border: 1px solid var(--border-color-primary); background: var(--button-secondary-background-fill);
  color: var(--button-secondary-text-color); font-size: 14px; }
#canvas { overflow: visible; }
#examples .grid-container, #examples .grid-wrap { padding: 0; }
:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
@media (max-width: 600px) {
  .gradio-container main, .gradio-container .main { padding: 8px !important; }
}
"""


def look() -> dict[str, Any]:
    """Return the options of Gradio's `launch` that decide how the page looks."""
    import gradio

    system = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    mono = ["ui-monospace", "Menlo", "Consolas", "monospace"]
    theme = gradio.themes.Base(
        primary_hue="blue", secondary_hue="blue", neutral_hue="slate", font=system, font_mono=mono
    )
    return {"theme": theme, "css": _CSS, "footer_links": []}
