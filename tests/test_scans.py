"""How often values are scanned, and how to leave the scans out."""

import os
import subprocess
import sys
import threading

import pytest
import torch

import lpprop
from lpprop._core import checks
from lpprop._core.scans import has_passed, mark_passed, one_call

LOGITS, FEATS, IMAGE = torch.rand(1, 3, 4, 5), torch.rand(1, 8, 4, 5), torch.rand(1, 3, 64, 80)

# The inputs, and what each step of the method returns; bilinear upsampling makes means of what has
# passed, which are not scanned.
SCANS = {
    "bilinear": ["logits", "feats", "image"],
    "pamr": ["logits", "feats", "image", "refined"],
    "local_crf": ["logits", "feats", "image", "refined"],
    "clip_dinoiser": ["logits", "feats", "image", "patches"],
    "lposs": ["logits", "feats", "image", "patches"],
    "auto": ["logits", "feats", "image", "patches", "pixels"],
    "lposs+": ["logits", "feats", "image", "patches", "pixels"],
    "max_velocity": ["logits", "feats", "image", "distributions", "velocities", "upsampled"],
}


@pytest.fixture
def scans(monkeypatch):
    """The shapes of what is read from end to end."""
    seen = []

    def counted(function):
        return lambda tensor: seen.append(tuple(tensor.shape)) or function(tensor)

    monkeypatch.setattr(checks, "all_finite", counted(checks.all_finite))
    monkeypatch.setattr(checks.torch, "aminmax", counted(torch.aminmax))
    return seen


@pytest.mark.parametrize("method", SCANS)
def test_a_tensor_is_scanned_once_in_a_call(method, scans):
    lpprop.refine(LOGITS, FEATS, IMAGE, method=method)
    assert len(scans) == len(SCANS[method])


def test_masks_are_scanned_once_in_a_call(scans):
    regions = torch.rand(2, 64, 80)
    lpprop.refine(LOGITS, image=IMAGE, regions=regions, method="region_vote")
    inputs = [LOGITS.shape, IMAGE.shape, regions.shape]
    assert sorted(scans) == sorted(map(tuple, [*inputs, (1, 3, 64, 80)]))  # and the votes


def test_a_call_after_another_scans_again(scans):
    for _ in range(2):
        lpprop.bilinear_upsample(LOGITS, (8, 8))
    assert len(scans) == 2


def test_one_tensor_as_features_and_as_image_is_checked_as_both():
    image = 255 * torch.rand(1, 3, 4, 5)
    with pytest.raises(lpprop.InputError, match=r"^image: got values from"):
        lpprop.refine(LOGITS, image, image)


def test_a_step_that_writes_into_its_input_is_found_out():
    def spoil(logits):
        return logits.mul_(torch.nan)

    with pytest.raises(lpprop.InputError, match=r"^spoil returned unusable scores"):
        lpprop.Chain(spoil, lpprop.BilinearUpsample())(LOGITS.clone(), image=IMAGE)
    with torch.inference_mode(), pytest.raises(lpprop.InputError, match=r"^spoil returned"):
        lpprop.Chain(spoil, lpprop.BilinearUpsample())(LOGITS.clone(), image=IMAGE)


@pytest.mark.parametrize("name", ["feats", "image"])
@pytest.mark.parametrize("write", [lambda x: x.fill_(torch.nan), lambda x: x.data.fill_(torch.nan)])
def test_a_step_that_writes_into_another_input_is_found_out(name, write):
    def spoil(logits, **inputs):
        write(inputs[name])
        return logits

    steps = spoil, lpprop.PatchPropagation(k=5), lpprop.BilinearUpsample()
    method = lpprop.Chain(*steps, lpprop.PixelPropagation(r=3))
    for context in (torch.inference_mode(), torch.no_grad()):
        with context, pytest.raises(lpprop.InputError, match=rf"^{name}: got .*NaN"):
            method(LOGITS, feats=FEATS.clone(), image=IMAGE.clone())


def test_what_has_passed_is_forgotten_where_it_changes_or_the_call_ends():
    tensor = torch.zeros(3)
    mark_passed(tensor)
    assert not has_passed(tensor)  # no call, nothing to remember
    with one_call():
        mark_passed(tensor)
        assert has_passed(tensor)
        with one_call():
            assert has_passed(tensor)
        assert not has_passed(tensor, "image")
        assert not has_passed(tensor.clone())
        tensor.add_(1)
        assert not has_passed(tensor)
        mark_passed(tensor)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(has_passed(tensor)))
        thread.start()
        thread.join()
        assert seen == [False]
    assert not has_passed(tensor)


def test_scans_hold_no_memory():
    with one_call():
        for _ in range(3):
            mark_passed(torch.zeros(3))
            # The next one may have the place of the last, and is another tensor.
            assert not has_passed(torch.zeros(3))


BAD = {
    "logits": (torch.full_like(LOGITS, torch.nan), FEATS, IMAGE),
    "feats": (LOGITS, torch.full_like(FEATS, torch.inf), IMAGE),
    "image": (LOGITS, FEATS, 255 * IMAGE),
}


@pytest.mark.parametrize("name", BAD)
def test_values_are_not_checked_where_that_is_turned_off(name, scans):
    with pytest.raises(lpprop.InputError, match=f"^{name}: "):
        lpprop.refine(*BAD[name], method="lposs")
    scans.clear()
    with lpprop.value_checks(False):
        assert lpprop.refine(*BAD[name], method="lposs").shape == (1, 3, 64, 80)
        with lpprop.value_checks(True), pytest.raises(lpprop.InputError, match=f"^{name}: "):
            lpprop.refine(*BAD[name], method="lposs")
        scans.clear()
        lpprop.refine(*BAD[name], method="pamr")
    assert not scans


def test_shapes_types_and_options_are_checked_always():
    with lpprop.value_checks(False):
        with pytest.raises(lpprop.InputError, match=r"^feats: got shape"):
            lpprop.refine(LOGITS, FEATS[0, 0], IMAGE)
        with pytest.raises(lpprop.InputError, match=r"^logits: got dtype"):
            lpprop.refine(LOGITS.long(), FEATS, IMAGE)
        with pytest.raises(lpprop.InputError, match=r"^k: got 0"):
            lpprop.refine(LOGITS, FEATS, IMAGE, k=0)


def test_results_do_not_depend_on_the_scans():
    expected = lpprop.refine(LOGITS, FEATS, IMAGE)
    with lpprop.value_checks(False):
        assert torch.equal(lpprop.refine(LOGITS, FEATS, IMAGE), expected)


@pytest.mark.parametrize(
    ("value", "checked"), [("0", False), ("Off", False), ("1", True), (None, True)]
)
def test_the_environment_turns_them_off_for_a_process(value, checked):
    variables = {name: x for name, x in os.environ.items() if name != "LPPROP_CHECKS"}
    variables |= {} if value is None else {"LPPROP_CHECKS": value}
    code = (
        "import torch, lpprop\n"
        "lpprop.bilinear_upsample(torch.full((1, 1, 1, 1), torch.nan), (2, 2))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True)
    assert (b"InputError" in done.stderr) is checked
    assert (done.returncode != 0) is checked
