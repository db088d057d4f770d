"""Memory ceilings: the peak of resident memory beyond the inputs, in a process of its own.

Measured as the process's high-water mark after the call, less what it held before it. Linux alone
tells a process its own mark (`ru_maxrss` starts at that of the parent).
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the high-water mark is read from /proc"
)

MEASURE = """
import torch, lpprop

def held(field):  # MB
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024

torch.manual_seed(0)
{inputs}
{small}  # imports, threads and buffers that the first call brings
before = held("VmRSS:")
result = {call}
print(held("VmHWM:") - before)
"""


def peak(*, inputs, small, call):
    """MB that `call` takes at its peak beyond `inputs`."""
    script = MEASURE.format(inputs=inputs, small=small, call=call)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_the_pixel_step_of_a_real_image_stays_below_500_mb():
    # 84 planes of weights are 90 MB, and each image of scores (labels, x, r, p, Ap, ...) is 22 MB.
    # A list of its 45 million edges would be 180 MB of weights and 360 MB of indices or more.
    used = peak(
        inputs="logits, image = torch.rand(1, 21, 448, 597), torch.rand(1, 3, 448, 597)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16])",
        call="lpprop.propagate_pixels(logits, image, max_iter=3)",
    )
    assert used < 500


def test_a_batch_of_images_is_worked_off_one_by_one():
    # Four images of a quarter of the pixels: all stencils at once would be 90 MB, one is 22 MB.
    used = peak(
        inputs="logits, image = torch.rand(4, 5, 224, 299), torch.rand(4, 3, 224, 299)",
        small="lpprop.propagate_pixels(logits[..., :16, :16], image[..., :16, :16])",
        call="lpprop.propagate_pixels(logits, image, max_iter=1)",
    )
    assert used < 80


def test_the_patch_step_of_a_large_grid_makes_no_square_matrix():
    # N = 12,100 patches: one N x N float32 matrix is 585 MB. The similarities come in blocks of
    # 64 MB, the CSR graph of at most 2 k N = 774,400 edges with the sort behind it is the rest.
    used = peak(
        inputs="logits, feats = torch.rand(1, 5, 110, 110), torch.rand(1, 32, 110, 110)",
        small="lpprop.propagate_patches(logits[..., :9, :9], feats[..., :9, :9], backend='csr')",
        call="lpprop.propagate_patches(logits, feats, k=32)",
    )
    assert used < 300


def test_many_classes_are_solved_in_groups():
    # 2,000 classes of 128 x 128 pixels are 131 MB, so is the result; solved together they take
    # 750 MB, in groups 512 MB.
    used = peak(
        inputs="logits, image = torch.rand(1, 2000, 128, 128), torch.rand(1, 3, 128, 128)",
        small="lpprop.propagate_pixels(logits[:, :2], image, r=3, max_iter=1)",
        call="lpprop.propagate_pixels(logits, image, r=3, max_iter=1)",
    )
    assert used < 512 + 131
