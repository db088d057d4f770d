"""Machine code on disk: the same code as compiled, used only where nobody else can have put it."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import lpprop

pytest.importorskip("llvmlite")
from lpprop.kernels.llvm import jit, object_cache
from lpprop.kernels.llvm.builder import LANES, Array, Code, Index
from lpprop.kernels.llvm.object_cache import find_folder, read_object, write_object

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="nothing is kept on Windows")

CODE = bytes(range(256)) * 9
DOUBLE = np.dtype(np.float64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of a cache that is empty."""
    monkeypatch.setenv("LPPROP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def compiled(monkeypatch):
    """What LLVM has compiled: one text per kernel."""
    texts = []
    emit = jit._emit
    monkeypatch.setattr(
        jit, "_emit", lambda text, machine: texts.append(text) or emit(text, machine)
    )
    return texts


def square(code: Code, x: Array, count: Index) -> None:
    with code.loop(0, count, LANES) as i:
        x.store(i, x.load(i) * x.load(i))


def squares_are_right():
    x = np.linspace(-3, 3, 8 * LANES)
    expected = x * x
    jit.compile_kernel(square, DOUBLE)(x, len(x))
    return np.array_equal(x, expected)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_code_from_disk_gives_the_bits_of_code_just_compiled(folder, compiled, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    logits, image = (torch.rand(1, C, 40, 50, generator=generator) for C in (21, 3))

    def refine():
        jit.specialise.cache_clear()
        compiled.clear()
        fine = lpprop.joint_bilateral_upsample(logits[..., :5, :6], image, backend="llvm")
        return lpprop.propagate_pixels(logits, image, backend="llvm"), fine

    first = refine()
    kernels = len(compiled)
    assert kernels >= 4
    assert len(content(folder)) == kernels
    second = refine()
    assert not compiled
    monkeypatch.setenv("LPPROP_CACHE", "")
    third = refine()
    assert len(compiled) == kernels
    for got, again, alone in zip(first, second, third, strict=True):
        assert torch.equal(got, again)
        assert torch.equal(got, alone)


def test_another_kernel_dtype_or_processor_is_compiled(folder, compiled, monkeypatch):
    assert squares_are_right()
    assert squares_are_right()
    assert len(compiled) == 1
    jit.compile_kernel(square, np.dtype(np.float32))
    jit.compile_kernel(square, DOUBLE, lanes=2 * LANES)
    assert len(compiled) == 3
    for name in ("_LEVEL", "_SPEED"):
        monkeypatch.setattr(jit, name, 1)
        assert squares_are_right()
    monkeypatch.setattr(jit.llvm, "get_host_cpu_name", lambda: "")
    assert squares_are_right()
    monkeypatch.setattr(jit.llvmlite, "__version__", "0")
    assert squares_are_right()
    assert len(compiled) == len(content(folder)) == 7


DAMAGE = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[:-1],
    "cut within the digest": lambda whole: whole[:20],
    "longer": lambda whole: whole + b"\0",
    "one bit of the code": lambda whole: whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
    "one bit of the digest": lambda whole: bytes([whole[0] ^ 1]) + whole[1:],
    "zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_compiled_anew_and_mended(folder, compiled, damage):
    assert squares_are_right()
    before = content(folder)
    (path,) = folder.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert squares_are_right()
    assert len(compiled) == 2
    assert content(folder) == before


def test_the_file_of_another_kernel_is_not_taken(folder):
    write_object("a", CODE)
    (folder / "a").rename(folder / "b")
    assert read_object("b") is None


# --------------------------------------------------------------------------- whose files


def test_what_is_made_is_for_this_user_alone(folder):
    before = os.umask(0)
    try:
        write_object("a", CODE)
    finally:
        os.umask(before)
    assert read_object("a") == CODE
    modes = [path.stat().st_mode & 0o777 for path in (folder.parent, folder, folder / "a")]
    assert modes == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(folder, mode):
    write_object("a", CODE)
    folder.chmod(mode)
    assert read_object("a") is None
    write_object("b", CODE)
    assert set(content(folder)) == {"a"}
    folder.chmod(0o755)
    assert read_object("a") == CODE


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_a_file_that_others_can_write_to_is_compiled_anew(folder, compiled, mode):
    assert squares_are_right()
    (path,) = folder.iterdir()
    path.chmod(mode)
    assert squares_are_right()
    assert len(compiled) == 2
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_belongs_to_another_user_is_not_used(folder, monkeypatch):
    write_object("a", CODE)
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert read_object("a") is None
    write_object("b", CODE)
    assert set(content(folder)) == {"a"}


def test_links_are_not_followed(folder, tmp_path):
    write_object("a", CODE)
    (folder / "b").symlink_to(folder / "a")
    (tmp_path / "real").write_bytes((folder / "a").read_bytes())
    assert read_object("b") is None
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert read_object("a") is None


# --------------------------------------------------------------------------- disks that refuse


@pytest.mark.parametrize("reason", [errno.EROFS, errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "replace", "mkdir", "scandir", "unlink"])
def test_a_disk_that_refuses_is_no_error(folder, compiled, monkeypatch, call, reason):
    def refuse(*_, **__):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, call, refuse)
    assert squares_are_right()
    assert len(compiled) == 1
    monkeypatch.undo()
    assert not [*folder.glob(".*")]


def test_a_cache_below_a_file_is_no_error(tmp_path, monkeypatch, compiled):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("LPPROP_CACHE", str(tmp_path / "file"))
    assert squares_are_right()
    assert len(compiled) == 1


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write")
def test_a_folder_that_cannot_be_written_is_read(folder, compiled):
    assert squares_are_right()
    folder.chmod(0o500)
    assert squares_are_right()
    jit.compile_kernel(square, np.dtype(np.float32))
    folder.chmod(0o700)
    assert len(compiled) == 2
    assert len(content(folder)) == 1


def test_the_oldest_files_go_where_there_are_too_many(folder, monkeypatch):
    monkeypatch.setattr(object_cache, "_MOST_BYTES", 3 * (len(CODE) + 32))
    for number, key in enumerate("abc"):
        write_object(key, CODE)
        os.utime(folder / key, (number, number))
    os.utime(folder / "a", (7, 7))
    assert set(content(folder)) == set("abc")
    write_object("d", CODE)
    assert set(content(folder)) == set("acd")


def test_many_at_once_see_whole_files_or_none(folder):
    def write_and_read(number):
        write_object("a", CODE)
        return read_object("a")

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write_and_read, range(200))) == {CODE}
    assert set(content(folder)) == {"a"}


# --------------------------------------------------------------------------- where


def test_the_suite_keeps_off_the_users_own_cache():
    assert Path.home() / ".cache" not in find_folder().parents
    assert find_folder().parent.name.startswith("lpprop-tests-")


@pytest.mark.parametrize(
    ("platform", "settings", "expected"),
    [
        ("linux", {}, "/home/ada/.cache/lpprop/kernels"),
        ("linux", {"XDG_CACHE_HOME": "/fast"}, "/fast/lpprop/kernels"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/ada/.cache/lpprop/kernels"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, None),
        ("linux", {"LPPROP_CACHE": "/mine", "XDG_CACHE_HOME": "/fast"}, "/mine/kernels"),
        ("linux", {"LPPROP_CACHE": ""}, None),
        ("linux", {"LPPROP_CACHE": "relative"}, None),
        ("darwin", {}, "/home/ada/Library/Caches/lpprop/kernels"),
    ],
)
def test_the_folder(monkeypatch, platform, settings, expected):
    for name in ("LPPROP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    for name, value in ({"HOME": "/home/ada"} | settings).items():
        monkeypatch.setenv(name, value)
    if expected is None:
        with pytest.raises(OSError, match="not kept"):
            find_folder()
        assert read_object("a") is None
        write_object("a", CODE)
    else:
        assert str(find_folder()) == expected


def test_without_a_home_nothing_is_kept(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("LPPROP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert read_object("a") is None
    write_object("a", CODE)
