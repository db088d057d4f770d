"""Gradio's page, which tells errors in sentences, and nothing to the log that the user sent."""

from __future__ import annotations

import html
from typing import Any

import gradio
from gradio.exceptions import ComponentProcessingError

from lpprop.app.answers import UNEXPECTED, log_problem

__all__ = ["Page"]


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
        except ComponentProcessingError:
            raise gradio.Error(
                "A value was sent that this field does not take.",
                title="Sorry", print_exception=False,
            ) from None  # fmt: skip
        except Exception as error:
            raise gradio.Error(
                UNEXPECTED.format(log_problem(error)), title="Sorry", print_exception=False
            ) from None
