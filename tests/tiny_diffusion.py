"""A Stable Diffusion of the real classes, tiny and with random weights."""

import diffusers
import torch
import transformers

LETTERS = "abcdefghijklmnopqrstuvwxyz.,"
MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>")]
WORDS = ["<|startoftext|>", "<|endoftext|>", *LETTERS, *(f"{x}</w>" for x in LETTERS)]
WORDS += ["".join(pair) for pair in MERGES]


def tiny_tokenizer(length=16):
    """One token for cat and dog; one per letter for other words."""
    vocabulary = {token: number for number, token in enumerate(WORDS)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=length)


def tiny_pipeline(length=16, seed=0, **options):
    """Pictures of 32 x 32 from latents of 16 x 16, with cross-attention at strides 1, 2 and 4."""
    torch.manual_seed(seed)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    unet = diffusers.UNet2DConditionModel(
        sample_size=16,
        layers_per_block=1,
        block_out_channels=(8, 8, 8),
        attention_head_dim=2,
        cross_attention_dim=12,
        norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )
    with torch.no_grad():  # at random, attention is all but uniform
        for path, layer in unet.named_modules():
            if path.endswith(("attn2.to_q", "attn2.to_k")):
                layer.weight.mul_(4)
    config = transformers.CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=12, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=length, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return diffusers.StableDiffusionPipeline(
        vae=vae.eval(),
        unet=unet.eval(),
        text_encoder=transformers.CLIPTextModel(config).eval(),
        tokenizer=tiny_tokenizer(length),
        scheduler=scheduler,
        **parts | options,
    )
