"""Parts of Gradio's that trust nobody: the page, and the field for an image."""

from __future__ import annotations

import html
from typing import Any

import gradio
from gradio.exceptions import ComponentProcessingError

from lpprop.app.answers import UNEXPECTED, log_problem

__all__ = ["Page", "UploadedImage"]

class Page(gradio.Blocks):
    """A page whose errors are sentences; none is printed, since it may quote what the user sent.

    Gradio's own would print a traceback with values and names of files, and tell the user nothing.
    """

    async def process_api(self, *args: Any, **kwargs: Any) -> Any:
        """Answer an event as Gradio does."""
        try:
            return await super().process_api(*args, **kwargs)
        except gradio.Error as error:
            if error.print_exception:  # not one of ours: nobody has made it safe to show
                error.print_exception = False
                error.message = html.escape(str(error.message), quote=False)
            raise
        except ComponentProcessingError:
            raise gradio.Error(
                "A value was sent that this field does not take.",
                title="Sorry", print_exception=False,
            ) from None  # fmt: skip
        except Exception as error:
            raise gradio.Error(
                UNEXPECTED.format(log_problem(error)), title="Sorry", print_exception=False
            ) from None

class UploadedImage(gradio.Image):
    """A field for an image that gives the path of the upload, and opens nothing.

    Gradio's own opens the file and decodes it before the page's function is called.
    """

    is_template = True  # shown as what it derives from

    def preprocess(self, payload: Any) -> str | None:
        """Return the path, which Gradio has checked to be that of an upload."""
        path = None if payload is None else payload.path
        if payload is not None and path is None:
            raise gradio.Error("The image is taken by upload.", print_exception=False)
        return path
    from collections.abc import Callable, Sequence
    from typing import TYPE_CHECKING, Any, Literal

    from gradio.blocks import Block

    if TYPE_CHECKING:
        from gradio.components import Timer
        from gradio.components.base import Component
