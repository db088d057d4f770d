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
        "SCLIP, ClearCLIP, ProxyCLIP, NACLIP, CASS",
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
    """What SCLIP, ClearCLIP and ProxyCLIP have in common, on a random convolution."""

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


class NACLIP(CLIPForSegmentation):
    """NACLIP's signatures: no metainfo, no size; `predict` resizes."""

    def forward_feature(self, img):
        return super().forward_feature(img)

    def forward_slide(self, img, stride=112, crop_size=224):
        raise AssertionError("the recipe takes its place")

    def predict(self, inputs, data_samples):
        logits = self.forward_slide(inputs, self.slide_stride, self.slide_crop)
        size = data_samples[0].metainfo["ori_shape"][:2]
        return self.postprocess_result(
            F.interpolate(logits, size=size, mode="bilinear"), data_samples
        )


class CASS(NACLIP):
    """CASS's signatures: as NACLIP, and a crop is scored beside the whole image, or None."""

    dataset = "voc20"

    def forward_feature(self, img, whole_img):
        whole = img if whole_img is None else whole_img
        return super().forward_feature(img) + 0.005 * whole.mean() * torch.eye(4)[0, :, None, None]


class CityCASS(CASS):
    dataset = "city_scapes"


@pytest.mark.parametrize("prob_thd", [0.0, 0.3])
@pytest.mark.parametrize("base", [CLIPForSegmentation, NACLIP, CASS, CityCASS])
def test_the_family_of_sclip(base, prob_thd):
    page = run("SCLIP, ClearCLIP, ProxyCLIP, NACLIP, CASS")

    class Refined(page.RefinedSlide, base):
        pass

    model = Refined([0, 0, 1, 2], prob_thd).eval()
    photo = torch.randint(256, (3, 96, 112), dtype=torch.uint8)
    photo[:, :48] //= 4  # so that whole image and crops differ
    sample = Sample({"ori_shape": (120, 140, 3)})
    data = model.data_preprocessor({"inputs": [photo], "data_samples": [sample]})
    with torch.no_grad():
        model.predict(data["inputs"], data["data_samples"])

        image = photo.flip(0)[None] / 255  # loaded as BGR
        windows = lpprop.SlidingWindows((96, 112), window=64, stride=32)
        crops = windows.split(data["inputs"])
        logits = CLIPForSegmentation.forward_feature(model, crops)
        if issubclass(base, CASS):
            city = base is CityCASS
            means = crops.mean((1, 2, 3)) if city else data["inputs"].mean().expand(len(crops))
            logits[:, 0] += 0.005 * means[:, None, None]
        share = (40 * logits).softmax(1)
        feats = F.avg_pool2d(windows.split(image), 16) - 0.5
        coarse = F.interpolate(share, feats.shape[-2:], mode="bilinear", antialias=True)
        scores = lpprop.refine(coarse, feats, image, windows=windows)
        if base is CLIPForSegmentation:
            scores = F.interpolate(scores, (120, 140), mode="bilinear")[0]
            shares = scores / scores.sum(0)
        else:
            logs = (scores / scores.sum(1, keepdim=True)).log()
            shares = F.interpolate(logs, (120, 140), mode="bilinear")[0].softmax(0)
    classes = torch.stack([shares[:2].amax(0), shares[2], shares[3]])
    torch.testing.assert_close(sample.seg_logits, classes, rtol=1e-3, atol=1e-4)
    expected = classes.argmax(0).masked_fill(classes.amax(0) < prob_thd, 0)
    assert (sample.pred_sem_seg == expected).float().mean() > 0.999
    assert prob_thd == 0 or 0 < (classes.amax(0) < prob_thd).float().mean() < 1


def test_the_slide_takes_its_arguments_by_name_and_by_default():
    page = run("SCLIP, ClearCLIP, ProxyCLIP, NACLIP, CASS")

    class Refined(page.RefinedSlide, CLIPForSegmentation):
        pass

    model = Refined([0, 1, 1], 0.0).eval()
    img, metas = torch.rand(1, 3, 224, 240), [{"ori_shape": (112, 120, 3)}]
    with torch.no_grad():
        found = model.forward_slide(img, img_metas=metas)
        expected = model.forward_slide(img, metas, 112, crop_size=224)
    assert found.shape == (1, 3, 112, 120)
    assert torch.equal(found, expected)


def test_plain_pytorch():
    page = run("SCLIP, ClearCLIP, ProxyCLIP, NACLIP, CASS", "Plain PyTorch")
    assert page.labels.shape == (2, 96, 128)
    assert page.scores.shape == (1, 4, 160, 224)
