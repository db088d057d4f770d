"""A small page behind the guards of the web app, which misbehaves on demand.

`python tests/guarded_page.py PORT SECONDS` serves it.
"""

import sys
import threading
import time

from PIL import Image

from lpprop import InputError
from lpprop._core.errors import warn
from lpprop.app.limits import Limits
from lpprop.app.server import serve

SECRET = "what the user wrote"
running = most = 0
lock = threading.Lock()


def build(answers):
    import gradio as gr

    from lpprop.app.blocks import Page, make_upload

    def open_image(path: str):
        return answers.open_image(path)

    def fail(words: str) -> str:
        raise RuntimeError(f"{SECRET} {words}")

    def refuse(words: str) -> str:
        raise InputError(f"words: got <b>{words}</b>, expected others.")

    def doubt(words: str) -> str:
        warn("doubt", f"<b>{words}</b> is doubtful.")
        return words

    def work_for_ever(words: str) -> str:
        while True:
            pass

    def count() -> int:
        """Return how many jobs have run at once."""
        global running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return most

    def picture(number: float) -> list[str]:
        return [Image.new("RGB", (8, 8), (int(number), 0, 0))]

    with Page(analytics_enabled=False) as page:
        gr.Markdown("# Guarded")
        upload = make_upload(elem_id="upload")
        shown = gr.Image(elem_id="shown", format="png")
        upload.upload(answers.guard(open_image), upload, shown, api_name="open", **answers.work)
        level = gr.Slider(0, 10, elem_id="level")
        level.change(answers.guard(str), level, gr.Textbox(), api_name="level")
        for function in (fail, refuse, doubt, work_for_ever, count, picture):
            gr.api(answers.guard(function), api_name=function.__name__, **answers.work)
    return page


if __name__ == "__main__":
    serve(build, port=int(sys.argv[1]), limits=Limits(seconds=int(sys.argv[2]), waiting=32))
