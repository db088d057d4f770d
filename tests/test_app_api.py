"""The web app from code: gradio_client, and whoever sends what the page would not, over HTTP.

The server is the one of space/, as it is.
"""

import concurrent.futures
import io
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import lpprop
from browser import ROOT, serving
from lpprop.models import RECIPES
from test_app_guards import call, form
from test_app_uploads import png_header

pytest.importorskip("gradio")
pytest.importorskip("efficientnet_lite_pytorch")

slow = pytest.mark.slow_browser
CLASSES = "cat\nsofa\nbanana"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    app = str(ROOT / "space" / "app.py")
    with serving([app], tmp_path_factory.mktemp("space"), GRADIO_SERVER_PORT="PORT") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    from gradio_client import Client

    with tempfile.TemporaryDirectory() as folder:
        client = Client(server.address, verbose=False, download_files=folder)
        yield client
        client.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """Two halves of different texture, larger than a network's grid."""
    pixels = np.random.default_rng(1).integers(0, 80, (160, 256, 3), dtype=np.uint8)
    pixels[:, 128:] += 170
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def send(client, photo, *values, of, **fields):
    from gradio_client import handle_file

    labels, names = client.predict(handle_file(str(photo)), *values, api_name=of, **fields)
    with Image.open(labels) as image:
        return np.asarray(image), names


def test_the_space_serves_the_page(server):
    status, _, body = server.get("/config")
    assert (status, json.loads(body)["title"]) == (200, "lpprop")


def test_words(client, photo):
    """The labels are those of the recipe in Python."""
    labels, names = send(client, photo, CLASSES, method="lposs", of="/segment_words")
    segmenter = RECIPES["offline"].with_method("lposs").build(download=False)
    with Image.open(photo) as image:
        expected = segmenter(image, CLASSES.split("\n"))
    assert names == ["cat", "sofa", "banana"]
    assert (labels == expected.labels[0].numpy()).all()


def test_clicks(client, photo):
    clicks = [[80, 30, 0], [80, 200, 1]]
    labels, names = send(client, photo, clicks, "left\nright", of="/segment_clicks")
    assert names == ["left", "right"]
    assert (np.median(labels[:, :110]), np.median(labels[:, 130:])) == (0, 1)

    options = {"k": 20, "gamma": 5.5}
    labels, _ = send(
        client, photo, clicks, "left\nright", method="lposs", options=options, of="/segment_clicks"
    )
    from lpprop.backbones import EfficientNetLite0

    image = Image.open(photo).convert("RGB")
    model = EfficientNetLite0()
    seen = model(image)
    points, marked = [click[:2] for click in clicks], [click[2] for click in clicks]
    span = model.span((160, 256))
    start = lpprop.seed_logits(points, marked, span, grid=seen.grid)
    expected = lpprop.refine(
        start, seen.feats, image, method="lposs", feats_from=model.feats_from,
        patch_size=model.patch_size, span=span, **options,
    )  # fmt: skip
    assert (labels == expected[0].argmax(0).numpy()).mean() > 0.999


def test_what_the_docs_show(server, photo, tmp_path, monkeypatch):
    """The lines of docs/app.md run, and leave the labels of the clicks."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "app.md").read_text(), re.DOTALL)
    (tmp_path / "street.jpg").write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    left = {}
    exec(code.replace("http://127.0.0.1:7860", server.address), left)
    left["client"].close()
    assert left["names"] == ["left", "right"]
    with Image.open(left["labels"]) as labels, Image.open(photo) as image:
        assert (labels.mode, labels.size) == ("P", image.size)


def test_the_endpoints_stay(client):
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    found = {
        name: [
            (field["parameter_name"], field["parameter_has_default"])
            for field in endpoint["parameters"]
        ]
        for name, endpoint in endpoints.items()
    }
    both = [("method", True), ("options", True), ("background", True)]
    assert found == {
        "/segment_words": [("image", False), ("classes", False), *both, ("recipe", True)],
        "/segment_clicks": [
            ("image", False), ("clicks", True), ("classes", False), *both, ("features", True)
        ],
    }  # fmt: skip


# ------------------------------------------------------------------------------- what else is sent


def stored(server, content, name="a.png"):
    """Upload a file; return the value of a field that holds it."""
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    status, _, body = server.get("/gradio_api/upload", form(content, name), kind)
    assert status == 200
    (path,) = json.loads(body)
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


@pytest.fixture(scope="module")
def image(server, photo):
    return stored(server, photo.read_bytes())


GOOD = {
    "segment_words": [CLASSES, "auto", {}, 0, "offline"],
    "segment_clicks": [[[9, 9, 0], [99, 99, 1]], "a\nb", "auto", {}, 0, "offline"],
}
ODD = [None, True, 3, -1, 1e300, "", "x" * 9999, "<b>\n'\"", [], {}, [[]], {"a": [1]}, [None]]
ODDER = {
    "clicks": [
        [[-1, 0, 0]], [[160, 0, 0]], [[0, 256, 0]], [[0, 0, 2]], [[0, 0, -1]], [[0, 0, 0.5]],
        [[0, 0]], [[0, 0, "0"]], [[1e308, 0, 0]], [[True, 0, 0]], [[9, 9, 0]] * 501, "[[9, 9, 0]]",
        [[9, 9, [0]]], {"0": [9, 9, 0]}, [[9, 9, 10**30]],
    ],
    "classes": ["\n".join(f"c{i}" for i in range(10_000)), "cat\n" * 33, "cat\ncat", "one"],
    "method": ["none", "LPOSS+", "../lposs", "dense_crf\0"],
    "options": [
        {"k": -1}, {"k": 10**12}, {"k": 2.5}, {"k": "9"}, {"k": None}, {"nonsense": 1},
        {"k": [1]}, {"k": {"a": 1}}, {"alpha": 1e99}, {"backend": "torch"}, {"__class__": 1},
        {"tau": 0}, [["k", 3]], "k=3",
    ],
    "background": [-1, 2, 1e99, "0.5x"],
    "recipe": ["clip-dino", "../../etc/passwd", "https://example.com/x"],
    "features": ["dinov2-vits14", "/etc/passwd", "https://example.com/x"],
}  # fmt: skip
FIELDS = {
    "segment_words": ["classes", "method", "options", "background", "recipe"],
    "segment_clicks": ["clicks", "classes", "method", "options", "background", "features"],
}
SENTENCE = re.compile(
    r"[a-z_ \[\]\d]+: got .+, expected .+|A value was sent that this field does not take\.", re.S
)


@slow
@pytest.mark.parametrize(
    ("endpoint", "field"), [(name, field) for name, fields in FIELDS.items() for field in fields]
)
def test_odd_values_end_in_sentences(server, image, endpoint, field):
    """None ends in an unexpected error, and the server answers good ones as before."""
    place = FIELDS[endpoint].index(field)
    unexpected = []
    for value in [*ODD, *ODDER[field]]:
        values = [*GOOD[endpoint]]
        values[place] = value
        said = call(server, endpoint, image, *values)
        if isinstance(said, str) and not SENTENCE.fullmatch(said):
            unexpected.append((value, said))
    assert unexpected == []
    assert isinstance(call(server, endpoint, image, *GOOD[endpoint]), list)


@slow
@pytest.mark.parametrize("value", [*ODD, {"path": "/etc/passwd"}, "/etc/passwd"])
def test_odd_images_end_in_sentences(server, value):
    said = call(server, "segment_words", value, *GOOD["segment_words"])
    assert SENTENCE.fullmatch(said) or said.startswith("400 ")


def hostile_files(photo):
    two = io.BytesIO()
    np.savez_compressed(two, logits=np.zeros((100, 1000, 1000), np.uint8))
    palette = io.BytesIO()
    Image.open(photo).convert("P").save(palette, "PNG", transparency=0)
    return {
        "bomb": png_header(30_000, 30_000), "zip bomb": two.getvalue(),
        "palette": palette.getvalue(), "empty": b"", "text": b"x" * 1000,
        "one pixel": png_header(1, 1),
    }  # fmt: skip


@slow
def test_hostile_files_end_in_sentences_and_memory_stays(server, photo):
    for _ in range(2):
        for kind, content in hostile_files(photo).items():
            for name in ("a.png", "'\".png", "<script>.png", "a.svg"):
                said = call(
                    server, "segment_words", stored(server, content, name), *GOOD["segment_words"]
                )
                if kind == "palette":
                    assert isinstance(said, list)
                else:
                    assert SENTENCE.fullmatch(said), (kind, said)
    assert server.memory() < 2000


@slow
def test_as_many_as_wait(server, photo, client):
    """All are answered alike; memory and threads do not grow with the second round."""
    grown = []
    for _ in range(2):
        jobs = [
            client.submit(
                {"path": str(photo), "meta": {"_type": "gradio.FileData"}}, CLASSES,
                api_name="/segment_words",
            )
            for _ in range(16)
        ]  # fmt: skip
        answers = [job.result(timeout=120)[1] for job in jobs]
        assert answers == [["cat", "sofa", "banana"]] * 16
        grown.append((server.memory(), server.threads()))
    assert grown[1][0] < grown[0][0] + 150, grown
    assert grown[1][1] <= grown[0][1] + 5, grown


@slow
def test_many_http_calls_at_once(server, image):
    """What does not fit into the queue is told so; nothing else happens."""
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        said = list(
            pool.map(
                lambda _: call(server, "segment_words", image, *GOOD["segment_words"]), range(40)
            )
        )
    refused = [one for one in said if isinstance(one, str)]
    assert all("Queue is full" in one for one in refused)
    assert len(said) - len(refused) >= 16


@slow
def test_a_long_job_ends(server, tmp_path):
    """The largest image, the most classes, the slowest options: an answer or a sentence."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    words = [str(name).partition(",")[0] for name in lpprop.backbones.imagenet_classes()[::31]][:32]
    said = call(
        server, "segment_words", stored(server, file.getvalue()), "\n".join(words), "lposs+",
        {}, 0, "offline",
    )  # fmt: skip
    assert isinstance(said, list) or SENTENCE.fullmatch(said)
    assert server.memory() < 4000


def test_the_log_says_nothing_of_what_was_sent(server):
    log = server.log.read_text()
    assert log.startswith("lpprop: The page is at http://")
    assert not re.search(r"cat|sofa|photo\.png|Traceback", log), log
    assert Path(server.log).stat().st_size < 2000
