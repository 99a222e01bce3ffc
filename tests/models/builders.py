"""Tiny checkpoints in the real on-disk layouts of LLaVA, InstructBLIP and Idefics3, built locally: no download, no training.

Weights are drawn again with a larger spread than the library's own: at its default of 0.02 a model hardly depends on its input,
and mistakes do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.utils import logging

TokenizerKind = Literal["words", "subwords"]
IMAGE_SIZE, PATCH_SIZE = 32, 8
GRID = IMAGE_SIZE // PATCH_SIZE
QUERY_TOKENS = 5
LAYERS, HEADS, WIDTH, INNER_WIDTH = 2, 4, 32, 48
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")
WORDS = (
    *("USER", ":", "ASSISTANT", "Question", "Please", "answer", "with", "a", "single", "word", "Answer", "using", ".", "?", "Is"),
    *("the", "red", "blue", "dog", "dogs", "cat", "left", "of", "Yes", "No", "yes", "no", "What", "color", "is", "striped"),
    *("straight", "2", "3"),
)
# Merged from left to right, so that "striped" and "straight" share their first piece, as in a trained vocabulary.
SUBWORDS = (
    *(f"▁{word}" for word in ("Yes", "No", "yes", "no", "red", "blue", "dog", "Is", "the", "What", "color", "is", "str", "word")),
    "iped", "aight", "gs",
)  # fmt: skip
CHARACTERS = tuple("▁\nabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:?.,'")


CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}\n{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def picture(seed: int = 0, size: tuple[int, int] = (48, 48)) -> Image.Image:
    """An image of seeded noise, `size` = (width, height)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def build_tokenizer(kind: TokenizerKind = "words", *, words: Sequence[str] = WORDS, image_token: bool = True) -> Any:
    """A tokenizer that begins every text with `<s>`: one token per word, or sub-words with a leading `▁` as Llama's."""
    tokenizer = Tokenizer(_word_model(words) if kind == "words" else _subword_model())
    if kind == "words":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    if image_token:
        tokenizer.add_special_tokens([AddedToken("<image>", normalized=False, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left",
        model_max_length=512,
    )  # fmt: skip


def _word_model(words: Sequence[str]) -> models.WordLevel:
    return models.WordLevel({word: index for index, word in enumerate((*SPECIAL_TOKENS, *words))}, unk_token="<unk>")


def _subword_model() -> models.BPE:
    merges: dict[tuple[str, str], None] = {}
    pieces = dict.fromkeys((*SPECIAL_TOKENS, *CHARACTERS))
    for word in SUBWORDS:
        for end in range(2, len(word) + 1):
            merges[word[: end - 1], word[end - 1]] = None
            pieces[word[:end]] = None
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return models.BPE(vocabulary, list(merges), unk_token="<unk>", fuse_unk=True)


def text_config(vocabulary: int) -> dict[str, Any]:
    """The language model of both families: a Llama of two layers with four heads."""
    return {
        "model_type": "llama", "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": INNER_WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "max_position_embeddings": 256,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip


def _vision_config(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": WIDTH, "intermediate_size": INNER_WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS,
        "image_size": IMAGE_SIZE, "patch_size": PATCH_SIZE, **more,
    }  # fmt: skip


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Draw every parameter again: weights with standard deviation 0.25, norms around one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(0.25 * noise)
            elif "norm" in name.lower() and name.endswith("weight"):
                parameter.copy_(1 + 0.1 * noise)
            else:
                parameter.copy_(0.2 * noise)


def build_llava(
    folder: Path,
    *,
    tokenizer: TokenizerKind = "words",
    seed: int = 0,
    half: bool = False,
    text: Callable[[int], dict[str, Any]] | None = None,
) -> Path:
    """Save a LLaVA checkpoint with its processor into `folder`; `half` stores float16, `text` makes another decoder's configuration."""
    words = build_tokenizer(tokenizer)
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = LlavaProcessor(
        image_processor=image_processor, tokenizer=words, patch_size=PATCH_SIZE, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    config = LlavaConfig(
        text_config=(text or text_config)(len(words)),
        vision_config=_vision_config(model_type="clip_vision_model"),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=GRID * GRID,
        vision_feature_layer=-1,
    )
    return _save(LlavaForConditionalGeneration(config), processor, folder, seed, half)


def build_instructblip(folder: Path, *, tokenizer: TokenizerKind = "words", seed: int = 0, half: bool = False) -> Path:
    """Save an InstructBLIP checkpoint (Llama) with its processor into `folder`; the Q-Former reads words in either case."""
    words = build_tokenizer(tokenizer)
    return _save_instructblip(folder, words, text_config(len(words)), seed, half)


def build_instructblip_t5(folder: Path, *, seed: int = 0) -> Path:
    """Save an InstructBLIP checkpoint with a T5: its prompt stands in a bidirectional encoder, its answer in a decoder."""
    words = build_tokenizer("words")
    text = {
        "model_type": "t5", "vocab_size": len(words), "d_model": WIDTH, "d_kv": WIDTH // HEADS, "d_ff": 48, "num_layers": LAYERS,
        "num_decoder_layers": LAYERS, "num_heads": HEADS, "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id,
        "decoder_start_token_id": words.pad_token_id, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    }  # fmt: skip
    return _save_instructblip(folder, words, text, seed, half=False)


def _save_instructblip(folder: Path, words: Any, text: dict[str, Any], seed: int, half: bool) -> Path:
    qformer_words = build_tokenizer("words", image_token=False)
    image_processor = BlipImageProcessorPil(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    processor = InstructBlipProcessor(
        image_processor=image_processor, tokenizer=words, qformer_tokenizer=qformer_words, num_query_tokens=QUERY_TOKENS
    )
    qformer = {
        "vocab_size": len(qformer_words), "hidden_size": WIDTH, "encoder_hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": HEADS, "intermediate_size": INNER_WIDTH, "max_position_embeddings": 64, "cross_attention_frequency": 1,
    }  # fmt: skip
    config = InstructBlipConfig(
        text_config=text,
        vision_config=_vision_config(initializer_range=0.02),
        qformer_config=qformer,
        num_query_tokens=QUERY_TOKENS,
        image_token_index=words.convert_tokens_to_ids("<image>"),
    )
    return _save(InstructBlipForConditionalGeneration(config), processor, folder, seed, half)


def build_idefics(folder: Path, *, seed: int = 0) -> Path:
    """Save an Idefics3 checkpoint: its processor cuts an image into crops and puts markers around each."""
    words = build_tokenizer("words")
    crops = [f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3)]
    markers = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *crops]
    words.add_special_tokens({"additional_special_tokens": markers})
    image_processor = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": IMAGE_SIZE})
    template = CHAT_TEMPLATE.replace("\n{% endif %}{% endfor %}", "<end_of_utterance>{% endif %}{% endfor %}")
    processor = Idefics3Processor(image_processor=image_processor, tokenizer=words, image_seq_len=4, chat_template=template)
    config = Idefics3Config(
        text_config=text_config(len(words)),
        vision_config=_vision_config(),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return _save(Idefics3ForConditionalGeneration(config), processor, folder, seed, False)


def _save(module: Any, processor: Any, folder: Path, seed: int, half: bool) -> Path:
    logging.disable_progress_bar()
    randomise(module, seed)
    module.generation_config.eos_token_id = 2
    (module.half() if half else module).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
