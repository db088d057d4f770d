"""The examples of docs/integrations.md run, and do what the page says.

Blocks that need a package the library does not need are marked `<!-- no-run -->` there, so that
the README's test leaves them out; here they run where that package is, or on a stand-in.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lpprop
from test_integrations_mmsegmentation import Preprocessor, Sample, Segmentor

PAGE = Path(__file__).parents[1] / "docs" / "integrations.md"
SECTION = re.compile(r"^(?:# |## )(.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
TEXTS = dict(SECTION.findall(PAGE.read_text(encoding="utf-8")))


def run(*sections):
    """Run the blocks of the page's introduction and of some sections, in one namespace."""
    torch.manual_seed(0)
    namespace = {"__name__": "__main__"}
    for section in ("Inside existing pipelines", *sections):
        blocks = BLOCK.findall(TEXTS[section])
        assert blocks, f"no block in {section!r}"
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), namespace)
    return SimpleNamespace(**namespace)


def test_the_sections_are_those_tested_here():
    assert [title for title, text in TEXTS.items() if BLOCK.search(text)] == [
        "Inside existing pipelines",
        "Hugging Face: semantic segmentation",
        "Hugging Face: CLIPSeg",
        "MMSegmentation 1.x",
        "SCLIP, ProxyCLIP, NACLIP",
        "Plain PyTorch",
    ]


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the extra models is not installed"
)
def test_hugging_face():
    page = run("Hugging Face: semantic segmentation")
    assert page.refined.logits.shape == (1, 5, 128, 128)
    assert page.labels.shape == (150, 200)
    page = run("Hugging Face: semantic segmentation", "Hugging Face: CLIPSeg")
    assert page.refined.logits.shape == (3, 128, 128)
    assert page.labels.shape == (128, 128)


def test_mmsegmentation(monkeypatch):
    registry = SimpleNamespace(register_module=lambda: lambda cls: cls)
    for name, content in (
        ("mmseg", {}),
        ("mmseg.models", {"EncoderDecoder": Segmentor}),
        ("mmseg.registry", {"MODELS": registry}),
    ):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    page = run("MMSegmentation 1.x")
    preprocessor = Preprocessor(mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True)
    model = page.RefinedEncoderDecoder(
        nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 5, 1), 5, SimpleNamespace(mode="whole"), preprocessor,
        refine=page.refine,
    )  # fmt: skip
    sample = Sample({"ori_shape": (64, 80), "img_shape": (64, 80)})
    photo = torch.randint(256, (3, 64, 80), dtype=torch.uint8)
    with torch.no_grad():
        data = preprocessor({"inputs": [photo], "data_samples": [sample]})
        model.predict(data["inputs"], data["data_samples"])
    assert sample.seg_logits.data.shape == (5, 64, 80)


class CLIPForSegmentation(nn.Module):
    """What SCLIP, ProxyCLIP and NACLIP have in common, on a random convolution."""

    def __init__(self, query_idx, prob_thd):
        super().__init__()
        self.data_preprocessor = Preprocessor(mean=[120.0] * 3, std=[60.0] * 3, rgb_to_bgr=True)
        self.network = nn.Conv2d(3, len(query_idx), 16, 16)
        self.query_idx = torch.tensor(query_idx)
        self.logit_scale, self.prob_thd = 40, prob_thd
        self.slide_stride, self.slide_crop = 32, 64

    def forward_feature(self, img, logit_size=None):
        return F.interpolate(
            0.02 * self.network(img), logit_size or img.shape[-2:], mode="bilinear"
        )

    def forward_slide(self, img, img_metas, stride=112, crop_size=224):
        raise AssertionError("the recipe takes its place")

    def predict(self, inputs, data_samples):
        metas = [sample.metainfo for sample in data_samples]
        logits = self.forward_slide(inputs, metas, self.slide_stride, self.slide_crop)
        return self.postprocess_result(logits, data_samples)

    def postprocess_result(self, seg_logits, data_samples):
        share = (self.logit_scale * seg_logits[0]).softmax(0)
        classes = [share[self.query_idx == c].amax(0) for c in range(int(self.query_idx.max()) + 1)]
        best, labels = torch.stack(classes).max(0)
        labels[best < self.prob_thd] = 0
        data_samples[0].set_data({"seg_logits": torch.stack(classes), "pred_sem_seg": labels})
        return data_samples


@pytest.mark.parametrize("prob_thd", [0.0, 0.3])
def test_the_family_of_sclip(prob_thd):
    page = run("SCLIP, ProxyCLIP, NACLIP")

    class Refined(page.RefinedSlide, CLIPForSegmentation):
        pass

    model = Refined([0, 0, 1, 2], prob_thd).eval()
    photo = torch.randint(256, (3, 96, 112), dtype=torch.uint8)
    sample = Sample({"ori_shape": (120, 140, 3)})
    data = model.data_preprocessor({"inputs": [photo], "data_samples": [sample]})
    with torch.no_grad():
        model.predict(data["inputs"], data["data_samples"])

        image = photo.flip(0)[None] / 255  # loaded as BGR
        windows = lpprop.SlidingWindows((96, 112), window=64, stride=32)
        crops = windows.split(data["inputs"])
        share = (40 * model.forward_feature(crops)).softmax(1)
        feats = F.avg_pool2d(windows.split(image), 16) - 0.5
        coarse = F.interpolate(share, feats.shape[-2:], mode="bilinear", antialias=True)
        scores = lpprop.refine(coarse, feats, image, windows=windows)
        scores = F.interpolate(scores, (120, 140), mode="bilinear")[0]
    shares = scores / scores.sum(0)
    classes = torch.stack([shares[:2].amax(0), shares[2], shares[3]])
    torch.testing.assert_close(sample.seg_logits, classes, rtol=1e-3, atol=1e-4)
    expected = classes.argmax(0).masked_fill(classes.amax(0) < prob_thd, 0)
    assert (sample.pred_sem_seg == expected).float().mean() > 0.999
    assert prob_thd == 0 or 0 < (classes.amax(0) < prob_thd).float().mean() < 1


def test_plain_pytorch():
    page = run("SCLIP, ProxyCLIP, NACLIP", "Plain PyTorch")
    assert page.labels.shape == (2, 96, 128)
    assert page.scores.shape == (1, 4, 160, 224)
