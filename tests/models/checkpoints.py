"""Tiny checkpoints of every family in the real on-disk layout: `save_pretrained` of model and processor, built locally, no download.

Architectures are those of `tests.engine.configs` with two layers; the vocabulary holds the words of the scenes world's colour questions
and the family's own image tokens at the ids that the configurations name.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from tests.engine import configs
from vseam_plugins.models.processors import without_videos

from .builders import randomise
from .own_recipes import OWN, OWN_BY_TORCHVISION
from .recipes import BY_TORCHVISION, FURTHER, IMAGE_SIZE, PATCH, SQUARE, Recipe

WORDS = (
    *("Is", "the", "?", "Yes", "No", "yes", "no", "Question", ":", "USER", "ASSISTANT", "Answer", "Please", "answer", "with", "a"),
    *("single", "word", "using", ".", "user", "assistant", "bird", "blue", "boat", "bus", "car", "cat", "chair", "clock", "cup", "dog"),
    *("fish", "green", "lamp", "orange", "plane", "purple", "red", "yellow"),
)
SPECIAL = {"<pad>": configs.PAD, "<s>": configs.BOS, "</s>": configs.EOS, "<unk>": 3}
_SQUARE = SQUARE
_PINPOINTS = [[32, 64], [64, 32]]
_ROWS = {f"<row_{row}_col_{column}>": 109 + 3 * (row - 1) + column - 1 for row in (1, 2, 3) for column in (1, 2, 3)}
_IDEFICS_TOKENS = {"<image>": 100, "<fake_token_around_image>": 106, "<global-img>": 107, "<end_of_utterance>": 108, **_ROWS}
_PIXTRAL_TOKENS = {"[IMG]": 100, "[IMG_BREAK]": 106, "[IMG_END]": 107}
_QWEN_TOKENS = {"<|image_pad|>": 100, "<|video_pad|>": 101, "<|vision_start|>": 102, "<|vision_end|>": 103}
_INTERNVL_TOKENS = {"<IMG_CONTEXT>": 100, "<video>": 101, "<img>": 104, "</img>": 105}
_AYA_TILES = {f"TILE_{index}": 108 + index for index in (1, 2, 3, 4, 5, 6)}
_AYA_TOKENS = {"<|IMG_PATCH|>": 100, "<|START_OF_IMG|>": 104, "<|END_OF_IMG|>": 105, "<image>": 106, "TILE_GLOBAL": 107, **_AYA_TILES}


def _clip(**more: Any) -> dict[str, Any]:
    return {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": _SQUARE, **more}


_CLIP = "clip.image_processing_pil_clip:CLIPImageProcessorPil"
_SIGLIP = "siglip.image_processing_pil_siglip:SiglipImageProcessorPil"
_BLIP = "blip.image_processing_pil_blip:BlipImageProcessorPil"
_TILED = "got_ocr2.image_processing_pil_got_ocr2:GotOcr2ImageProcessorPil"
_QWEN = "qwen2_vl.image_processing_pil_qwen2_vl:Qwen2VLImageProcessorPil"
_PIXTRAL = "pixtral.image_processing_pil_pixtral:PixtralImageProcessorPil"
_LLAVA_OPTIONS = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
_QWEN_PIXELS = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2, "size": {"shortest_edge": 256, "longest_edge": 1024}}
_PIXTRAL_PIXELS = {"size": {"longest_edge": IMAGE_SIZE}, "patch_size": {"height": PATCH, "width": PATCH}}
_TILES = {"size": _SQUARE, "crop_to_patches": True, "min_patches": 1, "max_patches": 4}
_CROPS = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": IMAGE_SIZE}}
_QWEN_NAMED: dict[str, Any] = {"tokens": _QWEN_TOKENS, "placeholder": "<|vision_start|><|image_pad|><|vision_end|>"}

RECIPES: dict[str, Recipe] = {
    "llava": Recipe("LlavaForConditionalGeneration", configs.llava, _CLIP, _clip(), "LlavaProcessor", _LLAVA_OPTIONS),
    "vipllava": Recipe("VipLlavaForConditionalGeneration", configs.vipllava, _CLIP, _clip(), "LlavaProcessor", _LLAVA_OPTIONS),
    "llava_next": Recipe(
        "LlavaNextForConditionalGeneration", configs.llava_next, "llava_next.image_processing_pil_llava_next:LlavaNextImageProcessorPil",
        _clip(image_grid_pinpoints=_PINPOINTS), "LlavaNextProcessor", _LLAVA_OPTIONS,
    ),
    "llava_onevision": Recipe(
        "LlavaOnevisionForConditionalGeneration", configs.llava_onevision,
        "llava_onevision.image_processing_pil_llava_onevision:LlavaOnevisionImageProcessorPil",
        {"size": _SQUARE, "image_grid_pinpoints": _PINPOINTS}, "LlavaOnevisionProcessor",
        {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}, {"<image>": 100, "<video>": 101},
    ),
    "pixtral_llava": Recipe(
        "LlavaForConditionalGeneration", configs.pixtral_llava, _PIXTRAL, _PIXTRAL_PIXELS, "PixtralProcessor", {"patch_size": PATCH},
        _PIXTRAL_TOKENS, "[IMG]",
    ),
    "mistral3": Recipe(
        "Mistral3ForConditionalGeneration", configs.mistral3, _PIXTRAL, _PIXTRAL_PIXELS, "PixtralProcessor",
        {"patch_size": PATCH, "spatial_merge_size": 2}, _PIXTRAL_TOKENS, "[IMG]",
    ),
    "internvl": Recipe(
        "InternVLForConditionalGeneration", configs.internvl, _TILED, _TILES, "InternVLProcessor", {"image_seq_length": 4},
        _INTERNVL_TOKENS, "<IMG_CONTEXT>",
        {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>", "start_image_token": "<img>", "end_image_token": "</img>"},
    ),
    "aya_vision": Recipe(
        "AyaVisionForConditionalGeneration", configs.aya_vision, _TILED, _TILES, "AyaVisionProcessor",
        {"patch_size": PATCH, "img_size": IMAGE_SIZE, "downsample_factor": 2}, _AYA_TOKENS,
    ),
    "idefics3": Recipe(
        "Idefics3ForConditionalGeneration", configs.idefics3, "idefics3.image_processing_pil_idefics3:Idefics3ImageProcessorPil", _CROPS,
        "Idefics3Processor", {"image_seq_len": 4}, _IDEFICS_TOKENS,
    ),
    "smolvlm": Recipe(
        "SmolVLMForConditionalGeneration", configs.smolvlm, "smolvlm.image_processing_pil_smolvlm:SmolVLMImageProcessorPil", _CROPS,
        "SmolVLMProcessor", {"image_seq_len": 4}, _IDEFICS_TOKENS,
    ),
    "instructblip_llama": Recipe(
        "InstructBlipForConditionalGeneration", configs.instructblip_llama, _BLIP, {"size": _SQUARE}, "InstructBlipProcessor",
        {"num_query_tokens": 8}, placeholder=None,
    ),
    "instructblip_t5": Recipe(
        "InstructBlipForConditionalGeneration", configs.instructblip_t5, _BLIP, {"size": _SQUARE}, "InstructBlipProcessor",
        {"num_query_tokens": 8}, placeholder=None, layers=3,
    ),
    "blip2_opt": Recipe(
        "Blip2ForConditionalGeneration", configs.blip2_opt, _BLIP, {"size": _SQUARE}, "Blip2Processor", {"num_query_tokens": 8},
        placeholder=None,
    ),
    "blip2_t5": Recipe(
        "Blip2ForConditionalGeneration", configs.blip2_t5, _BLIP, {"size": _SQUARE}, "Blip2Processor", {"num_query_tokens": 8},
        placeholder=None, layers=3,
    ),
    "qwen2_vl": Recipe("Qwen2VLForConditionalGeneration", configs.qwen2_vl, _QWEN, _QWEN_PIXELS, "Qwen2VLProcessor", **_QWEN_NAMED),
    "qwen2_5_vl": Recipe(
        "Qwen2_5_VLForConditionalGeneration", configs.qwen2_5_vl, _QWEN, _QWEN_PIXELS, "Qwen2_5_VLProcessor", **_QWEN_NAMED
    ),
    "qwen3_vl": Recipe("Qwen3VLForConditionalGeneration", configs.qwen3_vl, _QWEN, _QWEN_PIXELS, "Qwen3VLProcessor", **_QWEN_NAMED),
    "paligemma": Recipe(
        "PaliGemmaForConditionalGeneration", configs.paligemma, _SIGLIP, {"size": _SQUARE, "image_seq_length": 16}, "PaliGemmaProcessor",
    ),
    "gemma3": Recipe(
        "Gemma3ForConditionalGeneration", configs.gemma3, "gemma3.image_processing_pil_gemma3:Gemma3ImageProcessorPil", {"size": _SQUARE},
        "Gemma3Processor", {"image_seq_length": 4}, {"<image_soft_token>": 100, "<start_of_image>": 104, "<end_of_image>": 105},
        "<start_of_image>", {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    ),
    "mllama": Recipe(
        "MllamaForConditionalGeneration", configs.mllama, "mllama.image_processing_pil_mllama:MllamaImageProcessorPil",
        {"size": _SQUARE, "max_image_tiles": 1}, "MllamaProcessor", {}, {"<|image|>": 100, "<|python_tag|>": 101}, "<|image|>", layers=4,
    ),
}  # fmt: skip


def build_checkpoint(family: str, folder: Path, seed: int = 0) -> Path:
    """Save a family's checkpoint with its processor into `folder`."""
    recipe = {**RECIPES, **FURTHER, **BY_TORCHVISION, **OWN, **OWN_BY_TORCHVISION}[family]
    logging.disable_progress_bar()
    with patch.object(configs, "LAYERS", recipe.layers):
        config = recipe.config()
    module = getattr(transformers, recipe.model)(config)
    randomise(module, seed)
    module.generation_config.update(eos_token_id=configs.EOS, **recipe.generation)
    module.save_pretrained(folder)
    _save_processor(recipe, folder)
    return folder


def _save_processor(recipe: Recipe, folder: Path) -> None:
    module, _, name = recipe.image_processor.partition(":")
    image_processor = getattr(importlib.import_module(f"transformers.models.{module}"), name)(**recipe.image_options)
    for key in ("image_seq_length",):
        if key in recipe.image_options:
            setattr(image_processor, key, recipe.image_options[key])
    extra = {} if recipe.placeholder is None else {"chat_template": _chat(recipe.placeholder)}
    if recipe.processor == "InstructBlipProcessor":
        extra["qformer_tokenizer"] = build_tokenizer(Recipe("", dict, "", {}, "", tokens={}))
    processor_class = getattr(transformers, recipe.processor)
    parts = processor_class.get_attributes()
    if "feature_extractor" in parts:
        extra["feature_extractor"] = getattr(transformers, recipe.processor.replace("Processor", "AudioFeatureExtractor"))()
    has_videos = "video_processor" in parts
    if has_videos:
        processor_class = without_videos(processor_class)
        extra["video_processor"] = None
    processor_class(image_processor=image_processor, tokenizer=_tokenizer(recipe), **recipe.options, **extra).save_pretrained(folder)
    if has_videos:
        # The library's own files name a processor for videos too.
        file = folder / "processor_config.json"
        settings = json.loads(file.read_text())
        own = recipe.processor.replace("Processor", "VideoProcessor")
        settings["video_processor"] = {"video_processor_type": own if hasattr(transformers, own) else "Qwen2VLVideoProcessor"}
        file.write_text(json.dumps(settings))


def _tokenizer(recipe: Recipe) -> Any:
    return build_tokenizer(recipe) if recipe.own_tokenizer is None else recipe.own_tokenizer(WORDS, recipe.tokens)


def build_tokenizer(recipe: Recipe) -> PreTrainedTokenizerFast:
    """One token for each word, or a token for each letter and for yes and no; the special tokens at their ids, the gaps filled."""
    merges = _merges() if recipe.in_bytes else []
    pieces = WORDS if not recipe.in_bytes else dict.fromkeys((*_letters(), *("".join(merge) for merge in merges)))
    words = {**SPECIAL, **{word: index for index, word in enumerate(pieces, len(SPECIAL))}, **recipe.tokens}
    assert len(set(words.values())) == len(words), "two tokens have one id"
    taken = set(words.values())
    words |= {f"<filler_{index}>": index for index in range(configs.VOCABULARY) if index not in taken}
    if recipe.in_bytes:
        tokenizer = Tokenizer(models.BPE(words, merges))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", configs.BOS)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (*SPECIAL, *recipe.tokens)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left",
        model_max_length=512, extra_special_tokens=dict(recipe.named),
    )  # fmt: skip


def _letters() -> list[str]:
    """Every letter of the words, with byte-level's signs for a space and a new line."""
    return ["Ġ", "Ċ", *dict.fromkeys("".join(WORDS))]


def _merges() -> list[tuple[str, str]]:
    """What makes yes and no one token each, at a text's beginning and behind a space, as in vocabularies that were learned."""
    merges: list[tuple[str, str]] = []
    for word in ("Yes", "No", "yes", "no"):
        merges += [*((word[:end], word[end]) for end in range(1, len(word))), ("Ġ", word)]
    return merges


def _chat(placeholder: str) -> str:
    return (
        "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}" + placeholder + "\n{% else %}{{ part['text'] }}\n{% endif %}{% endfor %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )
