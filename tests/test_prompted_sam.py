"""PromptedSAM: its prompts by loops, Trident's rule by brute force, a model of known masks."""

import importlib

import pytest
import torch
import torch.nn.functional as F

import lpprop
from lpprop._core.errors import InputError
from lpprop.regions.prompted_sam import PromptedSAM

transformers = pytest.importorskip("transformers")
pil_sam = importlib.import_module("transformers.models.sam.image_processing_pil_sam")
region_models = importlib.import_module("region_models")

SIDE = region_models.SIDE
ALL = {"iou_threshold": -99, "min_area": 0}


class BoxModel(transformers.SamModel):
    """A SAM whose mask is the prompt's box, and which is unsure of boxes wider than 40 pixels."""

    def forward(self, input_points, input_boxes, input_masks, **_):
        assert input_points.shape == (len(input_boxes), 1, 1, 2)
        self.prompts = input_points[:, 0, 0], input_boxes[:, 0], input_masks[:, 0]
        x1, y1, x2, y2 = (side[:, None, None] for side in (input_boxes[:, 0] // 2).T)
        cell = torch.arange(SIDE // 2)
        inside = (cell >= x1) & (cell <= x2) & (cell[:, None] >= y1) & (cell[:, None] <= y2)
        wide = input_boxes[:, :, 2] - input_boxes[:, :, 0] >= 40
        return transformers.modeling_outputs.ModelOutput(
            pred_masks=torch.where(inside, 4.0, -4.0)[:, None, None],
            iou_scores=torch.where(wide, 0.3, 0.9)[:, None],
        )


@pytest.fixture(scope="module")
def boxes():
    return region_models.make_sam(cls=BoxModel)


@pytest.fixture(scope="module", params=["Sam", "SamHQ", "Sam2", "Sam3Tracker"])
def model(request):
    return region_models.make_sam(request.param)


def coarse_result():
    """Probabilities of three classes: a wide ground, a block, an L, a block of four pixels."""
    labels = torch.zeros(SIDE, SIDE, dtype=torch.long)
    labels[4:20, 6:30] = 1
    labels[30:60, 8:14] = 2
    labels[54:60, 8:40] = 2
    labels[24:26, 50:52] = 1
    noise = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    scores = F.one_hot(labels, 3).permute(2, 0, 1) + 0.4 * noise
    return labels, (scores / scores.sum(0))[None]


def image(size=(SIDE, SIDE), count=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(2))


def parts(labels):
    """The components by flood filling, in the order of their first pixels."""
    seen, found = torch.zeros_like(labels, dtype=torch.bool), []
    for start in (labels >= 0).nonzero().tolist():
        if seen[tuple(start)]:
            continue
        own, waiting = torch.zeros_like(seen), [tuple(start)]
        own[tuple(start)] = True
        while waiting:
            y, x = waiting.pop()
            for j in range(max(0, y - 1), min(len(labels), y + 2)):
                for i in range(max(0, x - 1), min(labels.shape[1], x + 2)):
                    if not own[j, i] and labels[j, i] == labels[y, x]:
                        own[j, i] = True
                        waiting.append((j, i))
        seen |= own
        found.append(own)
    return found


def test_a_prompt_is_the_box_the_best_point_and_the_scores_of_its_component(boxes):
    labels, scores = coarse_result()
    sam = PromptedSAM(boxes, min_area=0, mask_weight=0.5)
    sam.propose(image(), scores)
    points, corners, masks = boxes.prompts
    components = parts(labels)
    assert len(points) == len(components) == 4
    for own, point, box, mask in zip(components, points, corners, masks, strict=True):
        y, x = own.nonzero(as_tuple=True)
        assert box.tolist() == [int(x.min()), int(y.min()), int(x.max()), int(y.max())]
        probability = scores[0, labels[own][0]].where(own, 0)
        best = probability.argmax()
        assert point.tolist() == [best % SIDE, best // SIDE]
        half = (0.5 * probability).unfold(0, 2, 2).unfold(1, 2, 2).mean((2, 3))
        torch.testing.assert_close(mask, half)


def test_masks_come_with_their_class_and_unsure_ones_are_left_out(boxes):
    labels, scores = coarse_result()
    masks, quality, classes = PromptedSAM(boxes, min_area=20).propose(image(), scores)
    assert classes[0].tolist() == [1, 2]  # the ground is unsure, four pixels are too few
    torch.testing.assert_close(quality[0], torch.tensor([0.9, 0.9]))
    block, corner = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    block[4:20, 6:30] = True
    corner[30:60, 8:40] = True  # all of the L's box
    assert masks[0].equal(torch.stack([block, corner]))
    # Where no score is high enough, nothing is asked; and where nothing is, there is no region.
    none = PromptedSAM(boxes, min_score=1.0)
    assert [x[0].shape for x in none.propose(image(), scores)] == [(0, SIDE, SIDE), (0,), (0,)]
    assert none.relabel(image(), scores).equal(scores)
    scores[0, :, labels == 2] = torch.tensor([0.0, 0.0, 1.0])[:, None]
    high = PromptedSAM(boxes, min_area=0, min_score=1.0)
    assert high.propose(image(), scores).classes[0].tolist() == [2]


def test_relabel_is_tridents_rule():
    """Masks that overlap, one refused: the sums over masks, class by class, pixel by pixel."""
    sam = PromptedSAM(region_models.make_sam(), min_area=30, iou_threshold=0.3)
    scores = torch.rand(1, 3, 7, 8, generator=torch.Generator().manual_seed(5)).softmax(1)
    picture = image((40, 60))
    old = F.interpolate(scores, (40, 60), mode="bilinear")[0]
    drawn = list(sam._redraw(picture, old))
    assert {bool(x) for part in drawn for x in part.accepted} == {True, False}
    covered, failed = torch.zeros(2, 40, 60, dtype=torch.bool)
    refined = torch.zeros(3, 40, 60)
    for accepted, logits, label, own in ((a, *rest) for part in drawn
                                         for a, *rest in zip(*part[:4], strict=True)):  # fmt: skip
        if accepted:
            sigma = 1 / (1 + (-logits).exp())
            refined[label] = refined[label].maximum((logits > 0) * sigma * old[label])
            covered |= logits > 0
        else:
            failed |= own
    expected = torch.where(covered, refined.argmax(0), old.argmax(0))
    stronger = (failed * old).amax(0) > refined.amax(0)
    expected = torch.where(stronger, old.argmax(0), expected)
    found = sam.relabel(picture, scores)[0]
    assert found.argmax(0).equal(expected)
    assert (expected != old.argmax(0)).float().mean() > 0.02
    untouched = ~covered & ~failed
    assert found[:, untouched].equal(old[:, untouched])


def test_a_vote_and_relabel_agree_where_the_class_has_the_majority(boxes):
    labels, scores = coarse_result()
    ground = labels == 0
    scores[0, :, ground] = torch.tensor([0.5, 0.2, 0.3])[:, None]

    def both(**options):
        sam = PromptedSAM(boxes, min_area=20, **options)
        masks = sam(image(), scores)
        voted = lpprop.region_vote(scores, masks, by="vote")
        return voted[0].argmax(0), sam.relabel(image(), scores)[0].argmax(0)

    grown, inside = torch.zeros_like(ground), (slice(30, 60), slice(8, 40))
    grown[inside] = True  # the L's mask: its box
    # Where the ground prompts nothing, relabel gives all of the mask to the L, and the vote to the
    # ground, of which it holds more.
    voted, relabelled = both(min_score=0.52)
    assert (relabelled[inside] == 2).all()
    assert (voted[inside] == 0).all()
    assert voted[~grown].equal(relabelled[~grown])
    # Where the ground was refused, relabel has it keep its pixels within the mask.
    _, relabelled = both()
    assert relabelled[grown].equal(labels[grown])
    # With most of its box the L has the majority.
    scores[0, :, 34:50, 20:36] = torch.tensor([0.1, 0.1, 0.8])[:, None, None]
    voted, relabelled = both(min_score=0.52)
    assert (voted[inside] == 2).all()
    assert voted.equal(relabelled)


def test_one_component_by_transformers_own_functions(model):
    size = (40, 60)
    scores = torch.zeros(1, 2, *size)
    scores[0, 0] = 0.5
    scores[0, 1, 6:30, 10:33] = 0.9
    sam = PromptedSAM(model, **ALL)
    masks, quality, classes = sam.propose(image(size), scores)
    which = int((classes[0] == 1).nonzero())
    side, coarse = model.prompt_encoder.input_image_size, sam._mask_side
    prompt = 0.005 * scores[:, 1:].where(scores[:, 1:] > 0.5, 0)
    if sam._squeezes:
        to_model = lambda xy, box: pil_sam._normalize_coordinates(side, xy, size, box)  # noqa: E731
        prompt = F.interpolate(prompt, (round(coarse * 40 / 60), coarse), mode="bilinear")
        prompt = F.pad(prompt, (0, 0, 0, coarse - prompt.shape[2]))
    else:
        ratio = torch.tensor([side / 60, side / 40])
        to_model = lambda xy, box: (torch.as_tensor(xy) * ratio.repeat(1 + box)).numpy()  # noqa: E731
        prompt = F.interpolate(prompt, (coarse, coarse), mode="bilinear")
    point = torch.from_numpy(to_model(torch.tensor([[10.0, 6.0]]).numpy(), False)).float()
    box = torch.from_numpy(to_model(torch.tensor([[10.0, 6.0, 32.0, 29.0]]).numpy(), True)).float()
    with torch.no_grad():
        output = model(
            **sam._embed(image(size)), input_points=point[None, None], input_boxes=box[None],
            input_masks=prompt, multimask_output=False,
        )  # fmt: skip
    torch.testing.assert_close(quality[0][which], output.iou_scores[0, 0, 0])
    post = output.pred_masks[0]
    if sam._squeezes:
        square = {"height": side, "width": side}
        resized = [(round(side * 40 / 60), side)]
        processor = pil_sam.SamImageProcessorPil()
        expected = processor.post_process_masks([post], [size], resized, pad_size=square)[0][0, 0]
    else:
        expected = F.interpolate(post, size, mode="bilinear")[0, 0] > 0
    assert 0 < expected.sum() < expected.numel()
    assert (masks[0][which] != expected).float().mean() < 1e-3


def test_batches_grids_and_bounds_of_memory_change_nothing(model):
    scores = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(3))
    batch = image((40, 60), 2)
    whole = PromptedSAM(model, **ALL)
    together = whole.propose(batch, scores)
    fine = F.interpolate(scores, (40, 60), mode="bilinear")
    for number in range(2):
        alone = PromptedSAM(model, **ALL, max_bytes=1)
        one = slice(number, number + 1)
        masks, quality, classes = alone.propose(batch[one], fine[one])
        assert classes[0].equal(together.classes[number])
        assert len(set(classes[0].tolist())) == 3
        torch.testing.assert_close(quality[0], together.scores[number], atol=1e-5, rtol=1e-5)
        assert (masks[0] != together.masks[number]).float().mean() < 1e-3
        torch.testing.assert_close(
            alone.relabel(batch[one], fine[one]), whole.relabel(batch, scores)[one],
            atol=1e-4, rtol=1e-4,
        )  # fmt: skip


def test_what_cannot_work_is_refused(boxes):
    _, scores = coarse_result()
    sam = PromptedSAM(boxes)
    for given, message in (
        (scores.expand(2, -1, -1, -1), r"^scores: got shape \(2, 3, 64, 64\)"),
        (scores.where(scores < 0.7, torch.nan), "^scores: got .* NaN"),
        (scores.argmax(1, keepdim=True), "^scores: got dtype"),
        (scores.double() * 1e300, "^scores: got .* infinite"),
    ):
        with pytest.raises(InputError, match=message):
            sam(image(), given)
    with pytest.raises(InputError, match=r"^scores: got values down to -1.*scores\.softmax"):
        sam.relabel(image(), scores - 1)
    for name, value in (("min_area", -1), ("mask_weight", -0.1), ("iou_threshold", "high")):
        with pytest.raises(InputError, match=f"^{name}: got "):
            PromptedSAM(boxes, **{name: value})


def test_refine_asks_it_with_the_scores_of_the_step_before(boxes):
    _, scores = coarse_result()
    sam = PromptedSAM(boxes, min_area=20)
    refined = lpprop.refine(scores, None, image(), regions=sam, method=lpprop.RegionVote())
    expected = lpprop.region_vote(scores, sam(image(), scores))
    torch.testing.assert_close(refined, expected)
