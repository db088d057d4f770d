"""A page in the browser that segments images by words and by clicks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from lpprop.app.answers import Answers
    from lpprop.app.blocks import Page
    from lpprop.app.models import Models

__all__ = ["run_app"]


def run_app(
    host: str = "127.0.0.1",
    port: int = 7860,
    *,
    recipe: str | None = None,
    affinity: str | Path | None = None,
    device: str | torch.device = "cpu",
    say: Callable[[str], object] = print,
    **most: int,
) -> None:
    """Serve the page until Ctrl-C or a signal to end.

    Args:
        host: the address to listen on. "0.0.0.0" is every address of the machine.
        port: the port.
        recipe: the recipe for words that is chosen at first; the offline one if None.
        affinity: name or folder of a vision transformer whose features carry clicks on.
        device: where the networks compute.
        say: what is called with the line that names the address.
        most: what one user may ask, as `lpprop.app.limits.Limits` takes it.

    Raises:
        InputError: a port that is taken or forbidden, a recipe or an affinity whose weights are not
            on disk, or a limit that is no integer >= 1.
        ImportError: the extra `app` is not installed.
    """
    from lpprop.app.limits import Limits
    from lpprop.app.models import Models
    from lpprop.app.server import serve

    limits = Limits(**most)
    models = Models(device, affinity)
    models.check(recipe)
    _warm_up(models)

    def build(answers: Answers) -> Page:
        from lpprop.app.page import build_page  # imports Gradio, which reads its settings then

        return build_page(answers, models, recipe)

    serve(build, host=host, port=port, limits=limits, say=say)


def _warm_up(models: Models) -> None:
    """Refine an example once, so that no visitor waits for networks to load and code to compile."""
    from lpprop.app.examples import available_examples, load_example
    from lpprop.app.starts import ByClicks
    from lpprop.interaction.clicks import Clicks

    for example in available_examples()[:1]:
        start = ByClicks(Clicks(example.points), example.classes, models.features[0])
        start.refine(load_example(example.name), models, "clicks", {})
