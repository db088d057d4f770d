"""Gradio's page and its field for an image, which trust nothing that is sent."""

from __future__ import annotations

import html
from typing import Any

import gradio
from gradio.exceptions import ComponentProcessingError
from pydantic import ValidationError

from lpprop.app.answers import UNEXPECTED, log_problem

__all__ = ["Page", "make_upload"]


class Page(gradio.Blocks):
    """A page whose errors are sentences.

    Of an error before the page's function, such as a value that a field does not take, Gradio's own
    would print a traceback with that value and names of files, and tell the user nothing.
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
        except (ComponentProcessingError, ValidationError):
            raise gradio.Error(
                "A value was sent that this field does not take.",
                title="Sorry", print_exception=False,
            ) from None  # fmt: skip
        except Exception as error:
            raise gradio.Error(
                UNEXPECTED.format(log_problem(error)), title="Sorry", print_exception=False
            ) from None


def make_upload(**options: Any) -> gradio.Image:
    """Make a field for an image, whose function gets the path of the upload, or None.

    Gradio's own would open the file, and decode it, before the function is called. This is no
    class, since Gradio writes a file of stubs beside each class that is a field.

    Args:
        options: those of `gradio.Image` but the type and the mode.
    """
    field = gradio.Image(type="filepath", image_mode=None, **options)
    field.preprocess = _path_of  # type: ignore[method-assign]
    return field


def _path_of(payload: Any) -> str | None:
    """Return the path that was sent; `Answers.open_image` tells whether it is an upload's."""
    return None if payload is None else payload.path
