"""What stands between an event of the page and the function that answers it."""

from __future__ import annotations

import functools
import html
import logging
import secrets
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec

from PIL import Image

from lpprop._core.errors import InputError, collect_warnings
from lpprop.app.deadline import TimeIsUp, deadline
from lpprop.app.files import SessionFiles
from lpprop.app.limits import Limits
from lpprop.app.uploads import open_upload

__all__ = ["LOG", "UNEXPECTED", "Answers", "log_problem"]

LOG = logging.getLogger("lpprop.app")

UNEXPECTED = (
    "Something went wrong here, and not by your fault. If you tell whoever runs this page, name "
    "the number {}."
)

P = ParamSpec("P")


class Answers:
    """Guards the functions that answer events.

    `click(answers.guard(segment), ..., **answers.work)`: errors become sentences, doubts become
    notes, time is limited, pictures are written where they go with their session, and no more jobs
    than `limits.jobs` run at once.

    Args:
        limits: the limits of each job.
        files: where pictures are written.
    """

    def __init__(self, limits: Limits, files: SessionFiles) -> None:
        self.limits = limits
        self.files = files

    @property
    def work(self) -> dict[str, Any]:
        """Options of each event that computes: all wait in one queue."""
        return {"concurrency_id": "work", "concurrency_limit": self.limits.jobs}

    def guard(self, function: Callable[P, Any], *, notes: bool = True) -> Callable[P, Any]:
        """Wrap a function that answers an event; Gradio sees the signature of the function.

        Pictures in its result, also in tuples and lists of it, become files of the session.

        Args:
            function: the function.
            notes: whether doubts become notes; False where the page shows them beside the result.
        """

        @functools.wraps(function)
        def answer(*args: P.args, **kwargs: P.kwargs) -> Any:
            import gradio

            try:
                with collect_warnings(shown=False) as doubts, deadline(self.limits.seconds):
                    result = self._store(function(*args, **kwargs))
            except gradio.Error:
                raise
            except InputError as error:
                raise _sentence(str(error)) from None
            except (Exception, TimeIsUp) as error:
                raise _sentence(UNEXPECTED.format(log_problem(error))) from None
            for doubt in doubts if notes else ():
                gradio.Warning(html.escape(doubt, quote=False), title="Note")
            return result

        return answer

    def open_image(self, path: str | None) -> Image.Image:
        """Open the upload of a button or a field of type "filepath"; it goes with its session.

        Raises:
            InputError: none, or a file that `open_upload` refuses.
        """
        if path is None:
            raise InputError.of(
                "image", got="none", expected="one", fix="Upload one, or choose an example."
            )
        # Gradio checks the paths that are labelled as files, and takes those without a label.
        if not self.files.holds(Path(path)):
            raise InputError.of(
                "image",
                got="a file that was not uploaded",
                expected="an upload",
                fix="Upload it again.",
            )
        self.files.adopt(_session(), Path(path))
        return open_upload(Path(path), self.limits)

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> str:
        """Write a file to download, which goes with the session; return its path.

        Args:
            name: what it is called: no text of the user.
            write: what is called with the open file.

        Raises:
            InputError: there is no room for more files.
        """
        return str(self.files.write(_session(), name, write))

    def _store(self, result: Any) -> Any:
        if isinstance(result, Image.Image):
            # Compressed a little, since a click waits for it.
            return self.write(
                "picture.png", lambda file: result.save(file, "PNG", compress_level=1)
            )
        if type(result) in (tuple, list):
            return type(result)(self._store(part) for part in result)
        return result


def _session() -> str:
    """Name the session whose event is answered; a random name if there is none."""
    from gradio.context import LocalContext

    request = LocalContext.request.get(None)
    return getattr(request, "session_hash", None) or secrets.token_hex(16)


def _sentence(text: str) -> Exception:
    import gradio

    # Gradio shows the message as HTML, and a message may quote what the user has written.
    return gradio.Error(html.escape(text, quote=False), title="Sorry", print_exception=False)


def log_problem(error: BaseException) -> str:
    """Log where an error came from, and return the number of the entry.

    What it says is left out, since it may quote the user.
    """
    number = secrets.token_hex(4)
    frames = traceback.extract_tb(error.__traceback__)
    places = (f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[-8:])
    LOG.error("%s: %s at %s", number, type(error).__name__, " > ".join(places))
    return number
