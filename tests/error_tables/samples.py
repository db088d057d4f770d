"""Inputs and phrases that the tables share."""

import torch

import lpprop

LOGITS, FEATS, IMAGE = torch.rand(2, 3, 4, 5), torch.rand(2, 8, 4, 5), torch.rand(2, 3, 64, 80)
FULL = torch.rand(2, 3, 64, 80)
WINDOWS = lpprop.SlidingWindows((80, 112), 64, 32)
CROPS = torch.rand(6, 3, 4, 4), torch.rand(6, 8, 4, 4)
WIDE = torch.rand(1, 3, 80, 112)
ATTENTION = torch.rand(2, 20, 20).softmax(-1)


class Elsewhere(torch.Tensor):
    """A tensor that says that it is on another device."""

    device = torch.device("cuda")


def spoilt(tensor, value, *place):
    """A copy of a tensor with one value that should not be there."""
    tensor = tensor.clone()
    tensor[place] = value
    return tensor


def identity(logits, *, feats, image, attention, windows=None):
    return logits


def first_class(logits):
    return logits[:, :1]


def one_image(logits, *, feats, image, attention):
    return logits


def sized(logits, *, size):
    return logits


def needy(logits, **inputs):
    return logits


needy.needs = "depth"


def no_scores():
    return LOGITS


def returns(value):
    """A method that returns a given value."""

    def method(logits, *, feats, image, attention):
        return value

    return method


# What many messages end with, or list.
METHODS = (
    "'lposs', 'lposs+', 'optimal_path', 'max_velocity', 'kl', 'fusion', 'bilinear', "
    "'joint_bilateral', 'guided_filter', 'pamr', 'dense_crf', 'local_crf', 'attention_pool', "
    "'clip_dinoiser'"
)
BROADCAST = "Nothing is broadcast: give every tensor its full size."
FINITE = "expected finite values. Find their source, or replace them with torch.nan_to_num."
AXES = "Add the missing axes with .unsqueeze(0), or drop the extra ones."
EMPTY = "expected no axis of size 0. Skip empty batches, images and class lists before the call."
STEP = (
    "expected callables step(logits, *, feats, image, attention). Pass modules, such as "
    "PatchPropagation(), results of presets, such as presets.lposs(), or functions of that form."
)
ARRAY = (
    "expected a torch.Tensor or a NumPy array. Convert it with numpy.asarray or torch.as_tensor."
)
BOXES = "Pass the logits of all windows of one image, in the order of the boxes."
