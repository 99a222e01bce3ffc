"""A tiny random model of every image-text-to-text type that the installed library knows.

A type's own configuration class says what it has; `TEXT` and `VISION` say how small each of these things is here, and `SETTINGS` what a
type needs besides. A type that is new in the library and builds with these is covered without a change; one that does not fails
`test_every_type.py`, which prints the lines to add. Prompts are text, except where `pixels` says what a type cannot run without.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import ModelInfo
from vseam_plugins.models.library_faults import mend

TYPES: Mapping[str, str] = dict(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
LAYERS, WIDTH, HEADS, VOCABULARY = 4, 64, 4, 128

_COMMON: dict[str, Any] = {
    "hidden_size": WIDTH, "d_model": WIDTH, "width": WIDTH, "embed_dim": WIDTH, "out_hidden_size": WIDTH, "text_hidden_size": WIDTH,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "mlp_dim": 48, "intermediate_size_mlp": 48, "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32, "expert_intermediate_size": 32, "num_attention_heads": HEADS, "num_heads": HEADS,
    "attention_heads": HEADS, "head_dim": 16, "d_kv": 16, "num_experts": 4, "n_routed_experts": 4, "num_local_experts": 4,
    "moe_num_experts": 4, "num_experts_per_tok": 2, "moe_topk": 2, "moe_k": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
    "image_size": 32, "num_channels": 3, "hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": VOCABULARY,
    "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16, "q_lora_rank": 24, "kv_lora_rank": 24, "qk_head_dim": 24,
}  # fmt: skip
TEXT: dict[str, Any] = {
    **_COMMON, "vocab_size": VOCABULARY, "num_hidden_layers": LAYERS, "num_layers": LAYERS, "num_key_value_heads": 2,
    "num_attention_groups": 2, "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "sliding_window": 8, "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "image_token_id": 100, "image_token_index": 100,
    "video_token_id": 101, "video_token_index": 101, "vision_start_token_id": 102, "vision_end_token_id": 103, "boi_token_index": 104,
    "boi_token_id": 104, "eoi_token_index": 105, "eoi_token_id": 105, "audio_token_id": 106, "boa_token_id": 107, "eoa_token_id": 108,
    "eoa_token_index": 108, "linear_num_key_heads": 2, "linear_num_value_heads": HEADS, "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
}  # fmt: skip
VISION: dict[str, Any] = {
    **_COMMON, "num_hidden_layers": 2, "num_layers": 2, "depth": 2, "encoder_layers": 2, "num_key_value_heads": HEADS, "layers": 2,
    "patch_size": 8,
}  # fmt: skip
# Left out where a type has none: a value would switch something on.
_ONLY_WHERE_SET = {
    "sliding_window", "q_lora_rank", "num_local_experts", "num_experts", "moe_num_experts", "moe_topk", "n_routed_experts", "d_kv",
    "head_dim",
}  # fmt: skip
_OF_TEXT = ("decoder", "encoder", "vlm_config", "dit_config")


def _rotation(*sections: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(sections)}


def _sections(*sections: int) -> dict[str, Any]:
    return {"text_config.rope_parameters": _rotation(*sections)}


_PLAIN_ROTATION = {"rope_type": "default", "rope_theta": 10000.0}
_LATENT = {"text_config.num_key_value_heads": HEADS, "text_config.head_dim": 8}
_AUDIO = {
    "audio_config.encoder_attention_heads": 4, "audio_config.d_model": WIDTH, "audio_config.encoder_layers": 1,
    "audio_config.output_dim": WIDTH,
}  # fmt: skip
_VQ = {
    "vq_config.base_channels": 32, "vq_config.channel_multiplier": [1], "vq_config.num_res_blocks": 1, "vq_config.resolution": 32,
    "vq_config.embed_dim": 32, "vq_config.num_embeddings": 8, "vq_config.latent_channels": 32, "vq_config.attn_resolutions": [],
}  # fmt: skip
_LONG_SHORT = ["sliding_attention", "full_attention"] * (LAYERS // 2)

# What a type needs besides, by the place in its configuration. To add one: its name, and each setting that its error asks for.
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "paddleocr_vl"), _sections(2, 3, 3)),
    **{
        name: {**_sections(2, 3, 3), **_AUDIO, "vision_start_token_id": 102, "vision_end_token_id": 103}
        for name in ("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker")
    },
    **dict.fromkeys(("glm46v", "glm4v", "glm_ocr", "glmga", "cosmos3_edge"), _sections(4, 2, 2)),
    "glm4v_moe": _sections(2, 1, 1),
    "ernie4_5_vl_moe": _sections(2, 2, 4),
    "chameleon": {
        **_VQ,
        "vocabulary_map": {"<image>": 100, "IMGIMGBSZ": 9, "IMGIMGCSZ": 10, **{f"IMGIMG{c}Z": 110 + i for i, c in enumerate("DEFGHI")}},
    },
    "emu3": {**_VQ, "vocabulary_map": {"<image>": 100, "<|extra_200|>": 9, **{f"<|visual token {i:06d}|>": 110 + i for i in range(8)}}},
    "gemma4": {"text_config.layer_types": _LONG_SHORT},
    "gemma4_unified": {"text_config.layer_types": _LONG_SHORT},
    "kimi_k25": _LATENT,
    "gemma3n": {
        "text_config.layer_types": _LONG_SHORT,
        "text_config.num_kv_shared_layers": 2,
        "vision_config.architecture": "mobilenetv3_small_050",  # prompts are text: any tower of timm does
    },
    "perception_lm": {
        "vision_config.architecture": "vit_pe_core_tiny_patch16_384",
        "vision_config.model_args": {"embed_dim": WIDTH, "num_heads": HEADS, "depth": 2, "img_size": [32, 32], "global_pool": ""},
    },
    "mistral_large4": {"text_config.num_key_value_heads": HEADS},
    "mistral4": {
        "num_key_value_heads": HEADS,
        "head_dim": 8,
        "rope_parameters": {**_PLAIN_ROTATION, "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": 16},
    },
    "molmo2": {"adapter_config.vision_feature_layer": [1, 0]},
    "step3p7": {"text_config.sliding_window": 8},
    "llama4": {"text_config.floor_scale": 4, "text_config.attn_scale": 0.5, "text_config.no_rope_layers": [1, 0, 1, 0]},
    "granite4_vision": {"deepstack_layer_map": [[0, 0]], "spatial_target_layers": [0, 1, 2, 3], "downsample_rate": "1/2"},
    "cohere_compass": {
        "text_config.rope_parameters": {kind: _rotation(4, 2, 2) for kind in ("sliding_attention", "full_attention")},
    },
    "deepseek_ocr2": {"text_config.mlp_layer_types": ["dense", *["sparse"] * (LAYERS - 1)]},
    "inkling_mm_model": {
        "vision_config.num_hidden_layers": 2,
        "audio_config.n_mel_bins": 4,
        "text_config.swa_num_attention_heads": HEADS,
        "text_config.swa_num_key_value_heads": 2,
        "text_config.swa_head_dim": 16,
        "text_config.sliding_window_size": 8,
        "text_config.rel_extent": 64,
    },
    "nemotron_h_omni": {"vision_config.video_temporal_patch_size": 2, "text_config.mamba_num_heads": 8, "text_config.mamba_head_dim": 16},
    "dots3_note": {
        "text_config.num_key_value_heads": HEADS,
        "text_config.head_dim": 24,
        "text_config.index_topk": 4,
        "text_config.index_head_dim": 16,
        "text_config.index_n_heads": 2,
        "text_config.shared_experts_intermediate_size": 32,
        "text_config.mlp_layer_types": ["dense", *["sparse"] * (LAYERS - 1)],
        "vision_config.adapter_in_dim": WIDTH,
        "vision_config.adapter_out_dim": WIDTH,
        "vision_config.mlp_layer_types": ["dense", "sparse"],
        "vision_config.num_experts_per_tok": 2,
        "audio_config.adapter_input_size": WIDTH,
        "audio_config.adapter_out_dim": WIDTH,
        "audio_config.num_hidden_layers": 1,
        "audio_config.downsample_hidden_size": 8,
    },
    "glm5_next": {
        "text_config.num_key_value_heads": HEADS,
        "text_config.qk_rope_head_dim": 0,
        "text_config.head_dim": 16,
        "text_config.qk_head_dim": 16,
        "text_config.index_topk": 8,
        "text_config.index_head_dim": 16,
        "text_config.index_n_heads": 2,
        "text_config.index_kpool": 2,
        "text_config.linear_head_dim": 16,
        "text_config.linear_num_heads": HEADS,
        "text_config.layer_types": [*["linear_attention"] * (LAYERS - 1), "full_attention"],
        "vision_config.projection_intermediate_size": 48,
    },
    "hunyuan_vl": {
        "text_config.head_dim": 16,
        "text_config.rope_parameters": _rotation(2, 2, 2, 2),
        "vision_config.num_key_value_heads": HEADS,
        **{name: 104 + index for index, name in enumerate(("im_start_id", "im_end_id", "im_newline_id"))},
    },
    "muse_spark": {
        "text_config.moe_hidden_size": 32,
        "projector_hidden_size": WIDTH,
        "vision_config.pos_emb_height": 8,
        "vision_config.pos_emb_width": 8,
        "vision_config.max_position_embeddings": 64,
        "audio_config.num_hidden_layers": 4,
        "audio_config.patch_sizes": [2] * 4,
        "audio_config.hidden_sizes": [8] * 4,
        "audio_config.depths": [1] * 4,
        "audio_config.hidden_size": 8,
        "audio_config.out_hidden_size": WIDTH,
    },
    "qwen4_exp": {
        "text_config.indexer_n_heads": 2,
        "text_config.indexer_kv_heads": 1,
        "text_config.indexer_head_dim": 16,
        "text_config.indexer_budget": 4,
        "text_config.indexer_compress_ratio": 2,
        "text_config.hc_lowrank": 8,
    },
    "kosmos-2": {"text_config.layers": LAYERS, "text_config.embed_dim": WIDTH, "latent_query_num": 4},
    "udop": {"vocab_size": VOCABULARY, "num_layers": LAYERS, "num_decoder_layers": 2, "patch_size": 8},
    "instructblipvideo": {
        "num_query_tokens": 4,
        "video_token_index": 100,
        "qformer_config.encoder_hidden_size": WIDTH,
        "qformer_config.num_hidden_layers": 2,
        "qformer_config.vocab_size": VOCABULARY,
        "text_config.word_embed_proj_dim": WIDTH,
    },
    "pix2struct": {"text_config.num_layers": 2, "vision_config.patch_embed_hidden_size": 3 * 8 * 8, "vision_config.seq_len": 16},
    "pp_formulanet": {
        "vision_config.image_size": 32,
        "vision_config.window_size": 2,
        "vision_config.global_attn_indexes": [1],
        "vision_config.output_channels": 16,
        "vision_config.post_conv_in_channels": 16,
        "vision_config.post_conv_mid_channels": 16,
        "vision_config.post_conv_out_channels": WIDTH,
        "vision_config.decoder_hidden_size": WIDTH,
    },
    "t5gemma2": {
        "encoder.text_config.layer_types": _LONG_SHORT,
        "decoder.layer_types": _LONG_SHORT,
        "encoder.mm_tokens_per_image": 4,
        "encoder.image_token_index": 100,
        "image_token_index": 100,
    },
}
# Types that a newer release knows than the pinned one.
_NEWER: dict[str, dict[str, Any]] = {
    "hy_v4_vl": {"text_config.rope_parameters": _rotation(2, 1, 1)},
    "apertus1p5": {
        "audio_config.codebook_dim": WIDTH,
        "audio_config.codebook_size": 8,
        "vision_config.codebook_size": 8,
        "image_token_offset": 110,
        "audio_token_offset": 118,
    },
}
SETTINGS |= {name: settings for name, settings in _NEWER.items() if name in TYPES}
# Types that need a package or an input that is no image with a question; see the table in docs/families.md.
NOT_BUILT: dict[str, str] = {
    **({} if find_spec("timm") else dict.fromkeys(("fast_vlm", "gemma3n", "perception_lm"), "its vision tower needs the package timm")),
    "pi0": "reads a robot's state, writes actions",
    "evolla": "reads proteins",
    "diffusion_gemma": "writes over a random canvas: no two passes of it agree",
}


def configuration(name: str, **more: Any) -> Any:
    """The tiny configuration of a type; `more` are further settings, `__` for `.` in their names."""
    kind = CONFIG_MAPPING[name]
    if name == "vision-encoder-decoder":
        # It is made of two models, and has no configuration until it is told which.
        return _image_and_text()
    made = _shrunk(kind().to_dict(), TEXT)
    for path, value in {**SETTINGS.get(name, {}), **{key.replace("__", "."): value for key, value in more.items()}}.items():
        *way, last = path.split(".")
        place = made
        for step in way:
            place = place.setdefault(step, {})
        place[last] = value
    made.pop("model_type", None)
    return kind(**made)


def _shrunk(given: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a configuration that the table has a small value for, its inner configurations likewise."""
    small: dict[str, Any] = {"model_type": given["model_type"]}
    for key, value in given.items():
        if isinstance(value, dict) and "model_type" in value:
            small[key] = _shrunk(value, TEXT if "text" in key or key in _OF_TEXT else VISION)
        elif key in table and not isinstance(value, (list, tuple, dict)) and not (value is None and key in _ONLY_WHERE_SET):
            small[key] = table[key]
    return small


def build(name: str, attention: str | None = None, dtype: torch.dtype = torch.float32, seed: int = 0, **more: Any) -> Any:
    """A model of the type with large random weights: at the library's own initialisation mistakes do not show."""
    chosen: Any = getattr(transformers, TYPES[name])
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        # What is left as the library draws it (decays and time steps of a state) is the same each time.
        torch.manual_seed(seed)
        extra = {} if attention is None else {"attn_implementation": attention}
        module = chosen._from_config(configuration(name, **more), **extra).eval().to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter_name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(0.2 * noise)
            elif "norm" in parameter_name.lower() and parameter_name.endswith("weight"):
                parameter.add_(0.1 * noise)
            elif not parameter_name.endswith(("A_log", "dt_bias", ".D")):
                parameter.copy_(0.2 * noise)
    return mend(module).to(dtype)


class AnyTinyModel(VisionLanguageModel):
    """A tiny model of any type as an engine takes it. `encode` makes a prompt of the question's letters; the image seeds its noise."""

    def __init__(self, name: str, attention: str | None = None, dtype: torch.dtype = torch.float32, seed: int = 0, **more: Any):
        self.module: Any = build(name, attention, dtype, seed, **more)
        self.dtype = dtype
        text = self.module.config.get_text_config(decoder=True)
        used = str(getattr(text, "_attn_implementation", attention or ""))
        self.info = ModelInfo(f"tiny-{name}", name, "random", f"seed-{seed}", str(dtype), used, "cpu", LAYERS, HEADS, WIDTH // HEADS)
        self._pixels = PIXELS.get(name)

    def prompt(self, ids: Sequence[int]) -> EncodedPrompt:
        """A prompt of the given token ids, beside those that stand for the image."""
        ids = (*FIRST.get(self.info.family, ()), *ids, *BEHIND.get(self.info.family, ()))
        inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        if self._pixels is not None:
            inputs = {name: value for name, value in {**inputs, **self._pixels(inputs["input_ids"])}.items() if value is not None}
        classes = ("structural_before", *["question"] * (len(ids) - 2), "last")
        key = hashlib.sha256(repr((self.info.family, ids)).encode()).hexdigest()
        return EncodedPrompt(inputs, ids, tuple(map(str, ids)), classes, ("",) * len(ids), " ".join(map(str, ids)), key)

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        if len({len(prompt) for prompt in prompts}) > 1:
            raise ValueError("prompts of different length in one batch")
        batch = {}
        for name in prompts[0].inputs:
            joined = torch.cat([prompt.inputs[name] for prompt in prompts])
            batch[name] = joined.to(self.dtype) if joined.is_floating_point() else joined
        return batch

    def encode(self, image: Any, question: str, *rest: Any, **named: Any) -> EncodedPrompt:
        return self.prompt([1, *(3 + ord(letter) % 80 for letter in question)])

    def answer_ids(self, *arguments: Any) -> AnswerIds:
        raise NotImplementedError("these answers are written by hand")

    def answer_tokens(self, *arguments: Any) -> tuple[int, ...]:
        raise NotImplementedError("these answers are written by hand")

    def generate(self, *arguments: Any, **named: Any) -> list[str]:
        raise NotImplementedError("nothing is generated here")


def _image(ids: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(int(ids.sum())))


def _square(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": _image(ids, 3, 32, 32)}


def _one_of_several(ids: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"pixel_values": _image(ids, 1, 3, 32, 32), "image_attention_mask": torch.ones(*ids.shape, 1, dtype=torch.long)}


def _to_decoder(ids: torch.Tensor, **image: torch.Tensor) -> dict[str, Any]:
    """The prompt stands in the decoder; the encoder reads the image alone."""
    return {"input_ids": None, "attention_mask": None, "decoder_input_ids": ids, **image}


def _flattened(ids: torch.Tensor) -> dict[str, Any]:
    places = torch.tensor([[[row, column] for row in (1, 2) for column in (1, 2)]], dtype=torch.float32)
    patches = torch.cat([places, _image(ids, 4, 3 * 8 * 8)], -1)
    return {**_to_decoder(ids, flattened_patches=patches), "attention_mask": torch.ones(1, 4)}


def _beside_queries(ids: torch.Tensor) -> dict[str, Any]:
    return {**_square(ids), "image_embeds_position_mask": (ids == IMAGE_ID).long()}


def _in_front(ids: torch.Tensor) -> dict[str, Any]:
    """The model itself puts the positions of the image in front of the words."""
    words = ids[:, IN_FRONT:]
    return {**_square(ids), "input_ids": words, "attention_mask": torch.ones_like(words)}


def _page(ids: torch.Tensor) -> dict[str, Any]:
    """Words with places on a page. The model puts what is left of the image behind them: a position for each patch."""
    words = ids[:, :-PATCHES]
    places = torch.rand(*words.shape, 4, generator=torch.Generator().manual_seed(int(ids.sum())))
    boxes = torch.cat([places[..., :2] / 2, places[..., :2] / 2 + places[..., 2:] / 2], -1)
    inputs = {"input_ids": words, "attention_mask": torch.ones_like(words), "decoder_input_ids": torch.zeros(1, 1, dtype=torch.long)}
    return {**_square(ids), **inputs, "bbox": boxes}


def _frames(ids: torch.Tensor) -> dict[str, Any]:
    words = ids[ids != IMAGE_ID][None]
    return {"pixel_values": _image(ids, 2, 3, 32, 32), "qformer_input_ids": words, "qformer_attention_mask": torch.ones_like(words)}


IMAGE_ID = 100
PATCHES = (32 // 8) ** 2
IN_FRONT = PATCHES + 1
# Positions in front of a prompt and behind it that stand for the image, where a type does not run without.
FIRST: dict[str, tuple[int, ...]] = {
    "kosmos-2": (IMAGE_ID,) * 4, "instructblipvideo": (IMAGE_ID,) * 8, "git": (IMAGE_ID,) * IN_FRONT,
}  # fmt: skip
BEHIND: dict[str, tuple[int, ...]] = {"udop": (IMAGE_ID,) * PATCHES}
# What types cannot run without, besides ids; None leaves an input out.
PIXELS: dict[str, Callable[[torch.Tensor], dict[str, Any]]] = {
    "blip": _square,
    "git": _in_front,
    "idefics": _one_of_several,
    "kosmos-2": _beside_queries,
    "instructblipvideo": _frames,
    "pix2struct": _flattened,
    "pp_formulanet": lambda ids: _to_decoder(ids, **_square(ids)),
    "vision-encoder-decoder": lambda ids: _to_decoder(ids, **_square(ids)),
    "t5gemma2": lambda ids: {"decoder_input_ids": torch.ones(1, 1, dtype=torch.long)},
    "udop": _page,
}


def _image_and_text() -> Any:
    """A ViT beside a GPT-2 that attends to it."""
    from transformers import GPT2Config, ViTConfig

    tokens = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    decoder = GPT2Config(n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, n_positions=64, add_cross_attention=True, **tokens)
    vision = {name: VISION[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size")}
    encoder = ViTConfig(**vision, patch_size=8)
    return CONFIG_MAPPING["vision-encoder-decoder"].from_encoder_decoder_configs(encoder, decoder)
