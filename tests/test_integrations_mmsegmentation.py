"""The mix-in for MMSegmentation, on the real segmentor where it imports, and on a stand-in.

The stand-in has the methods and data structures that MMSegmentation 1.2 documents for
`EncoderDecoder`, `SegDataPreProcessor` and `SegDataSample`. The real ones need mmcv with its
compiled operators; where `mmseg.models` imports, every test runs on both.
"""

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lpprop
from lpprop import InputError, SlidingWindows
from lpprop.integrations.mmsegmentation import RefineMixin, input_image

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
OPTIONS = {"method": "lposs", "k": 20, "patch_size": 8}


# ------------------------------------------------------------------------ the stand-in


class Preprocessor:
    """Reverses channels, normalises, and pads at the right and the bottom."""

    def __init__(self, mean=None, std=None, bgr_to_rgb=False, rgb_to_bgr=False, test_cfg=None):
        self.channel_conversion = bgr_to_rgb or rgb_to_bgr
        self.test_cfg = test_cfg
        if mean is not None:
            self.mean, self.std = (torch.tensor(x).view(-1, 1, 1) for x in (mean, std))

    def __call__(self, data):
        images = [x.flip(0) if self.channel_conversion else x for x in data["inputs"]]
        inputs = torch.stack(images).float()
        if hasattr(self, "mean"):
            inputs = (inputs - self.mean) / self.std
        if self.test_cfg:
            divisor = self.test_cfg["size_divisor"]
            below, right = (-side % divisor for side in inputs.shape[2:])
            inputs = F.pad(inputs, (0, right, 0, below))
            for sample in data["data_samples"]:
                sample.metainfo |= {
                    "img_padding_size": (0, right, 0, below),
                    "pad_shape": inputs.shape[2:],
                }
        return {"inputs": inputs, "data_samples": data["data_samples"]}


class Sample:
    def __init__(self, metainfo):
        self.metainfo = metainfo

    def set_data(self, data):
        self.__dict__.update(data)


class Segmentor(nn.Module):
    def __init__(self, network, head, channels, test_cfg, data_preprocessor):
        super().__init__()
        self.network, self.head, self.out_channels = network, head, channels
        self.test_cfg, self.data_preprocessor = test_cfg, data_preprocessor
        self.align_corners, self.threshold = False, 0.3

    def encode_decode(self, inputs, batch_img_metas):
        meta = batch_img_metas[0]
        size = meta["img_shape"]
        if not isinstance(size, torch.Size) and "pad_shape" in meta:
            size = meta["pad_shape"][:2]
        return F.interpolate(self.head(self.network(inputs)), size, mode="bilinear")

    def whole_inference(self, inputs, batch_img_metas):
        return self.encode_decode(inputs, batch_img_metas)

    def slide_inference(self, inputs, batch_img_metas):
        (high, wide), (down, right) = self.test_cfg.crop_size, self.test_cfg.stride
        height, width = inputs.shape[2:]
        total = inputs.new_zeros(len(inputs), self.out_channels, height, width)
        count = inputs.new_zeros(height, width)
        for row in range(max(height - high + down - 1, 0) // down + 1):
            for column in range(max(width - wide + right - 1, 0) // right + 1):
                y2, x2 = min(row * down + high, height), min(column * right + wide, width)
                y1, x1 = max(y2 - high, 0), max(x2 - wide, 0)
                crop = inputs[:, :, y1:y2, x1:x2]
                batch_img_metas[0]["img_shape"] = crop.shape[2:]
                total[..., y1:y2, x1:x2] += self.encode_decode(crop, batch_img_metas)
                count[y1:y2, x1:x2] += 1
        return total / count

    def predict(self, inputs, data_samples=None):
        shape = inputs.shape[2:]
        metas = [{"ori_shape": shape, "img_shape": shape, "pad_shape": shape}] * len(inputs)
        if data_samples is not None:
            metas = [dict(sample.metainfo) for sample in data_samples]
        slide = self.test_cfg.mode == "slide"
        infer = self.slide_inference if slide else self.whole_inference
        return self.postprocess_result(infer(inputs, metas), data_samples)

    def postprocess_result(self, seg_logits, data_samples):
        given = data_samples is not None
        samples = data_samples if given else [Sample({}) for _ in seg_logits]
        for sample, item in zip(samples, seg_logits.split(1), strict=True):
            if given:
                left, right, top, bottom = sample.metainfo.get("img_padding_size", (0,) * 4)
                item = item[..., top : item.shape[2] - bottom, left : item.shape[3] - right]
                if sample.metainfo.get("flip"):
                    item = item.flip(3 if sample.metainfo["flip_direction"] == "horizontal" else 2)
                item = F.interpolate(item, sample.metainfo["ori_shape"], mode="bilinear")
            item = item[0] if item.shape[1] > 1 else item[0].sigmoid()
            labels = (
                item.argmax(0, keepdim=True) if len(item) > 1 else (item > self.threshold) * 1.0
            )
            sample.set_data(
                {
                    "seg_logits": SimpleNamespace(data=item),
                    "pred_sem_seg": SimpleNamespace(data=labels),
                }
            )
        return samples


class RefinedSegmentor(RefineMixin, Segmentor):
    pass


class StandIn:
    preprocessor, sample = Preprocessor, Sample

    @staticmethod
    def build(channels, test_cfg, preprocessor, options):
        torch.manual_seed(0)
        network, head = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, channels, 1)
        nn.init.normal_(head.weight, std=2.0)
        config = SimpleNamespace(**test_cfg)
        arguments = (network, head, channels, config, preprocessor)
        return Segmentor(*arguments).eval(), RefinedSegmentor(*arguments, **options).eval()


# ------------------------------------------------------------------------ the real one


class Real:
    @staticmethod
    def preprocessor(**options):
        from mmseg.models import SegDataPreProcessor

        return SegDataPreProcessor(**options)

    @staticmethod
    def sample(metainfo):
        from mmseg.structures import SegDataSample

        return SegDataSample(metainfo=metainfo)

    @staticmethod
    def build(channels, test_cfg, preprocessor, options):
        from mmengine.config import ConfigDict
        from mmseg.models import EncoderDecoder
        from mmseg.registry import MODELS

        class Backbone(nn.Module):
            def __init__(self):
                super().__init__()
                self.convolution = nn.Conv2d(3, 8, 4, 4)

            def forward(self, inputs):
                return [self.convolution(inputs)]

        class Refined(RefineMixin, EncoderDecoder):
            pass

        MODELS.register_module(name="TinyBackbone", module=Backbone, force=True)
        head = ConfigDict(
            type="FCNHead", in_channels=8, channels=8, in_index=0, num_convs=0, kernel_size=1,
            concat_input=False, num_classes=max(channels, 2), out_channels=channels, threshold=0.3,
        )  # fmt: skip
        both = []
        for cls, extra in ((EncoderDecoder, {}), (Refined, options)):
            torch.manual_seed(0)
            model = cls(
                ConfigDict(type="TinyBackbone"), head.copy(), test_cfg=ConfigDict(test_cfg),
                data_preprocessor=preprocessor, **extra,
            )  # fmt: skip
            nn.init.normal_(model.decode_head.conv_seg.weight, std=2.0)
            both.append(model.eval())
        return both


def real_one_imports():
    try:
        return importlib.util.find_spec("mmseg") and importlib.util.find_spec("mmcv._ext")
    except ImportError:
        return False


KINDS = [StandIn, Real] if real_one_imports() else [StandIn]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


# ------------------------------------------------------------------------ by hand


def affinity(images):
    """Colours of patches of 8 pixels, the last of which may reach beyond the image."""
    return F.avg_pool2d(images, 8, ceil_mode=True)


affinity.span = lambda size: tuple(side + -side % 8 for side in size)


def photos(*, size=(40, 52), count=2, seed=0):
    """BGR images as a pipeline loads them: smooth, so that patches differ."""
    coarse = torch.rand(count, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    large = F.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    return (255 * large).round().to(torch.uint8)


def prepared(kind, images, preprocessor, **metainfo):
    shape = tuple(images.shape[2:])
    samples = [
        kind.sample({"ori_shape": shape, "img_shape": shape, **metainfo})
        for _ in range(len(images))
    ]
    data = preprocessor({"inputs": list(images), "data_samples": samples})
    return data["inputs"], data["data_samples"]


def normalising(kind, **options):
    return kind.preprocessor(mean=MEAN, std=STD, bgr_to_rgb=True, **options)


WHOLE = {"mode": "whole"}
SLIDE = {"mode": "slide", "crop_size": (24, 24), "stride": (16, 16)}


def meta_of(size):
    return [{"ori_shape": size, "img_shape": torch.Size(size)}]


def found(samples, name="seg_logits"):
    return torch.stack([getattr(sample, name).data for sample in samples])


@pytest.mark.parametrize("divisor", [None, 32])
@torch.no_grad()
def test_whole_images_by_hand(kind, divisor):
    test_cfg = {"size_divisor": divisor} if divisor else None
    preprocessor = normalising(kind, test_cfg=test_cfg)
    plain, refined = kind.build(5, WHOLE, preprocessor, {"affinity": affinity, "refine": OPTIONS})
    photo = photos()
    inputs, samples = prepared(
        kind,
        photo,
        preprocessor,
    )
    expected = []
    for number in range(2):
        logits = plain.encode_decode(inputs[number : number + 1], meta_of(inputs.shape[2:]))
        image = photo[number : number + 1].flip(1) / 255
        feats = affinity(image)
        share = logits[..., :40, :52].softmax(1)
        beyond = F.pad(share, (0, 4, 0, 0), mode="replicate")
        coarse = F.interpolate(beyond, feats.shape[2:], mode="bilinear", antialias=True)
        expected.append(lpprop.refine(coarse, feats, image, span=(40, 56), **OPTIONS))
    with torch.no_grad():
        refined.predict(inputs, samples)
    torch.testing.assert_close(found(samples), torch.cat(expected), rtol=1e-4, atol=1e-4)
    labels = found(samples, "pred_sem_seg")[:, 0]
    assert torch.equal(labels, found(samples).argmax(1))
    assert not torch.equal(labels, plain.encode_decode(inputs, meta_of(inputs.shape[2:]))[
        ..., :40, :52].argmax(1))  # fmt: skip


@torch.no_grad()
def test_one_graph_joins_the_windows(kind):
    preprocessor = normalising(kind)
    options = {"affinity": affinity, "refine": OPTIONS}
    plain, refined = kind.build(5, SLIDE, preprocessor, options)
    photo = photos()
    inputs, samples = prepared(kind, photo, preprocessor)
    windows = SlidingWindows((40, 52), window=24, stride=16)
    expected = []
    for number in range(2):
        image = photo[number : number + 1].flip(1) / 255
        feats = affinity(windows.split(image))
        crops = windows.split(inputs[number : number + 1])
        share = plain.encode_decode(crops, meta_of((24, 24))).softmax(1)
        coarse = F.interpolate(share, feats.shape[2:], mode="bilinear", antialias=True)
        expected.append(lpprop.refine(coarse, feats, image, windows=windows, **OPTIONS))
    refined.predict(inputs, samples)
    torch.testing.assert_close(found(samples), torch.cat(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("divisor", [None, 32])
@torch.no_grad()
def test_a_method_that_does_nothing_leaves_the_segmentors_own_result(kind, divisor):
    preprocessor = normalising(kind, test_cfg={"size_divisor": divisor} if divisor else None)
    for test_cfg in (WHOLE, SLIDE):
        nothing = {"refine": {"method": lambda logits, **_: logits}, "is_prob": True}
        plain, refined = kind.build(3, test_cfg, preprocessor, nothing)
        inputs, samples = prepared(
            kind,
            photos(),
            preprocessor,
        )
        again = prepared(kind, photos(), preprocessor)[1]
        plain.predict(inputs, samples)
        refined.predict(inputs, again)
        torch.testing.assert_close(found(again), found(samples), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(24, 24), (25, 40), (40, 41), (57, 72), (16, 90), (20, 20)])
@pytest.mark.parametrize("stride", [16, 24, 7])
def test_windows_are_those_of_slide_inference(kind, size, stride):
    test_cfg = SLIDE | {"stride": (stride, stride)}
    plain, _ = kind.build(3, test_cfg, normalising(kind), {})
    boxes = []

    def encode_decode(crop, metas):
        (y, x), (height, width) = crop[0, :2, 0, 0].int().tolist(), crop.shape[2:]
        boxes.append([y, y + height, x, x + width])
        return crop

    plain.encode_decode = encode_decode
    places = torch.stack(torch.meshgrid(*map(torch.arange, (*size, 1)), indexing="ij"))[..., 0]
    plain.slide_inference(places[None].float(), meta_of(size))
    assert boxes == SlidingWindows(size, window=24, stride=stride).boxes.tolist()


@torch.no_grad()
def test_padding_of_windows_has_the_mean_colour_for_the_affinity(kind):
    """Whatever value the model sees there."""
    preprocessor = normalising(kind, test_cfg={"size_divisor": 32})
    seen = []
    options = {"affinity": lambda x: seen.append(x) or affinity(x), "refine": OPTIONS}
    _, refined = kind.build(3, SLIDE | {"crop_size": (64, 64), "stride": (64, 64)}, preprocessor,
                            options)  # fmt: skip
    photo = photos(count=1)
    inputs, samples = prepared(kind, photo, preprocessor)
    inputs[..., 40:, :] = 1e3
    refined.predict(inputs, samples)
    image = photo.flip(1) / 255
    torch.testing.assert_close(seen[0][..., :40, :52], image, rtol=1e-4, atol=1e-4)
    mean = image.mean((2, 3), keepdim=True).expand(-1, -1, 24, 64)
    torch.testing.assert_close(seen[0][..., 40:, :], mean, rtol=1e-4, atol=1e-4)
    assert found(samples).shape == (1, 3, 40, 52)


@torch.no_grad()
def test_flipped_images_come_back(kind):
    preprocessor = normalising(kind)
    options = {"affinity": affinity, "refine": OPTIONS}
    _, refined = kind.build(3, WHOLE, preprocessor, options)
    photo = photos(size=(40, 48))
    inputs, samples = prepared(kind, photo, preprocessor)
    refined.predict(inputs, samples)
    mirrored, flipped = prepared(kind, photo, preprocessor, flip=True, flip_direction="horizontal")
    refined.predict(mirrored, flipped)
    torch.testing.assert_close(found(flipped), found(samples).flip(3), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_results_take_the_original_size(kind):
    preprocessor = normalising(kind)
    _, refined = kind.build(3, WHOLE, preprocessor, {"affinity": affinity, "refine": OPTIONS})
    inputs, samples = prepared(kind, photos(), preprocessor, ori_shape=(80, 91))
    refined.predict(inputs, samples)
    assert found(samples).shape == (2, 3, 80, 91)


@torch.no_grad()
def test_without_samples(kind):
    preprocessor = normalising(kind)
    options = {"affinity": affinity, "refine": OPTIONS}
    _, refined = kind.build(3, WHOLE, preprocessor, options)
    inputs, samples = prepared(kind, photos(), preprocessor)
    refined.predict(inputs, samples)
    torch.testing.assert_close(found(refined.predict(inputs, None)), found(samples))


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@torch.no_grad()
def test_queries_are_merged_once_they_are_refined(kind, test_cfg):
    preprocessor = normalising(kind)
    options = {"affinity": affinity, "refine": OPTIONS}
    _, apart = kind.build(5, test_cfg, preprocessor, options)
    _, merged = kind.build(5, test_cfg, preprocessor, options | {"query_idx": [0, 1, 1, 0, 2]})
    inputs, samples = prepared(kind, photos(), preprocessor)
    each = found(apart.predict(inputs, samples))
    best = found(merged.predict(inputs, samples))
    expected = torch.stack([each[:, [0, 3]].amax(1), each[:, [1, 2]].amax(1), each[:, 4]], 1)
    torch.testing.assert_close(best, expected)


@pytest.mark.parametrize("convert", [torch.tensor, np.array, tuple])
def test_queries_in_any_form(kind, convert):
    options = {"query_idx": convert([0, 1, 1, 0, 2])}
    _, merged = kind.build(5, WHOLE, normalising(kind), options)
    assert merged.query_groups == [[0, 3], [1, 2], [4]]


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@torch.no_grad()
def test_a_batch_warns_once(kind, test_cfg):
    preprocessor = normalising(kind)
    options = {"affinity": lambda x: affinity(x), "refine": {"method": "lposs", "k": 5}}
    _, refined = kind.build(3, test_cfg, preprocessor, options)
    inputs, samples = prepared(kind, photos(), preprocessor)
    with pytest.warns(lpprop.InputWarning, match="patches of 16 pixels spans") as said:
        refined.predict(inputs, samples)
    assert len([one for one in said if "patches of 16 pixels spans" in str(one.message)]) == 1


@torch.no_grad()
def test_one_channel_is_two_classes(kind):
    preprocessor = normalising(kind)
    nothing = {"method": lambda logits, **_: logits}
    plain, unchanged = kind.build(1, WHOLE, preprocessor, {"refine": nothing})
    inputs, samples = prepared(kind, photos(), preprocessor)
    again = prepared(kind, photos(), preprocessor)[1]
    plain.predict(inputs, samples)
    unchanged.predict(inputs, again)
    torch.testing.assert_close(found(again), found(samples), rtol=1e-3, atol=1e-5)
    assert torch.equal(found(again, "pred_sem_seg"), found(samples, "pred_sem_seg"))

    _, refined = kind.build(1, WHOLE, preprocessor, {"affinity": affinity, "refine": OPTIONS})
    refined.predict(inputs, again)
    logits = plain.encode_decode(inputs, meta_of((40, 52)))
    image = photos().flip(1) / 255
    share = torch.cat([1 - logits.sigmoid(), logits.sigmoid()], 1)
    beyond = F.pad(share, (0, 4, 0, 0), mode="replicate")
    coarse = F.interpolate(beyond, (5, 7), mode="bilinear", antialias=True)
    refined = lpprop.refine(coarse, affinity(image), image, span=(40, 56), **OPTIONS)
    no, yes = refined.split(1, 1)
    torch.testing.assert_close(found(again), yes / (yes + no), rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_affinity_may_be_a_backbones_output(kind):
    preprocessor = normalising(kind)
    inputs, samples = prepared(kind, photos(), preprocessor)

    def attending(images):
        return SimpleNamespace(
            feats=None, attention=lpprop.attention_from_features(affinity(images))
        )

    options = {"affinity": attending, "refine": {"method": "max_velocity"}}
    _, refined = kind.build(3, WHOLE, preprocessor, options)
    refined.predict(inputs, samples)
    assert found(samples).shape == (2, 3, 40, 52)


def test_a_backbone_moves_with_the_segmentor(kind):
    class Affinity(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, images):
            return affinity(images) * self.weight

    _, refined = kind.build(3, WHOLE, normalising(kind), {"affinity": Affinity()})
    assert refined.double().affinity.weight.dtype == torch.float64


# ------------------------------------------------------------------------ colours


@pytest.mark.parametrize(
    ("options", "loaded"),
    [
        ({"mean": MEAN, "std": STD, "bgr_to_rgb": True}, "bgr"),
        ({"mean": MEAN, "std": STD, "rgb_to_bgr": True}, "bgr"),
        ({"mean": MEAN, "std": STD}, "bgr"),
        ({"mean": MEAN, "std": STD, "rgb_to_bgr": True}, "rgb"),
        ({"mean": MEAN, "std": STD}, "rgb"),
        ({"bgr_to_rgb": True}, "bgr"),
        ({}, "bgr"),
    ],
)
def test_colours_come_back(kind, options, loaded):
    preprocessor = kind.preprocessor(**options)
    photo = photos()
    inputs, _ = prepared(kind, photo, preprocessor)
    rgb = photo / 255 if loaded == "rgb" else photo.flip(1) / 255
    torch.testing.assert_close(input_image(inputs, preprocessor, loaded=loaded), rgb)


# ------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"is_prob": 1}, "is_prob: got 1, expected True or False"),
        ({"loaded": "gbr"}, "loaded: got 'gbr', expected one of 'bgr', 'rgb'"),
        ({"refine": {"windows": 3}}, "refine: got windows=, expected a method and its options"),
        ({"refine": {"pixel_feats": 3}}, "refine: got pixel_feats=, expected a method and its"),
        ({"query_idx": [0, 2]}, "query_idx: got no query of class 1"),
        ({"query_idx": [0, -1]}, "query_idx[1]: got -1, expected an integer >= 0"),
        ({"query_idx": []}, "query_idx: got no query of class 0"),
        ({"query_idx": 3}, "query_idx: got int, expected a list with the class of each channel"),
        ({"query_idx": "001"}, "query_idx: got str"),
        ({"query_idx": [0.5]}, "query_idx[0]: got 0.5, expected an integer >= 0"),
        ({"refine": "lposs"}, "refine: got str, expected a dictionary of a method and its options"),
        ({"refine": [("method", "lposs")]}, "refine: got list"),
        ({"refine": {"method": "lpos"}}, "Did you mean 'lposs'?"),
        ({"refine": {"kk": 3}}, "kk: got an option that auto does not have"),
        ({"refine": {"k": 2.5}}, "k: got 2.5"),
        ({"affinity": "dino"}, "affinity: got str, expected a function from images to feats"),
    ],
)
def test_bad_options_are_refused(kind, options, message):
    with pytest.raises(InputError) as refused:
        kind.build(3, WHOLE, normalising(kind), options)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metas": [{"img_shape": (40, 52)}]}, "data_samples[0].metainfo: got ['img_shape']"),
        ({"metas": []}, "batch_img_metas: got 0, expected 1"),
        (
            {"metas": [{"ori_shape": (40, 52), "padding_size": (0, 60, 0, 0)}]},
            "padding (0, 60, 0, 0) of 40 x 52 pixels",
        ),
        ({"metas": [{"ori_shape": (40, 52), "padding_size": (0, 1)}]}, "padding (0, 1)"),
        ({"test_cfg": {"crop_size": (24, 32)}}, "test_cfg: got crop_size (24, 32)"),
        ({"test_cfg": {"stride": (8, 16)}}, "stride (8, 16), expected square windows"),
        ({"test_cfg": {"stride": 8}}, "test_cfg: got crop_size (24, 24) and stride 8"),
        ({"test_cfg": {"crop_size": (24,)}}, "test_cfg: got crop_size (24,) and stride"),
        ({"test_cfg": {"stride": (30, 30)}}, "stride: got 30, expected at most window = 24"),
        ({"preprocessor": None}, "expected a SegDataPreProcessor"),
        ({"preprocessor": {"mean": [0.0] * 3, "std": [255.0] * 3}}, "inputs: got values that mean"),
        ({"inputs": torch.rand(1, 4, 40, 52)}, "inputs: got shape (1, 4, 40, 52)"),
        ({"affinity": None}, "feats: got None"),
        ({"affinity": lambda x: object()}, "affinity: got a object without feats or attention"),
        ({"affinity": lambda x: affinity(x)[:1]}, "feats: got shape (1, 3, 3, 3)"),
        ({"query_idx": [0, 0, 1, 2]}, "groups[2]: got [3], expected one or more prompt indices"),
    ],
)
def test_unusable_arguments_are_refused(kind, change, message):
    options = {"affinity": affinity, "refine": OPTIONS} | {
        name: value for name, value in change.items() if name in ("affinity", "query_idx")
    }
    preprocessor = normalising(kind)
    if change.get("preprocessor"):
        preprocessor = kind.preprocessor(**change["preprocessor"])
    _, refined = kind.build(3, SLIDE | change.get("test_cfg", {}), preprocessor, options)
    if change.get("preprocessor", 1) is None:
        refined.data_preprocessor = nn.Identity()
    inputs = change.get("inputs", prepared(kind, photos(count=1), normalising(kind))[0])
    metas = change.get("metas", meta_of((40, 52)))
    with pytest.raises(InputError) as refused, torch.no_grad():
        refined.slide_inference(inputs, metas)
    assert message in str(refused.value)
