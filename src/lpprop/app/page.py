"""The page: fields, and which of them asks for what. What is done then is in session.py.

The fields by their `elem_id`:

    title         the heading; #dark in it switches between light and dark
    canvas        the picture: one clicks on it, names classes above it, compares results below it
    examples      photographs to start with
    upload        takes an image
    start         the tabs Clicks and Words
    features      clicks: the network whose features carry them on
    words         words: the classes, one per line
    recipe        words: what scores them
    segment       words: the button
    methods       the methods to set side by side
    options       an accordion per method, with a field per option: option-METHOD-NAME
    background    the threshold of "none of these"
    opacity       of the colours
    which         the method whose code is shown and whose files are downloaded
    labels, overlay, scores      buttons that download; #file holds the file
    code          the lines of Python that do the same
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from lpprop.app.answers import Answers
from lpprop.app.api import add_api
from lpprop.app.blocks import Page, make_upload
from lpprop.app.canvas import CLASSES, layer_props, make_canvas, picture_props, write_value
from lpprop.app.examples import available_examples, load_example
from lpprop.app.heading import make_examples, make_title
from lpprop.app.layers import MOST_METHODS
from lpprop.app.models import Models
from lpprop.app.option_fields import make_field, read_options, reset_options
from lpprop.app.picture import Picture
from lpprop.app.session import CLICKS, DOWNLOADS, WORDS, Session, Wish
from lpprop.compose.presets import METHODS
from lpprop.interaction.controls import controls

__all__ = ["FIRST_METHODS", "build_page"]

#: The methods that are side by side at first, by the way to start: what suits it, and the default
#: of `refine` or what it starts from.
FIRST_METHODS = {CLICKS: ["clicks", "auto"], WORDS: ["auto", "bilinear"]}

_NO_CODE = "# The lines come with the first result."

_OPACITY_JS = """
(opacity) => { document.querySelector("#canvas").style.setProperty("--lp-opacity", opacity); }
"""
# The canvas shows that somebody works, and clears it also where there was an error.
_BUSY_JS = "() => { window.dispatchEvent(new CustomEvent('lp-busy', { detail: true })); }"
_IDLE_JS = "() => { window.dispatchEvent(new CustomEvent('lp-busy', { detail: false })); }"
_DOWNLOAD_JS = """
() => { setTimeout(() => document.querySelector("#file a, a#file, #file")?.click(), 50); }
"""


def build_page(answers: Answers, models: Models, recipe: str | None = None) -> Page:
    """Build the page.

    Args:
        answers: guards the functions that answer its events.
        models: the networks.
        recipe: the recipe for words that is chosen at first; the first one if None.
    """
    return _Builder(answers, models).build(recipe or models.recipes[0])


class _Builder:
    """Holds what the functions that answer events share."""

    def __init__(self, answers: Answers, models: Models) -> None:
        self.answers, self.models, self.limits = answers, models, answers.limits
        self.examples = available_examples()
        # Whatever an event may change besides the session.
        self.work: dict[str, Any] = {"api_visibility": "private", **answers.work}

    def build(self, recipe: str) -> Page:
        """Return the page."""
        page = Page(title="lpprop", analytics_enabled=False)
        with page:
            make_title()
            self.session = gr.State(None)
            self.mode = gr.State(CLICKS)
            self.options = gr.State({})
            self._picture_fields()
            with gr.Row():
                with gr.Column(scale=7, min_width=300):
                    self.canvas = make_canvas(self.limits, "upload", elem_id="canvas")
                with gr.Column(scale=4, min_width=300):
                    self._start_fields(recipe)
                    self._method_fields(page)
            self._result_fields()
            self._listen(page)
            add_api(self.answers, self.models, recipe)
        return page

    def _picture_fields(self) -> None:
        with gr.Row():
            if self.examples:
                with gr.Column(scale=7, min_width=300):
                    shown = [(one.name, load_example(one.name)) for one in self.examples]
                    self.gallery = make_examples(shown)
            with gr.Column(scale=4, min_width=300):
                self.upload = make_upload(
                    show_label=False, elem_id="upload", sources=["upload"], height=92,
                    placeholder="Drop your own picture here, or choose a file",
                )  # fmt: skip

    def _start_fields(self, recipe: str) -> None:
        features, recipes = self.models.features, self.models.recipes
        first = self.examples[0].words if self.examples else ""
        with gr.Tabs(elem_id="start"):
            with gr.Tab("Clicks", id=CLICKS) as self.clicks_tab:
                gr.Markdown(
                    "Choose a class above the picture, and click on what belongs to it. A few "
                    "clicks per class are enough; each one mends the result. Shift and click "
                    "removes the nearest one."
                )
                self.features = gr.Dropdown(
                    list(features), value=features[0], label="Features", elem_id="features",
                    info="The network that tells which parts of the picture belong together",
                    visible=len(features) > 1,
                )  # fmt: skip
            with gr.Tab("Words", id=WORDS) as self.words_tab:
                self.words = gr.Textbox(
                    first, label="Classes, one per line", lines=3, max_lines=8, elem_id="words",
                    info='Synonyms are set apart by ";", with or without "name =". The offline '
                    "model knows ImageNet's words alone",
                    max_length=self.limits.characters,
                )  # fmt: skip
                self.recipe = gr.Dropdown(
                    list(recipes), value=recipe, label="Recipe", elem_id="recipe",
                    visible=len(recipes) > 1,
                )  # fmt: skip
                self.segment = gr.Button("Segment", variant="primary", elem_id="segment")

    def _method_fields(self, page: Page) -> None:
        choices = [
            (f"{row.name}: {row.note}", row.name) for row in METHODS.values() if row.is_installed
        ]
        self.methods = gr.Dropdown(
            choices, value=FIRST_METHODS[CLICKS], multiselect=True, max_choices=MOST_METHODS,
            label="Methods side by side", elem_id="methods",
        )  # fmt: skip
        with gr.Group(elem_id="options"):
            gr.render(inputs=[self.methods], triggers=[page.load, self.methods.change])(
                self._option_fields
            )
        self.background = gr.Slider(
            0, 1, 0, step=0.05, label="None of these", elem_id="background",
            info="Below which share of the best class a pixel belongs to none; 0 gives each one",
        )  # fmt: skip
        self.opacity = gr.Slider(
            0, 1, 0.55, step=0.05, label="Opacity of the colours", elem_id="opacity"
        )

    def _option_fields(self, methods: list[str]) -> None:
        """Make an accordion per method, with a field per option."""
        for method in methods:
            known = controls(method, given=("feats", "image", "regions"))
            if not known:
                continue
            with gr.Accordion(f"Options of {method}", open=False, key=f"options-{method}"):
                fields = [make_field(method, control) for control in known]
                reset = gr.Button("Back to the defaults", size="sm", key=f"reset-{method}")
            change = partial(read_options, method, known)
            for one in fields:
                # By keyboard and in the field of the number, too, which `release` does not hear.
                heard = one.input(
                    change, [self.options, *fields], self.options,
                    trigger_mode="always_last", api_visibility="private",
                )  # fmt: skip
                self._then_answer(heard)
            heard = reset.click(
                partial(reset_options, method, known), self.options, [self.options, *fields],
                api_visibility="private",
            )  # fmt: skip
            self._then_answer(heard)

    def _result_fields(self) -> None:
        with gr.Row(elem_id="downloads"):
            self.which = gr.Dropdown(
                FIRST_METHODS[CLICKS], value=FIRST_METHODS[CLICKS][0], label="Files and code of",
                elem_id="which", scale=2, min_width=200,
                # Else Gradio refuses a value that was sent before the choices changed.
                allow_custom_value=True,
            )  # fmt: skip
            self.buttons = {
                kind: gr.Button(f"Download {kind}", elem_id=kind, min_width=140, size="md")
                for kind in DOWNLOADS
            }  # fmt: skip
            self.file = gr.DownloadButton("", elem_id="file", visible="hidden")
        self.code = gr.Code(
            _NO_CODE, language="python", label="The same in Python", elem_id="code",
            interactive=False, buttons=["copy"], show_line_numbers=False, wrap_lines=True,
            lines=1, max_lines=24,
        )  # fmt: skip

    def _listen(self, page: Page) -> None:
        """Say which event asks for what."""
        guard = self.answers.guard
        hidden: dict[str, Any] = {"show_progress": "hidden"}
        changed = [self.session, self.canvas, self.words, self.which, self.code]
        for trigger in (
            self.canvas.input, self.methods.input, self.features.input, self.recipe.input,
            self.background.input, self.segment.click,
        ):  # fmt: skip
            self._answer(trigger)
        for tab, mode in ((self.clicks_tab, CLICKS), (self.words_tab, WORDS)):
            chosen = tab.select(
                partial(_choose_mode, mode), [self.mode, self.methods],
                [self.mode, self.canvas, self.methods],
                api_visibility="private", **hidden,
            )  # fmt: skip
            self._then_answer(chosen)
        if self.examples:
            for trigger in (page.load, self.gallery.input):
                shown = trigger(
                    guard(self._show_example), self.gallery, changed,
                    trigger_mode="always_last", **self.work, **hidden,
                )  # fmt: skip
                self._then_answer(shown)
        opened = self.upload.upload(
            guard(self._open_upload),
            self.upload,
            [*changed, self.upload],
            show_progress_on=self.upload,
            **self.work,
        )
        self._then_answer(opened)
        self.opacity.change(None, self.opacity, None, js=_OPACITY_JS, api_visibility="private")
        self.which.input(
            guard(self._write_code), [self.session, self.which], self.code, **self.work, **hidden
        )
        for kind, button in self.buttons.items():
            ready = button.click(
                guard(partial(self._download, kind)), [self.session, self.which, self.opacity],
                self.file, **self.work,
            )  # fmt: skip
            ready.success(None, None, None, js=_DOWNLOAD_JS, api_visibility="private")

    def _answer(self, trigger: Callable[..., Any]) -> None:
        """Refine again when something happens."""
        trigger(None, None, None, js=_BUSY_JS, api_visibility="private")
        answered = trigger(
            self.answers.guard(self._refine, notes=False),
            [
                self.session, self.which, self.mode, self.canvas, self.features, self.words,
                self.recipe, self.methods, self.options, self.background,
            ],
            [self.session, self.canvas, self.which, self.code],
            show_progress="hidden", trigger_mode="always_last", **self.work,
        )  # fmt: skip
        answered.then(None, None, None, js=_IDLE_JS, api_visibility="private")

    def _then_answer(self, earlier: Any) -> None:
        self._answer(earlier.success)

    # What the events do.

    def _refine(self, session: Session | None, which: str, *wish: Any) -> tuple[Any, ...]:
        if session is None:
            return (gr.skip(),) * 4
        found = session.fulfil(Wish(*wish), self.models, self.limits)
        if found is None:
            return (gr.skip(),) * 4
        session, layers = found
        shown = which if which in session.methods else session.methods[0]
        return (
            session,
            gr.update(**layer_props(layers)),
            gr.update(choices=list(session.methods), value=shown),
            session.code(shown, self.models),
        )

    def _show_example(self, name: str) -> tuple[Any, ...]:
        known = {one.name: one for one in self.examples}
        example = known.get(name, self.examples[0])
        picture = load_example(example.name)
        value = write_value(example.classes, example.points, picture.key)
        return self._show(picture, value, example.words)

    def _open_upload(self, path: str | None) -> tuple[Any, ...]:
        image = self.answers.open_image(path)
        picture = Picture(image, scaled=max(image.size) == self.limits.side)
        value = write_value(CLASSES, (), picture.key)
        return *self._show(picture, value, gr.skip()), None

    def _show(self, picture: Picture, value: str, words: Any) -> tuple[Any, ...]:
        """Show a picture without results."""
        canvas = gr.update(value=value, **picture_props(picture))
        return Session(picture), canvas, words, gr.skip(), _NO_CODE

    def _write_code(self, session: Session | None, which: str) -> str:
        found = "" if session is None else session.code(which, self.models)
        return found or _NO_CODE

    def _download(self, kind: str, session: Session | None, which: str, opacity: float) -> str:
        if session is None:
            raise gr.Error("Choose a picture first.", print_exception=False)
        content = session.download(kind, which, self.models, opacity)
        return self.answers.write(DOWNLOADS[kind], lambda file: file.write(content))


def _choose_mode(mode: str, before: str, methods: list[str]) -> tuple[Any, ...]:
    """Change the way to start, and the methods if the first ones were left."""
    if mode == before:  # Gradio tells of the first tab, too, when the page is opened
        return mode, gr.skip(), gr.skip()
    left = methods == FIRST_METHODS[before]
    return mode, gr.update(mode=mode, layers=[]), FIRST_METHODS[mode] if left else gr.skip()
