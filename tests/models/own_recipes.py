"""How checkpoints are made of types whose folders hold more than a generic tokenizer: the library's own tokenizer, processor and settings.

Encoder-decoders, and models that mark the image by an input beside the ids (Kosmos).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.engine import configs
from tests.engine.every_type import WIDTH, configuration
from tests.models import own_tokenizers
from tests.models.recipes import IMAGE_SIZE, PATCH, SQUARE, Recipe

_TEXT = {
    "vocab_size": configs.VOCABULARY, "d_model": WIDTH, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 48,
    "max_position_embeddings": 64, "pad_token_id": configs.PAD, "bos_token_id": configs.BOS, "eos_token_id": configs.EOS,
}  # fmt: skip
_BLIP = "blip.image_processing_pil_blip:BlipImageProcessorPil"
_CLIP = "clip.image_processing_pil_clip:CLIPImageProcessorPil"
_DONUT_TOKENS = {f"<{mark}>": 110 + index for index, mark in enumerate(("s_docvqa", "s_question", "/s_question", "s_answer"))}


def _small(name: str, **more: Any) -> Callable[[], Any]:
    return lambda: configuration(name, **more)


def _florence2() -> Any:
    """Its vision tower is given list by list, a value for each stage."""
    stages = {
        "depths": [1, 1], "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1], "patch_prenorm": [False, True],
        "embed_dim": [32, WIDTH], "num_heads": [4, 4], "num_groups": [4, 4], "window_size": 4, "projection_dim": WIDTH,
    }  # fmt: skip
    config = configuration("florence2", **{f"vision_config__{name}": value for name, value in stages.items()})
    config.text_config.decoder_start_token_id = configs.EOS
    return config


def _trocr() -> Any:
    """A ViT beside a decoder that begins with the end of a text."""
    from transformers import TrOCRConfig, VisionEncoderDecoderConfig, ViTConfig

    encoder = ViTConfig(
        hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=PATCH
    )
    decoder = TrOCRConfig(**_TEXT, cross_attention_hidden_size=WIDTH, decoder_start_token_id=configs.EOS)
    return VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)


def _donut() -> Any:
    """A Swin beside mBART's decoder."""
    from transformers import DonutSwinConfig, MBartConfig, VisionEncoderDecoderConfig

    encoder = DonutSwinConfig(image_size=32, patch_size=4, embed_dim=32, depths=[1, 1], num_heads=[2, 4], window_size=4)
    decoder = MBartConfig(**_TEXT, is_decoder=True, add_cross_attention=True, add_final_layer_norm=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id = decoder.decoder_start_token_id = _DONUT_TOKENS["<s_docvqa>"]
    return config


def _blip_questions() -> Any:
    """Its decoder begins with `[DEC]`, and ends with the separator."""
    return configuration("blip", text_config__sep_token_id=2)


_PIX2STRUCT = {
    "patch_size": {"height": PATCH, "width": PATCH}, "max_patches": 16,
}  # fmt: skip

OWN: dict[str, Recipe] = {
    "florence2": Recipe(
        "Florence2ForConditionalGeneration", _florence2, _CLIP,
        {"size": SQUARE, "do_center_crop": False, "crop_size": SQUARE, "image_seq_length": 17}, "Florence2Processor", placeholder=None,
        own_tokenizer=own_tokenizers.bart, generation={"forced_bos_token_id": configs.BOS, "num_beams": 3, "no_repeat_ngram_size": 3},
    ),
    "blip_questions": Recipe(
        "BlipForQuestionAnswering", _blip_questions, _BLIP, {"size": SQUARE}, "BlipProcessor", tokens={}, placeholder=None,
        own_tokenizer=own_tokenizers.bert,
    ),
    "udop": Recipe(
        "UdopForConditionalGeneration", _small("udop", image_size=IMAGE_SIZE),
        "layoutlmv3.image_processing_pil_layoutlmv3:LayoutLMv3ImageProcessorPil", {"size": SQUARE, "apply_ocr": False}, "UdopProcessor",
        tokens={}, placeholder=None, own_tokenizer=own_tokenizers.udop, generation={"decoder_start_token_id": configs.PAD},
    ),
    "trocr": Recipe(
        "VisionEncoderDecoderModel", _trocr, "vit.image_processing_pil_vit:ViTImageProcessorPil", {"size": SQUARE}, "TrOCRProcessor",
        placeholder=None, tokens={}, own_tokenizer=own_tokenizers.bart,
    ),
    "donut": Recipe(
        "VisionEncoderDecoderModel", _donut, "donut.image_processing_pil_donut:DonutImageProcessorPil", {"size": SQUARE},
        "DonutProcessor", placeholder=None, tokens=_DONUT_TOKENS,
    ),
    "kosmos-2": Recipe(
        "Kosmos2ForConditionalGeneration", _small("kosmos-2", text_config__vocab_size=160, latent_query_num=64), _CLIP,
        {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": SQUARE}, "Kosmos2Processor", {"num_patch_index_tokens": 4}, tokens={},
        placeholder=None,
    ),
    "kosmos-2.5": Recipe(
        "Kosmos2_5ForConditionalGeneration",
        _small("kosmos-2.5", vision_config__patch_embed_hidden_size=3 * PATCH * PATCH, text_config__layers=2, latent_query_num=4),
        "kosmos2_5.image_processing_pil_kosmos2_5:Kosmos2_5ImageProcessorPil", _PIX2STRUCT, "Kosmos2_5Processor", {"num_image_tokens": 4},
        {"<image>": 104, "</image>": 105, "<img>": 100}, None,
        {"boi_token": "<image>", "eoi_token": "</image>", "image_token": "<img>"},
    ),
}  # fmt: skip
# As PIXTRAL and BY_TORCHVISION: its image processor is torchvision's.
OWN_BY_TORCHVISION: dict[str, Recipe] = {
    "pp_formulanet": Recipe(
        "PPFormulaNetForConditionalGeneration", _small("pp_formulanet"),
        "pp_formulanet.image_processing_pp_formulanet:PPFormulaNetImageProcessor", {"size": SQUARE}, "PPFormulaNetProcessor", tokens={},
        placeholder=None, own_tokenizer=own_tokenizers.nougat,
    ),
}  # fmt: skip
