"""What the papers' ablations say, and which two of our methods say the same or the opposite."""

from typing import NamedTuple

LPOSS4 = "LPOSS, supplement, Table 4"
LPOSS7 = "LPOSS, supplement, Section 7"
LPOSS10 = "LPOSS, supplement, Figure 10"
DSLO2 = "DSLO, Table 2"
DSLO3 = "DSLO, Table 3"


class Direction(NamedTuple):
    """A claim: `after` is better than `before` by so many points in the paper.

    Attributes:
        paper: the change of mIoU in the paper, in points; None where only its sign is known.
        sign: 1 if `after` is better in the paper, -1 if worse, 0 if about the same.
        why: what is different here, or why the outcome is as it is.
    """

    claim: str
    source: str
    paper: float | None
    sign: int
    experiment: str
    before: str
    after: str
    why: str = ""


_GRAPH = "k 400, γ 7"
_SMALL = "k 400, γ 7, 224/112"
_NO_DEPTH = "No depth model is at hand."

DIRECTIONS = (
    Direction("LPOSS gains over its start", "LPOSS, supplement, Table 6", 13.4, 1,
              "windows", "bilinear, 448/224", "k 400, γ 7, 448/224",
              "The paper's start is MaskCLIP."),
    Direction("the pixel step gains", LPOSS4, 0.8, 1, "windows", _SMALL, f"{_SMALL}, pixel step"),
    Direction("features of the start's own model are worse than those of the vision model",
              LPOSS4, -3.0, -1, "windows", _SMALL, f"{_SMALL}, CNN features",
              "Only from CNN prototypes are these the start's own features."),
    Direction("without the spatial term it is worse", LPOSS4, -0.7, -1,
              "windows", _SMALL, f"{_SMALL}, spatial none"),
    Direction("window by window is worse than jointly", LPOSS4, -2.1, -1,
              "windows", _SMALL, f"{_SMALL}, coupled",
              "Each window is relabelled by itself, so that its own graph has no others' errors."),
    Direction("the same, with the pixel step", LPOSS4, -2.3, -1,
              "windows", f"{_SMALL}, pixel step", f"{_SMALL}, coupled, pixel step"),
    Direction("an exponential appearance is a little worse", LPOSS7, -0.1, -1,
              "spatial", f"{_GRAPH}, sigma 0.01", f"{_GRAPH}, exponential 1/7",
              "The paper's scale is not given; ours has the slope of γ 7."),
    Direction("a linear spatial term is a little worse", LPOSS7, -0.2, -1,
              "spatial", f"{_GRAPH}, sigma 0.01", f"{_GRAPH}, spatial linear, sigma 0.005",
              "The paper's slope is not given."),
    Direction("an RBF beside the window of the pixel step is a little worse", LPOSS7, None, -1,
              "pixels", "pixel step, tau 0.01", "pixel step, sigma 0.1"),
    Direction("γ 7 suits DINOv2 better than γ 3", "LPOSS, supplement, Section 8.1", None, 1,
              "features", "token, k 400, γ 3", "token, k 400, γ 7"),
    Direction("k 400 is as good as a smaller k", LPOSS10, None, 0,
              "windows", "k 50, γ 7, 224/112", _SMALL,
              "400 patches are more than most classes of a street have; the paper's are larger."),
    Direction("sigma 0.01 is as good as 0.003", LPOSS10, None, 0,
              "spatial", f"{_GRAPH}, sigma 0.003", f"{_GRAPH}, sigma 0.01",
              "At k 400 far neighbours are mostly of other classes here, so that locality helps."),
    Direction("r 13 gains over r 3", LPOSS10, None, 1,
              "pixels", "pixel step, r 3", "pixel step, tau 0.01"),
    Direction("r 19 is about the same as r 13", LPOSS10, None, 0,
              "pixels", "pixel step, tau 0.01", "pixel step, r 19"),
    Direction("both sizes of windows are better than one", "LPOSS, Section 4.3", None, 1,
              "windows", _SMALL, "k 400, γ 7, 224/112 and 448/224",
              "As above: the errors of each window are its own."),
    Direction("PAMR is worse than the pixel step", "LPOSS, supplement, Section 8.3", -0.3, -1,
              "pixels", "pixel step, tau 0.01", "PAMR"),
    Direction("DenseCRF does not improve LPOSS", "LPOSS, supplement, Section 8.3", None, -1,
              "pixels", "patch step alone", "DenseCRF",
              "It sharpens what the patch step leaves blurred."),
    Direction("KL gains over the logits", DSLO2, 8.9, 1, "components", "logits", "KL",
              "The paper's logits are cosines of CLIP, ours probabilities."),
    Direction("suppression gains over KL alone", DSLO2, 1.3, 1, "components", "KL", "KL, NMS",
              "At 0.9 few patches of each class stay, and what the others knew is lost."),
    Direction("joint bilateral upsampling gains", DSLO2, 0.5, 1,
              "components", "KL, NMS", "KL, NMS, joint bilateral",
              "Behind KL with NMS most patches tie at 0."),
    Direction("the optimal path gains over KL", DSLO2, 20.4, 1,
              "components", "KL, NMS, joint bilateral", "optimal path"),
    Direction("the maximum velocity gains over KL", DSLO2, 21.2, 1,
              "components", "KL, NMS, joint bilateral", "maximum velocity"),
    Direction("the velocity is better than the path", DSLO2, 0.8, 1,
              "components", "optimal path", "maximum velocity"),
    Direction("fusion of both is worse than the velocity", DSLO2, -2.4, -1,
              "components", "maximum velocity", "fusion",
              "The path mends what the velocity leaves, and the sum has both."),
    Direction("key-key is better than query-key", DSLO3, 4.6, 1,
              "attention", "velocity, query-key last", "velocity, key-key last",
              "The paper's is the attention of CLIP that makes the logits, ours makes the map."),
    Direction("query-query is better than query-key", DSLO3, 2.9, 1,
              "attention", "velocity, query-key last", "velocity, query-query last",
              "As above."),
    Direction("chosen blocks are better than others", DSLO3, None, 1,
              "attention", "velocity, query-key all", "velocity, query-key last",
              "The paper chooses among blocks of Stable Diffusion; here the last against all."),
    Direction("NMS below 0.5 is worse than 0.9", "DSLO, NMS figure", None, 1,
              "suppression", "velocity, softmax, nms 0.3", "velocity, softmax, nms 0.9",
              "Of probabilities the softmax is so flat that 0.3 keeps every patch: all arrive at "
              "once, and tie."),
    Direction("the same, with min-max confidence", "DSLO, NMS figure", None, 1,
              "suppression", "velocity, minmax, nms 0.3", "velocity, minmax, nms 0.9"),
    Direction("tau 0.3 is better than 0.5", "DSLO, Figure 4 c", None, 1,
              "velocity", "m2n2, tau 0.5", "m2n2, tau 0.3"),
    Direction("tau 0.5 is better than 0.9", "DSLO, Figure 4 c", None, 1,
              "velocity", "m2n2, tau 0.9", "m2n2, tau 0.5"),
)  # fmt: skip

#: Rows of the papers that cannot be had here.
MISSING = {
    f"{LPOSS4}: depth as a pixel feature": _NO_DEPTH,
    f"{DSLO3}: weights of the blocks of Stable Diffusion 2": "The model is not at hand.",
    "DSLO, Figure 5: time step, resolution and other foundation models": "The same.",
}
