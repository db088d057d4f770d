"""Tiny random models of the classes of transformers that propose regions."""

import torch
import transformers

SIDE = 64
DECODER = {
    "hidden_size": 16,
    "mlp_dim": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "iou_head_hidden_dim": 16,
    "iou_head_depth": 2,
}
PROMPTS = {"hidden_size": 16, "mask_input_channels": 8}
SAM_VISION = {
    "hidden_size": 24,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [1],
    "num_pos_feats": 8,
    "mlp_dim": 32,
}
SAM2_BACKBONE = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "num_attention_heads": 1,
    "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 4, 4, 4],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
SAM2_VISION = {
    "backbone_config": SAM2_BACKBONE,
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 16,
}
SAM3_VISION = {
    "model_type": "sam3_vision_model",
    "backbone_config": {
        "model_type": "sam3_vit_model",
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
        "patch_size": 14,
        "window_size": 2,
        "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    },
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 16,
}
EOMT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": 16,
    "num_blocks": 1,
    "num_queries": 6,
    "num_labels": 3,
}
# Each class with the parts of its configuration.
KINDS = {
    "Sam": (SAM_VISION, {"image_size": SIDE, "patch_size": 8}, DECODER),
    "SamHQ": (SAM_VISION, {"image_size": SIDE, "patch_size": 8}, DECODER | {"vit_dim": 24}),
    "Sam2": (SAM2_VISION, {"image_size": SIDE, "patch_size": 16}, DECODER),
    "Sam3Tracker": (SAM3_VISION, {"image_size": 56, "patch_size": 14}, DECODER),
}


def make_sam(kind="Sam", cls=None, seed=0):
    """A random model whose masks differ from prompt to prompt."""
    vision, prompts, decoder = KINDS[kind]
    config = getattr(transformers, f"{kind}Config")(
        vision_config=vision,
        prompt_encoder_config=PROMPTS | prompts,
        mask_decoder_config=decoder,
    )
    return shaken(cls or getattr(transformers, f"{kind}Model"), config, seed, 0.3)


def make_eomt(kind="Eomt", seed=0):
    extra = {"mlp_ratio": 2} if kind == "Eomt" else {"intermediate_size": 32}
    config = getattr(transformers, f"{kind}Config")(**EOMT, **extra)
    return shaken(getattr(transformers, f"{kind}ForUniversalSegmentation"), config, seed, 0.3)


def make_mask2former(seed=0):
    backbone = transformers.SwinConfig(
        image_size=SIDE, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
        dim_feedforward=16, num_queries=6, num_labels=3,
    )  # fmt: skip
    return shaken(transformers.Mask2FormerForUniversalSegmentation, config, seed, 0.1)


def shaken(cls, config, seed, amount):
    torch.manual_seed(seed)
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return model
