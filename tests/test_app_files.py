"""The files of sessions, the limit of time, and the sentences, without a server."""

import contextlib
import logging
import os
import threading
import time

import pytest
import torch
from PIL import Image

from lpprop import InputError
from lpprop._core.errors import warn
from lpprop.app.deadline import TimeIsUp, deadline
from lpprop.app.files import SessionFiles
from lpprop.app.limits import Limits

# ---------------------------------------------------------------------------------- files


def count(folder):
    return sum(path.is_file() for path in folder.rglob("*"))


@pytest.fixture
def files(tmp_path):
    return SessionFiles(tmp_path, Limits(minutes=2, disk_bytes=10 * 2**16))


def test_a_session_s_files_lie_apart_and_go_together(files, tmp_path):
    written = [
        files.write(session, "a.txt", lambda file: file.write(b"x"))
        for session in ("one", "one", "two")
    ]
    assert len(set(written)) == 3
    assert {path.name for path in written} == {"a.txt"}
    files.forget("one")
    assert [path.exists() for path in written] == [False, False, True]
    files.forget("one")
    files.forget("nobody")
    files.forget("../..")
    files.forget("two")
    assert count(tmp_path) == 0


def test_nobody_guesses_a_folder(files, tmp_path):
    path = files.write("one", "a.txt", lambda file: None)
    other = SessionFiles(tmp_path, Limits()).write("one", "a.txt", lambda file: None)
    assert path.parent.parent != other.parent.parent
    assert "one" not in str(path.relative_to(tmp_path))


def test_a_shared_upload_goes_with_the_last_of_its_users(files, tmp_path):
    path = tmp_path / "abc" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"x")
    files.adopt("one", path)
    files.adopt("two", path)
    files.forget("one")
    assert path.exists()
    files.forget("two")
    assert not path.exists()
    assert not path.parent.exists()


def test_files_elsewhere_are_nobody_s(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("elsewhere") / "a.png"
    path.write_bytes(b"x")
    (files.root / "link").symlink_to(path)
    for there in (path, files.root / "link", files.root / ".." / path.parent.name / "a.png"):
        assert not files.holds(there)
        files.adopt("one", there)
    files.forget("one")
    assert path.exists()
    assert files.holds(files.root / "not there yet")


def test_old_files_go_but_those_of_the_page(files):
    (files.root / "example.png").write_bytes(b"x")
    files.keep_present()
    path = files.write("one", "a.txt", lambda file: file.write(b"x"))
    files.adopt("two", path)
    files.sweep(time.time() + 119)
    assert path.exists()
    files.sweep(time.time() + 121)
    assert [child.name for child in files.root.rglob("*") if child.is_file()] == ["example.png"]
    assert files._owners == {}


def test_a_full_folder_takes_no_more(files, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(11):  # empty files count as well
        now += 2
        files.write("one", "a.txt", lambda file: None)
    now += 2
    with pytest.raises(InputError, match=r"^files: got more than the machine keeps"):
        files.write("two", "a.txt", lambda file: None)
    files.forget("one")
    now += 2
    assert files.write("two", "a.txt", lambda file: None).exists()


# ---------------------------------------------------------------------------------- time


def forever_in_python():
    while True:
        pass


def forever_in_torch():
    x = torch.rand(100, 100)
    while True:
        x = (x @ x).softmax(1)


def forever_catching():
    while True:
        with contextlib.suppress(Exception):
            forever_in_python()


@pytest.mark.parametrize("work", [forever_in_python, forever_in_torch, forever_catching])
def test_work_without_end_ends(work):
    with pytest.raises(InputError, match=r"^work: got more than 0.05 seconds"), deadline(0.05):
        work()


def test_results_and_errors_pass():
    with deadline(60):
        done = True
    assert done
    with pytest.raises(KeyError), deadline(60):
        raise KeyError(1)


def test_nothing_is_interrupted_later():
    """Work that ends at about its limit is interrupted within the block or not at all."""
    ended = late = 0
    for number in range(300):
        limit = 0.002
        try:
            with deadline(limit):
                start = time.perf_counter()
                # The last one is late for sure.
                spare = (number - 150) * 2e-6 if number < 299 else 60
                while time.perf_counter() < start + limit + spare:
                    pass
            ended += 1
        except (InputError, TimeIsUp):
            late += 1
        for _ in range(50):  # where a late one would hit
            pass
    assert ended + late == 300
    assert late > 0


def test_only_the_thread_that_is_late_is_interrupted():
    failed = []

    def work():
        try:
            with deadline(0.05):
                forever_in_python()
        except InputError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 3
    before = threading.active_count()
    for _ in range(20):
        with deadline(100):
            pass
    limit = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < limit:
        time.sleep(0.01)
    assert threading.active_count() <= before


# ---------------------------------------------------------------------------------- answers


@pytest.fixture
def answers(files):
    pytest.importorskip("gradio")
    from lpprop.app.answers import Answers

    return Answers(Limits(seconds=1), files)


def test_pictures_become_files_of_the_session(answers, tmp_path):
    red = Image.new("RGB", (3, 2), "red")

    def show(name: str):
        return [(red, red), red, name, None, {"a": 1}]

    (one, two), three, *rest = answers.guard(show)("x")
    assert rest == ["x", None, {"a": 1}]
    assert [Image.open(path).getpixel((0, 0)) for path in (one, two, three)] == [(255, 0, 0)] * 3
    assert count(tmp_path) == 3


def test_gradio_sees_the_function_itself(answers):
    import inspect

    def show(name: str, *, number: int = 3) -> str:
        """Say it."""

    guarded = answers.guard(show)
    assert inspect.signature(guarded) == inspect.signature(show)
    assert (guarded.__name__, guarded.__doc__) == ("show", "Say it.")


def test_an_upload_is_needed_and_has_to_be_one(answers, tmp_path_factory):
    with pytest.raises(InputError, match=r"^image: got none"):
        answers.open_image(None)
    path = tmp_path_factory.mktemp("elsewhere") / "a.png"
    Image.new("RGB", (64, 64)).save(path)
    with pytest.raises(InputError, match=r"^image: got a file that was not uploaded"):
        answers.open_image(str(path))
    path.rename(answers.files.root / "a.png")
    assert answers.open_image(str(answers.files.root / "a.png")).size == (64, 64)


def test_no_word_of_an_error_is_logged(answers, caplog):
    import gradio

    def fail(secret):
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise RuntimeError(f"no {secret}") from error

    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(gradio.Error, match=r"^'Something went wrong") as caught,
    ):
        answers.guard(fail)("my words")
    assert caught.value.__cause__ is None
    assert "RuntimeError at " in caplog.text
    assert "test_app_files.py:" in caplog.text
    assert "my words" not in caplog.text + str(caught.value)


def test_doubts_are_notes(answers, monkeypatch):
    import gradio

    notes = []
    monkeypatch.setattr(gradio, "Warning", lambda text, **_: notes.append(text))

    def doubt(name):
        for _ in range(2):
            warn("doubt", f"<b>{name}</b> & more")

    answers.guard(doubt)("sky")
    assert notes == ["&lt;b&gt;sky&lt;/b&gt; &amp; more"]


def test_a_process_s_own_folder_is_no_other_s(tmp_path):
    from lpprop.app import files as module

    assert module._is_alive(os.getpid())
    assert not module._is_alive(999_999_999)
