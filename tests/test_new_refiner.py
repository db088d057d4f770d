"""A refiner from outside the package, as CONTRIBUTING.md walks through it, in every door."""

import inspect

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

import lpprop
import test_contract as contract
from lpprop._core.checks import check_tensors
from lpprop._core.convert import as_grid
from lpprop._core.options import check_from_0, checked
from lpprop._core.precision import cast_back, compute_dtype, full_precision
from lpprop._core.refiner import Refiner
from lpprop.cli import main
from lpprop.compose.presets import METHODS, Preset
from lpprop.inputs.table import INPUTS, Input


@full_precision
@checked(strength=check_from_0)
def toy_vote(
    logits: Float[Tensor, "B C H W"],
    masks: Bool[Tensor, "B M H W"] | Float[Tensor, "B M H W"],
    *,
    strength: float = 1.0,
) -> Float[Tensor, "B C H W"]:
    """Add to each pixel the mean of the scores over the masks that hold it."""
    check_tensors(logits=(logits, "B C H W"), masks=(masks, "B M H W", ("bool", "float")))
    scores, member = logits.to(compute_dtype(logits)), masks.to(compute_dtype(logits))
    means = torch.einsum("bchw,bmhw->bcm", scores, member) / member.sum((2, 3))[:, None]
    voted = scores + strength * torch.einsum("bcm,bmhw->bchw", means, member)
    return cast_back(voted, logits)


class ToyVote(Refiner, function=toy_vote, needs=("masks",)):
    """`toy_vote` as a module."""


def inputs(batch=1):
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(batch, 3, 4, 5, generator=generator)
    masks = torch.rand(batch, 6, 16, 20, generator=generator) > 0.5
    return logits, torch.rand(batch, 3, 16, 20, generator=generator), masks


@pytest.fixture
def at_home(monkeypatch):
    """The rows that a refiner of the package would have: its input's and its preset's."""
    row = Input(
        "masks",
        "regions of the image",
        ("B M H W",),
        lambda masks, scores: as_grid("masks", masks),
        per_image=True,
        kinds=("bool", "float"),
        file="(M, H, W)",
    )
    monkeypatch.setitem(INPUTS, "masks", row)
    preset = Preset(
        "toy+",
        (lpprop.BilinearUpsample, ToyVote),
        paper="Nobody",
        note="bilinear to pixels, then a toy",
        compared=True,
    )
    monkeypatch.setitem(METHODS, "toy+", preset)
    return preset


def test_refine_takes_it_without_a_row_anywhere():
    logits, image, masks = inputs()
    method = lpprop.Chain(lpprop.BilinearUpsample(), ToyVote(strength=0.5))
    expected = toy_vote(lpprop.bilinear_upsample(logits, (16, 20)), masks, strength=0.5)
    assert method.needs == ("masks",)
    assert torch.equal(lpprop.refine(logits, image=image, masks=masks, method=method), expected)
    assert torch.equal(method(logits, image=image, masks=masks), expected)


def test_a_plain_function_is_a_step_with_inputs_of_its_own():
    logits, image, _ = inputs()
    depth = torch.rand(1, 1, 16, 20)

    def by_depth(logits, *, depth, scale=2.0):
        return scale * logits * depth

    method = lpprop.Chain(lpprop.BilinearUpsample(), by_depth, torch.nn.Softmax(1))
    expected = (2 * lpprop.bilinear_upsample(logits, (16, 20)) * depth).softmax(1)
    assert method.needs == ("depth",)
    assert torch.equal(lpprop.refine(logits, image=image, depth=depth, method=method), expected)
    assert torch.equal(
        lpprop.refine(logits, image=image, depth=depth, method=method, scale=2.0), expected
    )
    comparison = lpprop.compare(
        logits, image=image, depth=depth, methods={"mine": method, "plain": "bilinear"}, repeats=1
    )
    assert not any(row.skipped for row in comparison.rows)
    assert np.array_equal(comparison.labels["mine"], expected[0].argmax(0).numpy())


def test_a_subclass_with_a_forward_of_its_own_is_given_what_it_names():
    class Masked(lpprop.PatchPropagation):
        def forward(self, logits, *, feats=None, image=None, depth=None, windows=None):
            assert image is not None
            return depth * super().forward(logits, feats=feats, windows=windows)

    logits, image, _ = inputs()
    feats = torch.rand(1, 8, 4, 5)
    expected = 2 * lpprop.propagate_patches(logits, feats, k=3, patch_size=4)
    method = lpprop.Chain(Masked(k=3, patch_size=4))
    assert torch.equal(method(logits, feats=feats, image=image, depth=2), expected)


def test_what_a_step_declares_is_asked_for_and_handed_on():
    def step(logits, **given):
        assert set(given) == {"image", "depth"}
        return logits

    step.needs = ("depth",)
    logits, image, _ = inputs()
    with pytest.raises(lpprop.InputError, match=r"^depth: got None.+pass depth="):
        lpprop.refine(logits, image=image, method=step)
    assert lpprop.refine(logits, image=image, depth="any", method=step).shape == (1, 3, 16, 20)


def test_what_a_signature_requires_is_asked_for_in_every_composition():
    def by_depth(logits, *, depth):
        return logits * depth

    class Masked(lpprop.PatchPropagation):
        def forward(self, logits, *, feats, depth):
            return super().forward(logits, feats=feats) * depth

    logits, _, _ = inputs()
    feats = torch.rand(1, 8, 4, 5)
    for method in (lpprop.Fusion(by_depth, torch.nn.Softmax(1)), lpprop.Chain(Masked())):
        with pytest.raises(lpprop.InputError, match=r"^depth: got None.+pass depth="):
            method(logits, feats=feats)


def test_a_fusion_hands_on_what_its_maps_name():
    logits, _, masks = inputs()
    full = lpprop.bilinear_upsample(logits, (16, 20))
    fused = lpprop.Fusion(ToyVote(), torch.nn.Softmax(1))(full, masks=masks)
    voted, soft = toy_vote(full, masks), full.softmax(1)
    assert torch.equal(fused, voted / voted.abs().max() + soft / soft.abs().max())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mask": 1}, "mask: got an input that nobody takes.+Did you mean masks"),
        ({"depth": 1}, "depth: got an input that nobody takes.+Remove depth"),
        ({"masks": None}, "masks: got None.+pass masks="),
        (
            {"masks": torch.ones(1, 2, 16, 20).long()},
            "masks: got dtype torch.int64, expected torch.bool",
        ),
        ({"masks": torch.ones(2, 2, 16, 20) > 0}, r"masks: got shape \(2, 2, 16, 20\)"),
    ],
)
def test_an_input_that_is_wrong_is_refused(given, message):
    logits, image, masks = inputs()
    method = lpprop.Chain(lpprop.BilinearUpsample(), ToyVote())
    for call in (
        lambda: lpprop.refine(logits, image=image, method=method, **{"masks": masks} | given),
        lambda: method(logits, image=image, **{"masks": masks} | given),
    ):
        with pytest.raises(lpprop.InputError, match=message):
            call()


def test_an_input_that_no_compared_method_takes_is_refused():
    logits, image, _ = inputs()
    with pytest.raises(lpprop.InputError, match=r"^depth: got an input that nobody takes"):
        lpprop.compare(logits, image=image, methods=["bilinear", "pamr"], depth=1)


def test_its_rows_open_the_command_line(at_home, tmp_path):
    logits, image, masks = inputs()
    np.save(tmp_path / "logits.npy", logits[0])
    np.save(tmp_path / "masks.npy", masks[0].float())
    pixels = (255 * image[0]).byte().movedim(0, -1).numpy()
    Image.fromarray(pixels).save(tmp_path / "image.png")
    files = [f"--{name}={tmp_path / name}.npy" for name in ("logits", "masks")]
    argv = [str(tmp_path / "image.png"), *files, f"--out={tmp_path / 'out'}"]
    assert main(["refine", *argv, "--method", "toy+", "--option", "strength=0.5"]) == 0
    got = np.load(tmp_path / "out" / "image_scores.npy")
    full = lpprop.bilinear_upsample(logits, (16, 20))
    assert np.array_equal(got, toy_vote(full, masks, strength=0.5)[0].numpy())
    assert main(["refine", *argv, "--method", "pamr"]) == 1  # which takes no masks


def test_its_rows_open_every_door(at_home):
    logits, image, masks = inputs()
    expected = toy_vote(lpprop.bilinear_upsample(logits, (16, 20)), masks, strength=0.5)
    got = lpprop.refine(logits, image=image, masks=masks.numpy(), method="toy+", strength=0.5)
    assert torch.equal(got, expected)
    assert torch.equal(lpprop.refine(logits, None, image, masks=masks[0], method="toy+"), at_home()(
        logits, image=image, masks=masks))  # fmt: skip
    comparison = lpprop.compare(logits, image=image, masks=masks, repeats=1)
    assert "toy+" in [row.method for row in comparison.rows]
    assert "toy+" not in [row.method for row in lpprop.compare(logits, image=image, repeats=1).rows]
    with pytest.raises(lpprop.InputError, match=r"^masks: got shape"):
        lpprop.refine(logits, image=image, masks=masks[..., 1:], method="toy+")
    assert '| `"toy+"` | bilinear to pixels, then a toy | masks | Nobody |' in (
        lpprop.presets.markdown_table()
    )


TOY = contract.Refiner(
    "toy",
    contract.renamed(toy_vote, "masks"),
    ToyVote,
    lambda batch: {
        "logits": contract.random(0, batch, 2, 4, 5),
        "masks": contract.random(1, batch, 3, 4, 5, low=0.2, high=0.8),
    },
    {"strength": 0.5},
    differentiable=("masks",),
)
# Of the contract's tests those for what is smooth and runs on every device.
APART = ("cuda", "no_gradient_says", "is_refused", "converged_solve")
CLAUSES = {
    name: test
    for name, test in vars(contract).items()
    if name.startswith("test_")
    and set(inspect.signature(test).parameters) <= {"refiner", "dtype"}
    and not any(part in name for part in APART)
}


@pytest.mark.parametrize("clause", CLAUSES)
def test_the_contract_holds_for_it(clause):
    test = CLAUSES[clause]
    wanted = "dtype" in inspect.signature(test).parameters
    for dtype in [torch.float16, torch.float32] if wanted else [None]:
        test(TOY, *([dtype] if wanted else []))


def test_the_contract_has_clauses():
    assert len(CLAUSES) > 20
