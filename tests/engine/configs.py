"""The smallest configuration of each family that still has what makes the family special: four layers, four heads, few positions.

Grouped queries, sliding windows shorter than the prompt, multimodal rotations, deep visual features and cross-attention layers are
all switched on where the family has them.
"""

from __future__ import annotations

from typing import Any

import transformers

VOCABULARY, PAD, BOS, EOS = 128, 0, 1, 2
IMAGE, VIDEO, VISION_START, VISION_END, BOI, EOI = 100, 101, 102, 103, 104, 105
LAYERS, HEADS, WIDTH = 4, 4, 32
# Head widths that are not width / heads.
HEAD_DIMS = {"paligemma": 16, "paligemma2": 16, "gemma3": 16, "pixtral_llava": 16, "mistral3": 16}

T5_HEAD_DIM = 8
# The one layer of Qwen3.5 that has attention here.
STATE_ATTENTION = 2

Config = dict[str, Any]


def text(model_type: str = "llama", **more: Any) -> Config:
    """A decoder of four layers with two key and value heads."""
    return {
        "model_type": model_type, "vocab_size": VOCABULARY, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": 2, "max_position_embeddings": 512,
        "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, **more,
    }  # fmt: skip


def _vision(model_type: str | None = None, **more: Any) -> Config:
    kind = {} if model_type is None else {"model_type": model_type}
    return {
        **kind, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
        "patch_size": 8, **more,
    }  # fmt: skip


def _clip() -> Config:
    return _vision("clip_vision_model", num_hidden_layers=3, projection_dim=WIDTH)


def _siglip() -> Config:
    return _vision("siglip_vision_model", vision_use_head=False)


def _pixtral() -> Config:
    return _vision("pixtral", head_dim=8)


def _mistral() -> Config:
    return text("mistral", head_dim=16, sliding_window=None)


def _alternating() -> Config:
    return {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * (LAYERS // 2)}


def llava() -> Any:
    return transformers.LlavaConfig(
        text_config=text(), vision_config=_clip(), image_token_index=IMAGE, image_seq_length=16, vision_feature_layer=-2
    )


def vipllava() -> Any:
    return transformers.VipLlavaConfig(
        text_config=text(), vision_config=_clip(), image_token_index=IMAGE, image_seq_length=16, vision_feature_layer=[-2, -1]
    )


def llava_next() -> Any:
    # 16 positions of the whole image, then 4 × 8 of two crops with a mark at the end of each row.
    return transformers.LlavaNextConfig(
        text_config=text(), vision_config=_clip(), image_token_index=IMAGE, image_grid_pinpoints=[[32, 64], [64, 32]]
    )


def llava_onevision() -> Any:
    return transformers.LlavaOnevisionConfig(
        text_config=text("qwen2"), vision_config=_siglip(), image_token_index=IMAGE, video_token_index=VIDEO,
        image_grid_pinpoints=[[32, 64], [64, 32]],
    )  # fmt: skip


def pixtral_llava() -> Any:
    return transformers.LlavaConfig(
        text_config=_mistral(), vision_config=_pixtral(), image_token_index=IMAGE, vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )  # fmt: skip


def mistral3() -> Any:
    return transformers.Mistral3Config(text_config=_mistral(), vision_config=_pixtral(), image_token_index=IMAGE, spatial_merge_size=2)


def internvl() -> Any:
    return transformers.InternVLConfig(
        text_config=text("qwen2"), vision_config=_vision(image_size=[32, 32], patch_size=[8, 8]), image_token_id=IMAGE,
        image_seq_length=4, downsample_ratio=0.5,
    )  # fmt: skip


def aya_vision() -> Any:
    # Attention and MLP read the same input; the language model's logit scale is not applied inside this family.
    return transformers.AyaVisionConfig(
        text_config=text("cohere2", head_dim=8, logit_scale=0.25, **_alternating()), vision_config=_siglip(), image_token_index=IMAGE,
        downsample_factor=2,
    )  # fmt: skip


def idefics3() -> Any:
    return transformers.Idefics3Config(text_config=text(), vision_config=_vision(), image_token_id=IMAGE, scale_factor=2)


def smolvlm() -> Any:
    return transformers.SmolVLMConfig(text_config=text(), vision_config=_vision(), image_token_id=IMAGE, scale_factor=2)


def _with_qformer(text_config: Config) -> Config:
    qformer = {
        "vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 64, "cross_attention_frequency": 1, "encoder_hidden_size": WIDTH,
    }  # fmt: skip
    return {
        "text_config": text_config, "vision_config": _vision(), "qformer_config": qformer, "num_query_tokens": 8,
        "image_token_index": IMAGE,
    }  # fmt: skip


def t5(tied: bool = False) -> Config:
    """A T5 whose encoder has four layers and whose decoder has three; tied embeddings scale what is unembedded."""
    return {
        "model_type": "t5", "vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": T5_HEAD_DIM, "d_ff": 48, "num_layers": LAYERS,
        "num_decoder_layers": 3, "num_heads": HEADS, "pad_token_id": PAD, "eos_token_id": BOS, "decoder_start_token_id": PAD,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": tied,
    }  # fmt: skip


def instructblip_llama() -> Any:
    return transformers.InstructBlipConfig(**_with_qformer(text(num_key_value_heads=HEADS)))


def instructblip_t5() -> Any:
    return transformers.InstructBlipConfig(**_with_qformer(t5(tied=True)))


def blip2_opt() -> Any:
    opt = {
        "model_type": "opt", "vocab_size": VOCABULARY, "hidden_size": WIDTH, "word_embed_proj_dim": WIDTH, "ffn_dim": 48,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "max_position_embeddings": 256, "pad_token_id": PAD,
        "bos_token_id": BOS, "eos_token_id": EOS,
    }  # fmt: skip
    return transformers.Blip2Config(**_with_qformer(opt))


def blip2_t5() -> Any:
    return transformers.Blip2Config(**_with_qformer(t5()))


_QWEN_TOKENS: Config = {
    "image_token_id": IMAGE, "video_token_id": VIDEO, "vision_start_token_id": VISION_START, "vision_end_token_id": VISION_END
}  # fmt: skip


def _rotation(**more: Any) -> Config:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], **more}}


def qwen2_vl() -> Any:
    return transformers.Qwen2VLConfig(
        text_config=text("qwen2_vl_text", **_rotation()),
        vision_config={"depth": 2, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 4, "patch_size": 4, "mlp_ratio": 2},
        **_QWEN_TOKENS,
    )


def _qwen_vision(**more: Any) -> Config:
    return {"hidden_size": WIDTH, "out_hidden_size": WIDTH, "intermediate_size": 48, "num_heads": 4, "patch_size": 4, **more}


def qwen2_5_vl() -> Any:
    return transformers.Qwen2_5_VLConfig(
        text_config=text("qwen2_5_vl_text", **_rotation()),
        vision_config=_qwen_vision(depth=2, window_size=16, fullatt_block_indexes=[1]),
        **_QWEN_TOKENS,
    )


def qwen3_vl() -> Any:
    # Features of two vision layers are added between the first decoder layers.
    return transformers.Qwen3VLConfig(
        text_config=text("qwen3_vl_text", head_dim=8, **_rotation(mrope_interleaved=True)),
        vision_config=_qwen_vision(depth=3, num_position_embeddings=64, deepstack_visual_indexes=[0, 1]),
        **_QWEN_TOKENS,
    )


def qwen3_5() -> Any:
    # Gated delta nets, which carry a state, before, between and behind attention.
    return transformers.Qwen3_5Config(
        text_config=text(
            "qwen3_5_text", head_dim=8, rope_parameters={**_rotation()["rope_parameters"], "partial_rotary_factor": 1.0},
            layer_types=["full_attention" if layer == STATE_ATTENTION else "linear_attention" for layer in range(LAYERS)],
            linear_num_key_heads=2, linear_num_value_heads=HEADS, linear_key_head_dim=8, linear_value_head_dim=8,
        ),
        vision_config=_qwen_vision(depth=2, num_position_embeddings=64),
        **_QWEN_TOKENS,
    )  # fmt: skip


def paligemma() -> Any:
    return _paligemma(text("gemma", head_dim=16))


def paligemma2() -> Any:
    return _paligemma(text("gemma2", head_dim=16, sliding_window=8, query_pre_attn_scalar=16))


def _paligemma(text_config: Config) -> Any:
    return transformers.PaliGemmaConfig(
        text_config=text_config, vision_config=_siglip(), image_token_index=IMAGE, projection_dim=WIDTH, hidden_size=WIDTH,
        vocab_size=VOCABULARY,
    )  # fmt: skip


def gemma3() -> Any:
    text_config = text("gemma3_text", head_dim=16, query_pre_attn_scalar=16, final_logit_softcapping=None, **_alternating())
    return transformers.Gemma3Config(
        text_config=text_config, vision_config=_siglip(), mm_tokens_per_image=4, image_token_index=IMAGE, boi_token_index=BOI,
        eoi_token_index=EOI,
    )  # fmt: skip


def mllama() -> Any:
    vision = {
        "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4,
        "image_size": 32, "patch_size": 8, "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]],
        "intermediate_layers_indices": [0], "vision_output_dim": 2 * WIDTH,
    }  # fmt: skip
    return transformers.MllamaConfig(
        text_config=text("mllama_text_model", cross_attention_layers=[1, 3]), vision_config=vision, image_token_index=IMAGE
    )
