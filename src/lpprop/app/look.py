"""How the page looks: system fonts, so that no other host is asked; both modes; no footer."""

from __future__ import annotations

from typing import Any

__all__ = ["look"]

# Gradio's own column is too wide to read, and its paddings are too wide for a phone.
_CSS = """
.gradio-container { max-width: 1320px !important; margin: 0 auto !important; }
#canvas { overflow: visible; }
/* One line per chosen method, whose full text is in the list. */
#methods { contain: inline-size; }
#methods .token { max-width: 100%; }
#methods .token span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#upload { min-height: 92px !important; }
#upload .wrap, #upload .prompt, #upload p { min-width: 0; white-space: normal; text-align: center; }
#downloads { align-items: end; }
#code .cm-scroller { max-height: 420px; }
:focus-visible { outline: 3px solid var(--color-accent); outline-offset: 2px; }
/* Of the canvas, whose own rules are nested, where this one cannot stand. */
@keyframes lp-busy { from { left: 0; } to { left: 70%; } }
@media (max-width: 600px) {
  .gradio-container .fillable { padding: 8px !important; }
  .gradio-container .fillable .html-container { padding: 4px !important; }
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
    # The text beside the main one, dark enough on white: 4.8 : 1, where Gradio's has 2.6 : 1.
    theme = theme.set(
        body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500", block_info_text_color_dark="*neutral_400",
    )  # fmt: skip
    # Not as `css`, which Gradio applies within its columns alone.
    return {"theme": theme, "head": f"<style>{_CSS}</style>", "footer_links": []}
