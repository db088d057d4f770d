"""A part of the fuzz: two thousand odd calls of every public name; `make fuzz` makes 100,000."""

import pytest

import fuzzing
import lpprop

CALLS, PARTS = 2000, 20


@pytest.mark.parametrize("part", range(PARTS))
def test_odd_calls_are_right_or_refused(part):
    size = CALLS // PARTS
    outcomes = [fuzzing.try_call(index) for index in range(part * size, (part + 1) * size)]
    wrong = [f"{part * size + i}: {x}" for i, x in enumerate(outcomes) if x.wrong]
    assert not wrong
    # Both kinds must come, or the fuzz proves nothing.
    assert {x.kind for x in outcomes} == {"right", "refused"}


def test_every_public_name_is_called():
    reached = set(fuzzing.TARGETS)
    # These have no arguments to spoil, or are reached through others.
    through_others = {"Chain", "Comparison", "Fusion", "InputError", "InputWarning", "__version__",
                      "presets", "value_checks", "DenseCRF", "dense_crf", "interact"}  # fmt: skip
    assert set(lpprop.__all__) - reached == through_others


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda x: x.fill_(2), "a changed input"),
        (lambda x: x[:, :1], "a wrong result"),
        (lambda x: x / 0, "a wrong result"),
        (lambda x: x.double() if x.dtype != fuzzing.torch.float64 else x.float(), "a wrong result"),
        (lambda x: x * 1.1 + 1, "a wrong result"),
        (lambda x: fuzzing.warnings.warn("of a library", stacklevel=1), "a warning of a library"),
        (lambda x: {}["a"], "another exception"),
    ],
)
def test_the_fuzz_would_notice(spoil, kind, monkeypatch):
    target = fuzzing.TARGETS["bilinear_upsample"]

    def faulty(x, size):
        result = target.call(x, size)
        spoilt = spoil(x if kind == "a changed input" else result)
        return result if spoilt is None or kind == "a changed input" else spoilt

    broken = fuzzing.Target(faulty, target.draw, axes=target.axes, like=target.like)
    monkeypatch.setattr(fuzzing, "TARGETS", {"bilinear_upsample": broken})
    found = {fuzzing.try_call(index).kind for index in range(300)}
    assert kind in found


def test_a_hang_is_noticed(monkeypatch):
    def hang(x, size):
        while True:
            pass

    target = fuzzing.TARGETS["bilinear_upsample"]
    broken = fuzzing.Target(hang, target.draw, axes=target.axes, like=target.like)
    monkeypatch.setattr(fuzzing, "TARGETS", {"bilinear_upsample": broken})
    monkeypatch.setattr(fuzzing, "_SECONDS", 1)
    outcome = fuzzing.try_call(0)
    assert outcome.kind == "another exception"
    assert "TimeoutError" in outcome.detail


def test_only_classes_without_a_click_may_be_left_out():
    scene = fuzzing.Scene.of(0)
    given = fuzzing.TARGETS["seed_logits"].draw(scene)
    result = lpprop.seed_logits(**given)
    fuzzing.judge_seeds(scene, given, result)
    result[:, given["labels"][0]] = -fuzzing.torch.inf
    with pytest.raises(AssertionError, match="other classes are left out"):
        fuzzing.judge_seeds(scene, given, result)
