"""The web app in a real browser: what a user does, and what one should not be able to do.

`make browser` runs all of it; the suite runs the start, clicks and a hostile upload.
"""

import io
import re

import numpy as np
import pytest
from PIL import Image

from browser import browsing, serving, visit
from test_app_uploads import png_header

pytest.importorskip("gradio")
pytest.importorskip("efficientnet_lite_pytorch")

slow = pytest.mark.slow_browser
DONE = re.compile(r"\d s")
MARK = "<img src=x onerror=window.hacked=1>"


@pytest.fixture(scope="module")
def browser():
    with browsing() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(browser, tmp_path_factory):
    with serving(
        ["-m", "lpprop", "app", "--port", "PORT"], tmp_path_factory.mktemp("app")
    ) as server:
        yield server


@pytest.fixture
def user(browser, server):
    """A user whose page shows the first example, segmented."""
    with visit(browser, server.address) as watched:
        wait_for_result(watched.page)
        yield watched
        watched.check()


def wait_for_result(page):
    """Wait until the canvas shows results of what is marked now."""
    page.wait_for_function(
        """() => {
            const canvas = document.querySelector("#canvas");
            if (!canvas) return false;
            const left = canvas.querySelector(".lp-left");
            const status = canvas.querySelector(".lp-status").textContent;
            return left.src.startsWith("data:") && /\\d s/.test(status);
        }""",
        timeout=60_000,
    )


def marks(page):
    return page.locator("#canvas .lp-mark").count()


def click_on(page, across, down):
    """Click on the picture at a share of its width and height, and wait for what comes of it."""
    before = page.locator("#canvas .lp-left").get_attribute("src")
    count = marks(page)
    press(page, across, down)
    assert marks(page) == count + 1
    wait_for_other(page, before)


def press(page, across, down):
    """Click on the picture at a share of its width and height."""
    stage = page.locator("#canvas .lp-stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    stage.click(position={"x": across * box["width"], "y": down * box["height"]})


def wait_for_other(page, before):
    page.wait_for_function(
        """(before) => {
            const image = document.querySelector("#canvas .lp-left");
            return image.src.startsWith("data:") && image.getAttribute("src") !== before;
        }""",
        arg=before,
        timeout=60_000,
    )


def upload(page, content, name="picture.png"):
    page.locator("#upload input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": content}
    )


def said(page):
    """The sentence of the error that is shown."""
    toast = page.locator(".toast-body").last
    toast.wait_for()
    text = toast.inner_text()
    toast.get_by_test_id("toast-close").click()
    # It fades out, and would be taken for the next one.
    page.wait_for_function("() => !document.querySelector('.toast-body')")
    return text


def picture(size, colour="teal"):
    """A picture of two colours."""
    image = Image.new("RGB", size, colour)
    image.paste("gold", (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def download(page, kind):
    with page.expect_download() as caught:
        page.locator(f"#{kind}").click()
    return caught.value


def download_image(page, kind):
    with Image.open(download(page, kind).path()) as image:
        return image.copy()


def shown_size(page):
    image = page.locator("#canvas .lp-photo").first
    return tuple(image.evaluate("image => [image.naturalWidth, image.naturalHeight]"))


def overflow(page):
    """How many pixels the page is wider than its window."""
    return page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")


# ---------------------------------------------------------------------------------- in the suite


def test_clicks_and_a_hostile_upload(user):
    page = user.page
    assert marks(page) > 0
    click_on(page, 0.03, 0.97)
    assert DONE.search(page.locator("#canvas .lp-status").inner_text())

    upload(page, png_header(30_000, 30_000))
    message = said(page)
    assert "at most 50 million" in message
    assert "lpprop-app" not in message
    wait_for_result(page)  # the picture before is still there
    click_on(page, 0.97, 0.03)


# ---------------------------------------------------------------------------------- make browser


@slow
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hello", "a file that cannot be read"),
        (b"", "a file, which is empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "a file that cannot be read"),
        (picture((20, 5000)), "at least 32"),
    ],
    ids=["text", "empty", "svg", "narrow"],
)
def test_other_uploads_are_refused_in_a_sentence(user, content, expected):
    upload(user.page, content)
    assert expected in said(user.page)
    wait_for_result(user.page)


@slow
def test_an_own_picture_by_clicks(user):
    """Each half of two colours is what was clicked in it."""
    page = user.page
    upload(page, picture((240, 160)))
    page.wait_for_function("() => document.querySelectorAll('#canvas .lp-mark').length === 0")
    assert shown_size(page) == (240, 160)
    count = page.locator("#canvas .lp-chip input").count()
    assert count >= 2
    press(page, 0.2, 0.5)
    page.locator("#canvas .lp-chip").nth(1).click()
    press(page, 0.8, 0.5)
    page.wait_for_function(
        """() => [...document.querySelectorAll("#canvas .lp-chip .lp-share")]
                 .filter((share) => /^[34567]\\d %$/.test(share.textContent)).length === 2""",
        timeout=60_000,
    )
    labels = download_image(page, "labels")
    assert (labels.size, labels.mode) == ((240, 160), "P")
    halves = np.asarray(labels)
    assert (np.median(halves[:, :100]), np.median(halves[:, 140:])) == (0, 1)


@slow
def test_words(user):
    page = user.page
    page.locator("#start").get_by_role("tab", name="Words").click()
    words = page.locator("#words textarea")
    words.fill("flag\nspace shuttle; airliner\nsuit")
    page.locator("#segment").click()
    page.wait_for_function(
        """() => [...document.querySelectorAll("#canvas .lp-called")].map(x => x.textContent)
                 .join() === "flag,space shuttle,suit" """,
        timeout=60_000,
    )
    code = page.locator("#code").inner_text()
    assert "segmenter(" in code
    words.fill("flag\n<b>bold</b>")
    page.locator("#segment").click()
    assert "<b>bold</b>" in said(page)
    words.fill(f"flag\n{MARK}")
    page.locator("#segment").click()
    assert "expected names of ImageNet classes" in said(page)
    words.fill("flag\n" * 33)
    page.locator("#segment").click()
    assert "at most 32" in said(page)
    assert page.evaluate("window.hacked") is None


@slow
def test_names_are_no_html(user):
    page = user.page
    page.locator("#canvas .lp-name").fill(MARK)
    before = page.locator("#canvas .lp-left").get_attribute("src")
    page.locator("#canvas .lp-name").press("Tab")
    click_on(page, 0.5, 0.05)
    assert page.locator("#canvas .lp-called").first.inner_text() == MARK
    assert page.locator("#canvas .lp-left").get_attribute("src") != before
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None


@slow
def test_compare(user):
    """The slider shows the left result up to where it stands, the right one from there."""
    page = user.page
    split = page.locator("#canvas .lp-split")
    split.focus()
    for _ in range(5):
        split.press("PageDown")
    share = int(split.input_value())
    assert 0 < share < 100
    clips = [
        page.locator(f"#canvas .lp-{side}").evaluate("x => x.style.clipPath")
        for side in ("left", "right")
    ]
    assert f"{100 - share}%" in clips[0]
    assert f"{share}%" in clips[1]
    left, right = (
        page.locator(f"#canvas .lp-{side}").get_attribute("src") for side in ("left", "right")
    )
    assert left != right
    page.locator("#canvas .lp-choose-right").select_option("picture")
    assert page.locator("#canvas .lp-right").get_attribute("src") not in (left, right)
    assert page.locator("#canvas .lp-figure").count() == 2


@slow
def test_downloads(user):
    page = user.page
    width, height = shown_size(page)
    labels = download(page, "labels")
    assert labels.suggested_filename == "labels.png"
    image = download_image(page, "labels")
    assert (image.size, image.mode) == ((width, height), "P")
    classes = page.locator("#canvas .lp-chip").count()
    found = np.unique(np.asarray(image))
    assert found.max() < classes
    from lpprop.viz.palettes import colours

    palette = np.array(image.getpalette()).reshape(-1, 3)[:classes]
    assert (palette == np.asarray(colours("default", classes))).all()

    scores = np.load(download(page, "scores").path(), allow_pickle=False)
    assert (scores.shape, scores.dtype) == ((classes, height, width), np.float32)
    assert (scores.argmax(0) == np.asarray(image)).all()

    overlay = download_image(page, "overlay")
    assert overlay.size == (width, height)


@slow
def test_two_users_do_not_mix(browser, server):
    """Each has a picture, classes and clicks of their own, also when both work at once."""
    with visit(browser, server.address) as one, visit(browser, server.address) as two:
        pages = one.page, two.page
        for page in pages:
            wait_for_result(page)
        upload(pages[0], picture((200, 120)))
        upload(pages[1], picture((120, 200), "purple"))
        for page, name in zip(pages, ("first", "second"), strict=True):
            page.wait_for_function(
                "() => document.querySelectorAll('#canvas .lp-mark').length === 0"
            )
            page.locator("#canvas .lp-name").fill(name)
            page.locator("#canvas .lp-name").press("Tab")
        for number, across in ((0, 0.3), (1, 0.7)):
            for page in pages:
                page.locator("#canvas .lp-chip").nth(number).click()
                press(page, across, 0.5)
        for page in pages:
            wait_for_result(page)
        assert [shown_size(page) for page in pages] == [(200, 120), (120, 200)]
        names = [page.locator("#canvas .lp-called").first.inner_text() for page in pages]
        assert names == ["first", "second"]
        sizes = [download_image(page, "labels").size for page in pages]
        assert sizes == [(200, 120), (120, 200)]
        one.check()
        two.check()


@slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(browser, server, scheme):
    with visit(
        browser, server.address, width=400, height=800, color_scheme=scheme, has_touch=True
    ) as watched:
        page = watched.page
        wait_for_result(page)
        assert overflow(page) <= 0
        count = marks(page)
        box = page.locator("#canvas .lp-stage").bounding_box()
        assert box["width"] > 280
        page.touchscreen.tap(box["x"] + 0.5 * box["width"], box["y"] + 0.1 * box["height"])
        assert marks(page) == count + 1
        page.locator("#start").get_by_role("tab", name="Words").click()
        assert overflow(page) <= 0
        watched.check()


@slow
def test_dark_mode(browser, server):
    """As the system says, and as the button says."""
    dark = {}
    for scheme in ("light", "dark"):
        with visit(browser, server.address, color_scheme=scheme) as watched:
            page = watched.page
            wait_for_result(page)
            brightness = """() => {
                const page = document.querySelector("gradio-app");
                const colour = getComputedStyle(page).backgroundColor;
                return colour.match(/\\d+/g).slice(0, 3).reduce((sum, x) => sum + Number(x), 0);
            }"""
            dark[scheme] = page.evaluate(brightness)
            page.locator("#dark").click()
            page.wait_for_function(f"(before) => ({brightness})() !== before", arg=dark[scheme])
            dark[scheme] = dark[scheme], page.evaluate(brightness)
            watched.check()
    (light, turned_dark), (night, turned_light) = dark["light"], dark["dark"]
    assert min(light, turned_light) > 600
    assert max(night, turned_dark) < 200


@slow
def test_the_keyboard_reaches_everything(user):
    page = user.page
    page.locator("body").click(position={"x": 1, "y": 1})
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(
            """() => {
                const at = document.activeElement;
                if (at.classList.contains("lp-stage")) return "stage";
                if (at.classList.contains("lp-split")) return "split";
                const named = at.closest("#examples, #upload, #start, #methods, #options, "
                    + "#background, #opacity, #which, #labels, #overlay, #scores, #code");
                return named ? named.id : at.className;
            }"""
        ))  # fmt: skip
    wanted = {
        "stage", "split", "examples", "upload", "start", "methods", "background", "opacity",
        "which", "labels", "overlay", "scores",
    }  # fmt: skip
    assert wanted <= set(reached)

    stage = page.locator("#canvas .lp-stage")
    stage.focus()
    count, before = marks(page), page.locator("#canvas .lp-left").get_attribute("src")
    for _ in range(10):
        stage.press("ArrowLeft")
    stage.press("2")
    stage.press("Enter")
    assert marks(page) == count + 1
    wait_for_other(page, before)
    stage.press("Backspace")
    assert marks(page) == count


@slow
def test_options_and_the_code(user):
    """The code that is shown makes the labels that are downloaded."""
    page = user.page
    before = page.locator("#code").inner_text()
    assert "lpprop" in before
    page.locator("#background input[type=number]").fill("0.9")
    page.locator("#background input[type=number]").press("Tab")
    page.wait_for_function(
        "() => document.querySelector('#code').innerText.includes('background=0.9')",
        timeout=60_000,
    )
    wait_for_result(page)
    assert page.locator("#canvas .lp-called").last.inner_text() == "none of these"
