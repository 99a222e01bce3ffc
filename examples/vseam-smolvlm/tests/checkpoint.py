"""A tiny checkpoint in the layout that SmolVLM has on disk, with random weights: built in a second, nothing is downloaded."""

from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

NAMED = ("<pad>", "<|im_start|>", "<|im_end|>", "<unk>")
TILES = tuple(f"<row_{row}_col_{column}>" for row in (1, 2, 3) for column in (1, 2, 3))
MARKERS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", *TILES)
WORDS = (
    *("User", "Assistant", ":", "Answer", "with", "a", "single", "word", ".", "?", "Is", "there", "in", "this", "picture", "the", "dog"),
    *("red", "green", "blue", "circle", "square", "Yes", "No", "yes", "no"),
)


def build(folder: Path, seed: int = 0) -> Path:
    """Save weights and processor into `folder`."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate((*NAMED, *WORDS))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (*NAMED, *MARKERS)])
    words = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    images = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    text = {
        "model_type": "llama", "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32, "patch_size": 8
    }  # fmt: skip
    config = Idefics3Config(text_config=text, vision_config=vision, image_token_id=words.convert_tokens_to_ids("<image>"), scale_factor=2)
    module = Idefics3ForConditionalGeneration(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if "norm" in name.lower() and name.endswith("weight") else 0.25 * noise)
    module.save_pretrained(folder)
    Idefics3Processor(image_processor=images, tokenizer=words, image_seq_len=4).save_pretrained(folder)
    return folder
