"""What the web app takes as an image, and what it refuses in a sentence."""

import dataclasses
import io
import resource
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from lpprop import InputError, InputWarning
from lpprop.app.limits import Limits
from lpprop.app.uploads import open_upload

LIMITS = Limits()
SHAPE = (48, 64)
PIXELS = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(tmp_path, content, name="upload.png", limits=LIMITS):
    path = tmp_path / name
    path.write_bytes(content)
    return open_upload(path, limits)


def refused(tmp_path, content, name="upload.png", limits=LIMITS):
    with pytest.raises(InputError) as caught:
        opened(tmp_path, content, name, limits)
    message = str(caught.value)
    assert message.startswith("image: got ")
    assert str(tmp_path) not in message
    assert name not in message
    return message


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
def test_images_are_opened(tmp_path, kind):
    image = opened(tmp_path, encoded(PHOTO, kind), "a.of any 'name'")
    assert (image.mode, image.size) == ("RGB", PHOTO.size)
    if kind in ("PNG", "BMP"):
        assert (np.asarray(image) == PIXELS).all()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    image = opened(tmp_path, encoded(PHOTO.convert(mode), kind))
    assert image.mode == "RGB"
    if mode == "RGBA":
        assert (np.asarray(image) == PIXELS).all()


def test_16_bits_are_refused(tmp_path):
    grey = Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)
    assert "8 bits per channel" in refused(tmp_path, encoded(grey, "PNG"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_upright(tmp_path, orientation):
    """As Pillow's own function turns them, on a picture whose quarters JPEG keeps apart."""
    quarters = np.zeros((64, 96, 3), np.uint8)
    quarters[:32, :48], quarters[:32, 48:], quarters[32:, :48] = 250, 170, 90
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(quarters), "JPEG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    image = opened(tmp_path, content)
    assert (np.asarray(image) == np.asarray(expected)).all()
    assert not image.info


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"junk" * 99])
def test_odd_exif(tmp_path, exif):
    assert opened(tmp_path, encoded(PHOTO, "JPEG", exif=exif)).size == PHOTO.size


def test_large_images_are_scaled_down_with_a_word(tmp_path):
    grey = Image.new("RGB", (1500, 1000), (9, 8, 7))
    with pytest.warns(InputWarning, match="1500 x 1000 pixels is scaled down to 1024 x 683"):
        image = opened(tmp_path, encoded(grey, "PNG"))
    assert image.size == (1024, 683)
    assert image.getcolors() == [(1024 * 683, (9, 8, 7))]


def test_images_of_the_largest_side_stay_as_they_are(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert opened(tmp_path, encoded(Image.new("RGB", (1024, 32)), "PNG")).size == (1024, 32)


# ------------------------------------------------------------------------------------- too large


def test_large_files(tmp_path):
    content = encoded(PHOTO, "PNG")
    limits = dataclasses.replace(LIMITS, file_bytes=len(content))
    assert opened(tmp_path, content, limits=limits)
    assert "a file of 20.1 MiB, expected at most 20 MiB" in refused(
        tmp_path, content + bytes(20 * 2**20)
    )


def png_header(width, height):
    """A PNG of a size that its data does not have."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bombs():
    def jpeg(width, height):
        content = bytearray(encoded(PHOTO, "JPEG"))
        start = content.index(b"\xff\xc0")
        content[start + 5 : start + 9] = struct.pack(">HH", height, width)
        return bytes(content)

    def gif(width, height):
        content = bytearray(encoded(PHOTO, "GIF"))
        content[6:10] = struct.pack("<HH", width, height)
        return bytes(content)

    def gif_frame(width, height):
        """The frame is larger than the image of which it is a part."""
        content = bytearray(encoded(PHOTO, "GIF"))
        start = content.index(b"," + struct.pack("<HHHH", 0, 0, *PHOTO.size))
        content[start + 5 : start + 9] = struct.pack("<HH", width, height)
        return bytes(content)

    def webp(width, height):
        content = bytearray(encoded(PHOTO.convert("RGBA"), "WEBP", exif=b"Exif\0\0MM\0*"))
        start = content.index(b"VP8X")
        content[start + 12 : start + 18] = (width - 1).to_bytes(3, "little") + (
            height - 1
        ).to_bytes(3, "little")
        return bytes(content)

    def bmp(width, height):
        content = bytearray(encoded(PHOTO, "BMP"))
        content[18:26] = struct.pack("<ii", width, height)
        return bytes(content)

    return [png_header, jpeg, gif, gif_frame, webp, bmp]


@pytest.mark.parametrize("make", bombs(), ids=lambda make: make.__name__)
@pytest.mark.parametrize("size", [(8000, 8000), (16000, 16000)])
def test_bombs_are_refused_by_their_header(tmp_path, make, size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refused(tmp_path, make(*size))
    if make.__name__ != "webp":  # its parts disagree, which its decoder sees at once
        assert "too many pixels" in message or "at most 50 million" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(tmp_path):
    """Each of the added scans is of a few bytes, and a pass over the image."""
    content = encoded(Image.new("RGB", (640, 640)), "JPEG", progressive=True)
    start = content.rindex(b"\xff\xda")
    many = content[:-2] + 200 * content[start:-2] + content[-2:]
    assert len(many) < 2 * 10**5
    assert "a JPEG image of 2" in refused(tmp_path, many)
    assert opened(tmp_path, content).size == (640, 640)


# ------------------------------------------------------------------------------- of another shape


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (31, 64), (64, 31), (4000, 60)])
def test_narrow_images(tmp_path, size):
    message = refused(tmp_path, encoded(Image.new("L", size), "PNG"))
    assert f"{size[0]} x {size[1]} pixels, expected at least 32" in message


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations(tmp_path, kind):
    more = [Image.new("RGB", PHOTO.size, colour) for colour in ("red", "blue")]
    content = encoded(PHOTO, kind, save_all=True, append_images=more)
    assert "an animated image" in refused(tmp_path, content)


def test_a_phone_s_jpeg_with_a_second_picture_is_an_image(tmp_path):
    content = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.resize((16, 16))])
    assert Image.open(io.BytesIO(content)).format == "MPO"
    assert opened(tmp_path, content).size == PHOTO.size


# ------------------------------------------------------------------------------------- no image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


@pytest.mark.parametrize(
    "content",
    [
        b"", b"hello", SVG, b"%PDF-1.7\n1 0 obj", b"<!doctype html><script>alert(1)</script>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"PK\x03\x04" + bytes(99),
        b"\x89PNG\r\n\x1a\n", encoded(PHOTO, "PNG")[:200], encoded(PHOTO, "JPEG")[:-900],
        encoded(PHOTO, "WEBP", lossless=True)[:-900], encoded(PHOTO, "GIF")[:-900],
        encoded(PHOTO, "TIFF"), encoded(PHOTO, "PPM"),
    ],
    ids=["empty", "text", "svg", "pdf", "html", "eps", "zip", "png's start", "png cut", "jpeg cut",
         "webp cut", "gif cut", "tiff", "ppm"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["a.png", "<img src=x onerror=alert(1)>\n'\".svg"])
def test_other_files(tmp_path, content, name):
    message = refused(tmp_path, content, name.replace("/", ""))
    assert len(message) < 200
    assert "\n" not in message


def test_a_file_that_is_gone(tmp_path):
    with pytest.raises(InputError, match=r"^image: got a file that is gone"):
        open_upload(tmp_path / "none.png", LIMITS)


# ------------------------------------------------------------------------------------- the limits


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, 1.5, float("nan"), "9"])
def test_limits_are_positive_integers(field, value):
    with pytest.raises(InputError, match=f"^{field}: got "):
        Limits(**{field: value})


def test_texts_classes_and_clicks_have_limits():
    limits = Limits(classes=3, characters=20, clicks=2)
    limits.check_classes(["a", "b", "c" * 18])
    limits.check_text("x" * 20)
    limits.check_clicks(2)
    with pytest.raises(InputError, match="classes: got 10,000 classes, expected at most 3"):
        limits.check_classes(["a"] * 10_000)
    with pytest.raises(InputError, match="classes: got a text of 21 characters"):
        limits.check_classes(["a", "x" * 20])
    with pytest.raises(InputError, match="words: got a text of 21 characters"):
        limits.check_text("x" * 21, "words")
    with pytest.raises(InputError, match="clicks: got 3 clicks"):
        limits.check_clicks(3)
