"""Files that lie about their size, and what a kill leaves behind."""

import io
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file

import lpprop
from lpprop._core.errors import InputError
from lpprop.io.arrays import as_float32, load_array
from lpprop.io.atomic import atomic_write, remove_abandoned
from lpprop.io.files import fingerprint, is_unchanged
from lpprop.io.images import load_image

# --------------------------------------------------------------------------- memory

FREE = 2**20


@pytest.fixture
def small_memory(monkeypatch):
    """Let a MiB be free, and refuse to make any array of more."""
    monkeypatch.setattr("lpprop.io.arrays.available_bytes", lambda device: FREE)
    for module, name in ((np.lib.format, "read_array"), (torch, "load"), (np, "array")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("it was read"))


def npz(path, shape, dtype):
    np.savez_compressed(path, logits=np.zeros(shape, dtype))


def npz_by_its_header_alone(path, shape, dtype):
    """Promise an array that is not there."""
    member = io.BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(member, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("logits.npy", member.getvalue() + bytes(64))


def npy_with_holes(path, shape, dtype):
    """A file that takes no room on the disk, and all of its length in memory."""
    with path.open("wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)


def torch_compressed(path, shape, dtype):
    """PyTorch writes its parts as they are, but reads compressed ones."""
    plain = io.BytesIO()
    torch.save(torch.from_numpy(np.zeros(shape, dtype)), plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, old.read(part))


def safetensors_with_holes(path, shape, dtype):
    save_file({"logits": torch.from_numpy(np.zeros(shape, dtype))}, path)


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (npz, ".npz"),
        (npz_by_its_header_alone, ".npz"),
        (npy_with_holes, ".npy"),
        (torch_compressed, ".pt"),
        (safetensors_with_holes, ".safetensors"),
    ],
)
@pytest.mark.parametrize("shape", [(3, 400, 500), (65, 65, 65)])
def test_arrays_beyond_the_memory_are_refused_before_they_are_read(tmp_path, write, suffix, shape):
    path = tmp_path / f"a{suffix}"
    write(path, shape, "f8")
    with pytest.raises(InputError) as caught:
        load_array(path, "logits")
    said = str(caught.value)
    assert said.startswith(f"logits: got {path}, which holds ")
    assert "expected at most the 0.000977 GiB that are free" in said


@pytest.mark.parametrize("write", [npz, npy_with_holes, torch_compressed, safetensors_with_holes])
def test_the_same_files_are_read_where_there_is_room(tmp_path, write):
    suffix = {npz: ".npz", npy_with_holes: ".npy", torch_compressed: ".pt"}.get(
        write, ".safetensors"
    )
    write(tmp_path / f"a{suffix}", (2, 3, 4), "f8")
    assert not load_array(tmp_path / f"a{suffix}", "logits").any()


@pytest.mark.parametrize("shape", [(2**62, 2**62), (-1, 5), (2**40, 2**40, 0)])
@pytest.mark.parametrize("write", [npz_by_its_header_alone])
def test_absurd_shapes(tmp_path, write, shape):
    path = tmp_path / "a.npz"
    write(path, shape, "f4")
    with pytest.raises(InputError, match="logits: got "):
        load_array(path, "logits")


def test_a_small_compressed_file_is_not_expanded(tmp_path):
    """0.2 MB on the disk, 240 MB in memory, where 200 MB are free."""
    path = tmp_path / "a.npz"
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (21, 1690, 1690)}
    np.lib.format.write_array_header_1_0(member, header)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("logits.npy", "w", force_zip64=True) as out,
    ):
        out.write(member.getvalue())
        for _ in range(21):
            out.write(bytes(4 * 1690 * 1690))
    assert path.stat().st_size < 3e5
    code = f"""
import resource
from pathlib import Path
import lpprop.io.arrays as arrays
arrays.available_bytes = lambda device: 2 * 10**8
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    arrays.load_array(Path({str(path)!r}), "logits")
except arrays.InputError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    said, grown = done.stdout.splitlines()
    assert "of shape (21, 1690, 1690) of 0.223 GiB" in said
    assert int(grown) < 20_000  # KiB


# --------------------------------------------------------------------------- hostile content


def header_of(text):
    text = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


DEEP = 20_000
HOSTILE = {
    "npy nested": (".npy", header_of("(" * 4000)),
    "npy nested lists": (".npy", header_of("[" * 4000 + "]" * 4000)),
    "npy minus": (".npy", header_of("-" * 9000 + "1")),
    "npy version": (".npy", b"\x93NUMPY\x09\x00" + bytes(100)),
    "safetensors nested": (".safetensors", (DEEP).to_bytes(8, "little") + b"[" * DEEP),
    "safetensors length": (".safetensors", (2**63).to_bytes(8, "little") + b"{}"),
    "pickle nested": (".pt", b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b"."),
    "pickle memo": (".pt", b"\x80\x02" + b"(" * DEEP + b"t" * DEEP + b"."),
    "pickle huge": (".pt", b"\x80\x02\x8b\xff\xff\xff\x7f1."),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nested_and_lying_files_end_in_one_error(tmp_path, name):
    suffix, content = HOSTILE[name]
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_array(path, "logits")
    assert len(str(caught.value)) < 600


def test_many_and_long_names_are_cut_short(tmp_path):
    arrays = {f"{number}{'x' * 200}": np.zeros(1) for number in range(300)}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(
        InputError, match="and 290 more, expected an array named 'logits'"
    ) as caught:
        load_array(tmp_path / "a.npz", "logits")
    assert len(str(caught.value)) < 1200


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", ["nested", "negated"])
def test_tensors_of_other_kinds(tmp_path, kind):
    path = tmp_path / "a.pt"
    if kind == "nested":
        nested = torch.nested.as_nested_tensor([torch.ones(2), torch.ones(3)])
        torch.save(nested, path)
        with pytest.raises(InputError, match="nested"):
            load_array(path, "logits")
        return
    torch.save(torch._neg_view(torch.arange(3.0)), path)
    loaded = load_array(path, "logits")
    assert loaded.numpy().tolist() == [0, -1, -2]


# --------------------------------------------------------------------------- orientations


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_warning_names_the_file_and_its_orientation(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / f"a.{suffix}", exif=exif)
    with pytest.warns(lpprop.InputWarning, match=rf"a\.{suffix}: its EXIF orientation 6 ") as said:
        image = load_image(tmp_path / f"a.{suffix}", upright=False)
    assert image.size == (8, 4)
    assert len(said) == 1
    assert said[0].filename == __file__
    assert load_image(tmp_path / f"a.{suffix}").size == (4, 8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_alone_is_turned_as_pillow_turns_it(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        shown = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(load_image(tmp_path / f"a.{suffix}"), shown)


@pytest.mark.filterwarnings("ignore::lpprop.InputWarning")
def test_odd_tags_do_not_spoil_a_photograph(tmp_path):
    """These are such that Pillow cannot write them again, as exif_transpose does."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    random = np.random.default_rng(0)
    good = np.frombuffer(exif.tobytes(), np.uint8)
    for _ in range(500):
        odd = good.copy()
        odd[random.integers(6, len(odd), 3)] = random.integers(0, 256, 3)
        Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=odd.tobytes())
        for upright in (True, False):
            assert sorted(load_image(tmp_path / "a.jpg", upright=upright).size) == [4, 8]


@pytest.mark.parametrize("orientation", [0, 1, 9, 6000])
def test_no_warning_without_an_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    for upright in (True, False):
        assert load_image(tmp_path / "a.jpg", upright=upright).size == (8, 4)


# --------------------------------------------------------------------------- what a kill leaves


KILLED = """
import os, signal, sys
from pathlib import Path
from lpprop.io.atomic import atomic_write

with atomic_write(Path(sys.argv[1], "a.npy")) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_what_a_killed_process_leaves_is_removed_and_what_a_live_one_has_is_not(tmp_path):
    (tmp_path / ".mine.tmp").touch()
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    subprocess.run([*command, "dies"], check=False, stdout=subprocess.DEVNULL)
    (left,) = tmp_path.glob(".lpprop-*.tmp")
    live = subprocess.Popen(
        [*command, "lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert live.stdout.readline() == "written\n"
        remove_abandoned(tmp_path)
        assert not left.exists()
        assert len(list(tmp_path.glob(".lpprop-*.tmp"))) == 1
        live.communicate("go on\n", timeout=60)
    finally:
        live.kill()
    assert live.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.tmp", "a.npy"]
    assert (tmp_path / "a.npy").read_bytes() == b"half"


def test_ones_own_unfinished_file_stays(tmp_path):
    with atomic_write(tmp_path / "a") as file:
        file.write(b"1")
        remove_abandoned(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"1"


@pytest.mark.skipif(os.name == "nt", reason="locks are the other systems'")
def test_a_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    import fcntl

    flock, calls = fcntl.flock, []

    def removed_first(file, how):
        if not calls:
            calls.extend(tmp_path.iterdir())
            calls[0].unlink()
        return flock(file, how)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    with atomic_write(tmp_path / "a") as file:
        file.write(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert len(calls) == 1


# --------------------------------------------------------------------------- fingerprints, numbers


def test_fingerprints_tell_content(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    before = fingerprint(a)
    assert is_unchanged(a, before)
    assert not is_unchanged(b, before)
    os.utime(b, ns=(before["mtime_ns"], before["mtime_ns"]))
    assert not is_unchanged(b, before)  # another file of equal size and time
    a.write_bytes(b"two")
    os.utime(a, ns=(1, 1))
    assert not is_unchanged(a, before)
    a.write_bytes(b"one")
    assert is_unchanged(a, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_scores_in_files_are_float32(tmp_path, dtype):
    scores = torch.tensor([1.5, -2.0, -torch.inf], dtype=dtype)
    stored = as_float32(scores, tmp_path / "a.npy")
    assert stored.dtype == np.float32
    assert stored.tolist() == [1.5, -2.0, -np.inf]
