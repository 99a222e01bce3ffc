"""Processors that expect a video processor, opened without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vseam_plugins.models.padding import padded
from vseam_plugins.models.processors import without_videos


def tokenizer(**special: str) -> Any:
    words = ["<pad>", "<unk>", "<|video|>", *special.values(), "what", "is", "this"]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", extra_special_tokens=special)


def test_a_processor_that_takes_its_video_part_by_name_is_made_and_saved_without_it(tmp_path: Path) -> None:
    kind = without_videos(transformers.Gemma4Processor)
    tokens = tokenizer(
        image_token="<image>", boi_token="<boi>", eoi_token="<eoi>", audio_token="<audio>", boa_token="<boa>", eoa_token="<eoa>"
    )
    pictures = transformers.Gemma4ImageProcessorPil()
    made = kind(transformers.Gemma4AudioFeatureExtractor(), pictures, tokens, pictures)
    assert "video_processor" not in made.get_attributes()
    assert not hasattr(made, "video_processor")
    assert made.image_processor is pictures
    made.save_pretrained(tmp_path)
    assert "video_processor" not in (tmp_path / "processor_config.json").read_text()


def test_a_processor_that_reads_settings_of_its_video_part_in_the_middle_is_made_without_it() -> None:
    kind = without_videos(transformers.MiniCPMV4_6Processor)
    names = ("image_token", "video_token", "image_start_token", "image_end_token", "slice_start_token", "slice_end_token")
    names += ("image_id_start_token", "image_id_end_token")
    pictures = transformers.MiniCPMV4_6ImageProcessorPil()
    made = kind(pictures, pictures, tokenizer(**{name: f"<{name}>" for name in names}))
    assert made.image_processor is pictures
    assert not hasattr(made, "video_processor")


def test_every_input_of_ernie_with_an_entry_per_position_is_padded() -> None:
    tensors = [torch.ones(1, 3, dtype=torch.long), torch.ones(1, 5, dtype=torch.long)]
    assert [tensor.shape[1] for tensor in padded("moe_mm_token_type_ids", tensors, 0, 0)] == [5, 5]
