"""Readers take every format and refuse hostile or damaged files; writers leave whole files."""

import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from lpprop._core.errors import InputError
from lpprop.io.arrays import find_arrays, load_array
from lpprop.io.atomic import atomic_write
from lpprop.io.images import find_images, load_image
from lpprop.io.label_maps import check_class_count, label_image, load_labels
from lpprop.viz.palettes import colours

ARRAY = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)


class Bomb:
    """Unpickled by a careless reader, it leaves a file behind."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def refused(path, argument="logits", load=load_array):
    """Return the error's message, which must name file and argument."""
    with pytest.raises(InputError) as caught:
        load(path, argument)
    message = str(caught.value)
    assert message.startswith(f"{argument}: got {path}")
    return message


def write(path, array):
    tensor = torch.from_numpy(array.copy())
    {
        ".npy": lambda: np.save(path, array),
        ".npz": lambda: np.savez_compressed(path, anything=array),
        ".safetensors": lambda: save_file({"anything": tensor}, path),
        ".pt": lambda: torch.save(tensor, path),
        ".pth": lambda: torch.save({"anything": tensor, "epoch": 3}, path),
    }[path.suffix]()
    return path


SUFFIXES = [".npy", ".npz", ".safetensors", ".pt", ".pth"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_agree(tmp_path, suffix):
    loaded = load_array(write(tmp_path / f"a{suffix}", ARRAY), "logits")
    assert loaded.dtype == torch.float32
    np.testing.assert_array_equal(loaded.numpy(), ARRAY)


@pytest.mark.parametrize("dtype", ["<f8", ">f8", ">f4", "f2", "i8", "u1", "?"])
def test_dtypes(tmp_path, dtype):
    array = (ARRAY * 10).astype(dtype)
    np.save(tmp_path / "a.npy", array[:, ::-1])
    loaded = load_array(tmp_path / "a.npy", "logits")
    assert loaded.dtype == (torch.float64 if dtype.endswith("f8") else torch.float32)
    np.testing.assert_array_equal(loaded.numpy(), array[:, ::-1])


def test_bfloat16(tmp_path):
    tensor = torch.from_numpy(ARRAY).bfloat16()
    save_file({"logits": tensor}, tmp_path / "a.safetensors")
    assert torch.equal(load_array(tmp_path / "a.safetensors", "logits"), tensor.float())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_the_name_decides_among_several(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    arrays = {"feats": ARRAY, "logits": ARRAY + 1}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if suffix == ".npz":
        np.savez(path, **arrays)
    elif suffix == ".pt":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    np.testing.assert_array_equal(load_array(path, "logits").numpy(), ARRAY + 1)
    np.testing.assert_array_equal(load_array(path, "feats").numpy(), ARRAY)
    message = refused(path, "attention")
    assert "'feats', 'logits'" in message
    assert "under the name 'attention'" in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 1, 0.3, 0.9, -1])
def test_truncated_files(tmp_path, suffix, kept):
    path = write(tmp_path / f"a{suffix}", ARRAY)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    message = refused(path)
    assert len(message) < 600
    assert "weights_only=False" not in message


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", ["pickle", "torch pickle", "object array", "noise"])
def test_hostile_files_never_execute(tmp_path, suffix, content):
    path, trace = tmp_path / f"a{suffix}", tmp_path / "executed"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    elif content == "torch pickle":
        torch.save({"logits": Bomb(trace)}, path)
    elif content == "object array":
        with path.open("wb") as file:
            np.save(file, np.array([Bomb(trace)], dtype=object), allow_pickle=True)
    else:
        path.write_bytes(np.random.default_rng(0).bytes(4096))
    message = refused(path)
    assert "weights_only" not in message
    assert not trace.exists()


def test_object_array_in_npz(tmp_path):
    trace = tmp_path / "executed"
    np.savez(tmp_path / "a.npz", logits=np.array([Bomb(trace)], dtype=object))
    assert "cannot be read" in refused(tmp_path / "a.npz")
    assert not trace.exists()


def test_npy_that_promises_more_than_it_holds(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1000, 100_000, 100_000)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(b"\0" * 64)
    assert "cannot be read" in refused(path)


def test_tensors_that_are_not_plain(tmp_path):
    path = tmp_path / "a.pt"
    for tensor, held in [
        (torch.ones(1).expand(21, 100_000, 100_000), "expanded"),
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
        (torch.ones(2, device="meta"), "strided"),
    ]:
        torch.save(tensor, path)
        assert held in refused(path)


def test_what_is_not_numbers(tmp_path):
    for array in (np.array(["a"]), np.ones(3, complex), np.zeros(2, [("a", "f4")])):
        np.save(tmp_path / "a.npy", array)
        assert "real numbers" in refused(tmp_path / "a.npy")
    torch.save([torch.ones(2)], tmp_path / "a.pt")
    assert "type list" in refused(tmp_path / "a.pt")
    np.savez(tmp_path / "a.npz")
    assert "no array" in refused(tmp_path / "a.npz")


def test_missing_empty_unknown(tmp_path):
    assert "does not exist" in refused(tmp_path / "a.npy")
    assert "is not a file" in refused(tmp_path)
    (tmp_path / "a.npy").touch()
    assert "is empty" in refused(tmp_path / "a.npy")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    assert "one of .npy, .npz, .safetensors, .pt, .pth" in refused(tmp_path / "a.pkl")
    assert not (tmp_path / "executed").exists()


# Images


def test_exif_orientation_is_obeyed(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = load_image(tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(image), np.rot90(pixels, -1))


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "LA", "CMYK"])
def test_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.new(mode, (4, 3)).save(path)
    image = load_image(path)
    assert (image.mode, image.size) == ("RGB", (4, 3))


@pytest.mark.parametrize(("mode", "suffix"), [("I;16", "png"), ("I", "tif"), ("F", "tif")])
def test_deep_grey_is_refused(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new(mode, (4, 3)).save(path)
    assert "expected 8 bits per channel" in refused(path, "image", load_image)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "gif", "bmp"])
def test_truncated_images(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "cannot be read" in refused(path, "image", load_image)


def test_decompression_bomb(tmp_path):
    def chunk(kind, data):
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    path = tmp_path / "a.png"
    for side in (10_000, 1_000_000):  # a warning of Pillow's, and an error
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")))
        assert "too many pixels" in refused(path, "image", load_image)


def test_postscript_is_not_run(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    assert "cannot be read" in refused(tmp_path / "a.png", "image", load_image)


# Folders


def test_folders_are_matched_by_stem(tmp_path):
    images, arrays = tmp_path / "images", tmp_path / "arrays"
    images.mkdir()
    arrays.mkdir()
    for name in ("b.PNG", "a.jpg", ".hidden.jpg", "notes.txt"):
        (images / name).write_bytes(b"x")
    found = find_images(images)
    assert [image.name for image in found] == ["a.jpg", "b.PNG"]
    for name in ("a.NPZ", "b.pt", "other.npy"):
        (arrays / name).write_bytes(b"x")
    assert find_arrays(arrays, found, "--feats") == [arrays / "a.NPZ", arrays / "b.pt"]
    (arrays / "b.npy").write_bytes(b"x")
    (arrays / "a.NPZ").unlink()
    with pytest.raises(InputError, match=r"--feats: .* 2 of 2 images: a \(0 files\), b \(2 files"):
        find_arrays(arrays, found, "--feats")
    with pytest.raises(InputError, match="for 2 images"):
        find_arrays(arrays / "b.pt", found, "--feats")
    (images / "a.png").write_bytes(b"x")
    with pytest.raises(InputError, match="several images named a in"):
        find_images(images)
    with pytest.raises(InputError, match="without images"):
        find_images(arrays)


# Writing


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "a.npy"
    path.write_bytes(b"before")

    def pieces():
        yield b"half"
        raise error

    with pytest.raises(error), atomic_write(path) as file:
        file.writelines(pieces())
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_complete_write_replaces(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"before")
    with atomic_write(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    ("classes", "mode"), [(1, "P"), (21, "P"), (256, "P"), (257, "I;16"), (65536, "I;16")]
)
def test_label_png(tmp_path, classes, mode):
    labels = torch.arange(classes - 6, classes).clamp(0).reshape(2, 3)
    label_image(labels, classes).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), labels.numpy())
        if mode == "P":
            painted = np.asarray(image.convert("RGB"))
            np.testing.assert_array_equal(painted, colours("default", classes)[labels.numpy()])


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_labels_are_read_as_they_are_stored(tmp_path, mode):
    Image.new(mode, (3, 2), 1).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_labels(tmp_path / "a.png", "gt"), np.ones((2, 3)))


@pytest.mark.parametrize(
    ("mode", "format_", "held"),
    [
        ("RGB", "PNG", "one label per pixel"),
        ("LA", "PNG", "one label per pixel"),
        ("L", "JPEG", "an undamaged PNG"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, mode, format_, held):
    Image.new(mode, (3, 2)).save(tmp_path / "a.png", format=format_)
    assert held in refused(tmp_path / "a.png", "gt", load_labels)


def test_too_many_classes_for_a_png():
    check_class_count(65536)
    with pytest.raises(InputError, match="at most 65536"):
        label_image(torch.zeros(2, 2), 65537)
