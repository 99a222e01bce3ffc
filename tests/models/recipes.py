"""How checkpoints of further families are made: architectures of `tests.engine.every_type`, processors of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.engine import configs
from tests.engine.every_type import WIDTH, configuration

IMAGE_SIZE, PATCH = 32, 8
SQUARE = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}


@dataclass(frozen=True)
class Recipe:
    """How a family's checkpoint is made: architecture, image processor (`module:class`), processor, and the tokens of its images.

    `placeholder` is what stands for the image in a chat. `named` are the tokenizer's named image tokens. `in_bytes`: the library gives the
    type a byte-level tokenizer whatever its files say. `own_tokenizer` makes one of the family's own class from words and tokens,
    `generation` is what the folder's generation_config.json says besides. A processor class that wants torchvision (for videos) is not
    built: its files are written as the library writes them.
    """

    model: str
    config: Callable[[], Any]
    image_processor: str
    image_options: Mapping[str, Any]
    processor: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=lambda: {"<image>": 100})
    placeholder: str | None = "<image>"
    named: Mapping[str, str] = field(default_factory=dict)
    layers: int = 2
    in_bytes: bool = False
    own_tokenizer: Callable[[Iterable[str], Mapping[str, int]], Any] | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)


def _small(name: str, **more: Any) -> Callable[[], Any]:
    return partial(configuration, name, **more)


def _of_glm(model: str, name: str, module: str, processor: str) -> Recipe:
    image_class = {"glm4v": "Glm4vImageProcessorPil", "glm46v": "Glm46VImageProcessorPil"}[module]
    return Recipe(
        model, _small(name), f"{module}.image_processing_pil_{module}:{image_class}", _FINER, processor, {},
        {"<|image|>": 100, "<|video|>": 101, "<|begin_of_image|>": 102, "<|end_of_image|>": 103, "<|begin_of_video|>": 104,
         "<|end_of_video|>": 105},
        "<|begin_of_image|><|image|><|end_of_image|>",
    )  # fmt: skip


_QWEN = "qwen2_vl.image_processing_pil_qwen2_vl:Qwen2VLImageProcessorPil"
_GRID = {"patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2, "size": {"shortest_edge": 256, "longest_edge": 2048}}
# GLM counts the frames of a video in, so an image has half of it.
_FINER = {**_GRID, "size": {"shortest_edge": 256, "longest_edge": 8192}}
_QWEN_TOKENS: dict[str, Any] = {
    "tokens": {"<|image_pad|>": 100, "<|video_pad|>": 101, "<|vision_start|>": 102, "<|vision_end|>": 103},
    "placeholder": "<|vision_start|><|image_pad|><|vision_end|>",
}
_CLIP = "clip.image_processing_pil_clip:CLIPImageProcessorPil"
_CLIP_PIXELS = {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": SQUARE}
_LLAVA_NEXT = "llava_next.image_processing_pil_llava_next:LlavaNextImageProcessorPil"
_PINPOINTS = [[32, 64], [64, 32]]
_CROPS = {**_CLIP_PIXELS, "image_grid_pinpoints": _PINPOINTS}
_OF_LLAVA = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
# Without one in its configuration Gemma 4 has no tower.
_GEMMA4_TOWER = {
    "model_type": "gemma4_vision", "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 4, "head_dim": 16, "patch_size": PATCH,
}  # fmt: skip

FURTHER: dict[str, Recipe] = {
    "qwen3_5": Recipe(
        "Qwen3_5ForConditionalGeneration", configs.qwen3_5, _QWEN, {**_GRID, "patch_size": 4},
        "Qwen3VLProcessor", layers=4, in_bytes=True, **_QWEN_TOKENS,
    ),
    "qwen3_5_moe": Recipe(
        "Qwen3_5MoeForConditionalGeneration", _small("qwen3_5_moe"), _QWEN, _GRID, "Qwen3VLProcessor", in_bytes=True, **_QWEN_TOKENS
    ),
    "qwen3_vl_moe": Recipe("Qwen3VLMoeForConditionalGeneration", _small("qwen3_vl_moe"), _QWEN, _GRID, "Qwen3VLProcessor", **_QWEN_TOKENS),
    "qwen4_exp": Recipe(
        "Qwen4ExpForConditionalGeneration", _small("qwen4_exp"), _QWEN, _GRID, "Qwen3VLProcessor", in_bytes=True, **_QWEN_TOKENS
    ),
    "exaone4_5": Recipe("Exaone4_5_ForConditionalGeneration", _small("exaone4_5"), _QWEN, _GRID, "Exaone4_5_Processor", **_QWEN_TOKENS),
    "lfm3_vl": Recipe("Lfm3VlForConditionalGeneration", _small("lfm3_vl"), _QWEN, _GRID, "Lfm3VlProcessor", **_QWEN_TOKENS),
    "video_llama_3": Recipe(
        "VideoLlama3ForConditionalGeneration", _small("video_llama_3"),
        "video_llama_3.image_processing_pil_video_llama_3:VideoLlama3ImageProcessorPil",
        {**_GRID, "temporal_patch_size": 1, "merge_size": 1}, "VideoLlama3Processor", **_QWEN_TOKENS,
    ),
    "glm4v": _of_glm("Glm4vForConditionalGeneration", "glm4v", "glm4v", "Glm4vProcessor"),
    "glm4v_moe": _of_glm("Glm4vMoeForConditionalGeneration", "glm4v_moe", "glm4v", "Glm4vProcessor"),
    "glm46v": _of_glm("Glm46VForConditionalGeneration", "glm46v", "glm46v", "Glm46VProcessor"),
    "paligemma2": Recipe(
        "PaliGemmaForConditionalGeneration", configs.paligemma2, "siglip.image_processing_pil_siglip:SiglipImageProcessorPil",
        {"size": SQUARE, "image_seq_length": 16}, "PaliGemmaProcessor",
    ),
    "idefics2": Recipe(
        "Idefics2ForConditionalGeneration", _small("idefics2", perceiver_config__resampler_n_latents=4),
        "idefics2.image_processing_pil_idefics2:Idefics2ImageProcessorPil", {"size": {"shortest_edge": 32, "longest_edge": 32}},
        "Idefics2Processor", {"image_seq_len": 4}, {"<image>": 100, "<fake_token_around_image>": 106, "<end_of_utterance>": 108},
    ),
    "deepseek_vl": Recipe(
        "DeepseekVLForConditionalGeneration", _small("deepseek_vl"),
        "deepseek_vl.image_processing_pil_deepseek_vl:DeepseekVLImageProcessorPil", {"size": SQUARE}, "DeepseekVLProcessor",
        {"num_image_tokens": 16}, {"<image_placeholder>": 100}, "<image_placeholder>", {"image_token": "<image_placeholder>"},
    ),
    "janus": Recipe(
        "JanusForConditionalGeneration", _small("janus", vision_config__projection_dim=64),
        "janus.image_processing_pil_janus:JanusImageProcessorPil", {"size": SQUARE}, "JanusProcessor",
        {"num_image_tokens": 16}, {"<image_placeholder>": 100, "<begin_of_image>": 104, "<end_of_image>": 105},
        "<image_placeholder>",
        {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"},
    ),
    "ovis2": Recipe(
        "Ovis2ForConditionalGeneration", _small("ovis2"), "ovis2.image_processing_pil_ovis2:Ovis2ImageProcessorPil",
        {"size": SQUARE, "crop_to_patches": False}, "Ovis2Processor", {"image_seq_length": 16},
        {"<image>": 106, "<IMG_ATOM>": 100, "<IMG_START>": 104, "<IMG_GRID>": 105, "<IMG_COL>": 107, "<IMG_ROW>": 108, "<IMG_END>": 109},
    ),
    "granite4_vision": Recipe(
        "Granite4VisionForConditionalGeneration", _small("granite4_vision", image_grid_pinpoints=_PINPOINTS), _LLAVA_NEXT, _CROPS,
        "Granite4VisionProcessor", {"patch_size": PATCH, "vision_feature_select_strategy": "full", "downsample_rate": "1/2"},
    ),
    "llava_next_video": Recipe(
        "LlavaNextVideoForConditionalGeneration", _small("llava_next_video", image_grid_pinpoints=_PINPOINTS), _LLAVA_NEXT, _CROPS,
        "LlavaNextVideoProcessor", _OF_LLAVA, {"<image>": 100, "<video>": 101},
    ),
    "video_llava": Recipe(
        "VideoLlavaForConditionalGeneration", _small("video_llava"), "video_llava.image_processing_video_llava:VideoLlavaImageProcessor",
        _CLIP_PIXELS, "VideoLlavaProcessor",
        _OF_LLAVA, {"<image>": 100, "<video>": 101},
    ),
    "qianfan_ocr": Recipe(
        "QianfanOCRForConditionalGeneration", _small("qianfan_ocr"), "got_ocr2.image_processing_pil_got_ocr2:GotOcr2ImageProcessorPil",
        {"size": SQUARE, "crop_to_patches": False}, "QianfanOCRProcessor", {"image_seq_length": 1},
        {"<IMG_CONTEXT>": 100, "<image>": 106, "<img>": 104, "</img>": 105}, "<image>",
        {"context_image_token": "<IMG_CONTEXT>", "start_image_token": "<img>", "end_image_token": "</img>"},
    ),
    "paddleocr_vl": Recipe(
        "PaddleOCRVLForConditionalGeneration", _small("paddleocr_vl"),
        "paddleocr_vl.image_processing_pil_paddleocr_vl:PaddleOCRVLImageProcessorPil", {**_GRID, "temporal_patch_size": 1},
        "PaddleOCRVLProcessor", {}, {"<|IMAGE_PLACEHOLDER|>": 100, "<|IMAGE_START|>": 102, "<|IMAGE_END|>": 103},
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>", {"image_token": "<|IMAGE_PLACEHOLDER|>"},
    ),
    "hunyuan_vl": Recipe(
        "HunYuanVLForConditionalGeneration", _small("hunyuan_vl"), "hunyuan_vl.image_processing_pil_hunyuan_vl:HunYuanVLImageProcessorPil",
        {**_GRID, "temporal_patch_size": 1}, "HunYuanVLProcessor", {}, {"<img>": 100, "<bimg>": 104, "<eimg>": 105, "<nimg>": 106},
        "<bimg><img><eimg>", {"image_token": "<img>", "image_start_token": "<bimg>", "image_end_token": "<eimg>"},
    ),
    "t5gemma2": Recipe(
        "T5Gemma2ForConditionalGeneration", _small("t5gemma2"), "gemma3.image_processing_pil_gemma3:Gemma3ImageProcessorPil",
        {"size": SQUARE}, "Gemma3Processor", {"image_seq_length": 4},
        {"<image_soft_token>": 100, "<start_of_image>": 104, "<end_of_image>": 105}, "<start_of_image>",
        {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"},
    ),
    "blip": Recipe(
        "BlipForConditionalGeneration", _small("blip"), "blip.image_processing_pil_blip:BlipImageProcessorPil", {"size": SQUARE},
        "BlipProcessor", placeholder=None,
    ),
    "pix2struct": Recipe(
        "Pix2StructForConditionalGeneration", _small("pix2struct", vision_config__seq_len=64, vision_config__num_hidden_layers=1),
        "pix2struct.image_processing_pil_pix2struct:Pix2StructImageProcessorPil",
        {"patch_size": SQUARE | {"height": PATCH, "width": PATCH}, "max_patches": 16}, "Pix2StructProcessor", placeholder=None,
    ),
    "vision-encoder-decoder": Recipe(
        "VisionEncoderDecoderModel", _small("vision-encoder-decoder"), "vit.image_processing_pil_vit:ViTImageProcessorPil",
        {"size": SQUARE}, "TrOCRProcessor", placeholder=None, layers=4,
    ),
    "git": Recipe("GitForCausalLM", _small("git"), _CLIP, _CLIP_PIXELS, "GitProcessor", placeholder=None),
    "gemma4": Recipe(
        "Gemma4ForConditionalGeneration", _small("gemma4", vision_config=_GEMMA4_TOWER),
        "gemma4.image_processing_pil_gemma4:Gemma4ImageProcessorPil",
        {"patch_size": PATCH, "max_soft_tokens": 70}, "Gemma4Processor", {},
        {"<image>": 100, "<|video|>": 101, "<boi>": 104, "<eoi>": 105, "<audio>": 106, "<boa>": 107, "<eoa>": 108}, "<image>",
        {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "audio_token": "<audio>", "boa_token": "<boa>",
         "eoa_token": "<eoa>"},
    ),
}  # fmt: skip

# Their processors need torchvision, their image processors do not.
PIXTRAL = ("pixtral_llava", "mistral3")
# Their image processors are torchvision's alone: these are built and run by `make test-torchvision`.
BY_TORCHVISION: dict[str, Recipe] = {
    "llama4": Recipe(
        "Llama4ForConditionalGeneration",
        _small("llama4", vision_config__intermediate_size=4 * WIDTH, **{
            f"vision_config__{name}": WIDTH for name in ("projector_input_dim", "projector_output_dim", "vision_output_dim")
        }),
        "llama4.image_processing_llama4:Llama4ImageProcessor", {"size": SQUARE, "max_patches": 4}, "Llama4Processor", {"patch_size": PATCH},
        {"<|patch|>": 100, "<|image|>": 106, "<|image_start|>": 104, "<|image_end|>": 105, "<|tile_x_separator|>": 107,
         "<|tile_y_separator|>": 108}, "<|image|>",
    ),
    "cohere2_vision": Recipe(
        "Cohere2VisionForConditionalGeneration", _small("cohere2_vision", alignment_intermediate_size=64, vision_config__patch_size=4),
        "cohere2_vision.image_processing_cohere2_vision:Cohere2VisionImageProcessor",
        {"size": SQUARE, "max_patches": 4, "patch_size": 4}, "Cohere2VisionProcessor", {},
        {"<image>": 100, "<boi>": 104, "<eoi>": 105, "<break>": 106}, "<image>",
        {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>", "img_line_break_token": "<break>"},
    ),
    "lfm2_vl": Recipe(
        "Lfm2VlForConditionalGeneration", _small("lfm2_vl", projector_hidden_size=64),
        "lfm2_vl.image_processing_lfm2_vl:Lfm2VlImageProcessor",
        {"encoder_patch_size": PATCH, "tile_size": IMAGE_SIZE, "min_image_tokens": 2, "max_image_tokens": 8, "max_tiles": 4},
        "Lfm2VlProcessor", {},
        {"<image>": 100, "<|image_start|>": 104, "<|image_end|>": 105, "<|img_thumbnail|>": 106,
         **{f"<|img_row_{row}_col_{column}|>": 106 + 4 * (row - 1) + column for row in (1, 2, 3, 4) for column in (1, 2, 3, 4)}},
    ),
}  # fmt: skip
