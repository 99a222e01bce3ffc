"""PowerPaint's task prompts: what each task says to the model, and the text encoder that knows the task words.

PowerPaint (Zhuang et al. 2024, arXiv 2312.03594) learns ten vectors for each of three task words. They are added to a stock CLIP
tokenizer and text encoder as thirty tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AddedToken, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vseam_core.errors import InvalidFileError, SampleError
from vseam_plugins.editors.diffusion.loading import explained, load_strictly, quietly, read_tensors

Task = Literal["object", "shape", "context"]
Preset = Literal["paper", "upstream"]
WORDS, VECTORS = ("P_ctxt", "P_shape", "P_obj"), 10
QUALITY = "worst quality, low quality, normal quality, bad quality, blurry"
_EMPTY = "empty scene blur"
_TASK_WORDS: dict[str, tuple[str, str]] = {"object": ("P_obj", "P_obj"), "shape": ("P_shape", "P_ctxt"), "context": ("P_ctxt", "P_ctxt")}
_WORD = re.compile(rf"\b({'|'.join(WORDS)})\b")
_EMBEDDING = "embeddings.token_embedding."


@dataclass(frozen=True)
class Prompts:
    """The texts of one painting: two whose embeddings are blended, the same for what is not wanted, and the plain ones (v2 only)."""

    first: str
    second: str
    negative_first: str
    negative_second: str
    plain: str
    plain_negative: str


def prompts(task: Task, preset: Preset, version: int, words: str, negative: str) -> Prompts:
    """What the model is told.

    `paper` speaks as PowerPaint was trained: task words, and quality words in what is not wanted. In v1 the task words stand beside the
    text, in v2 the branch gets them alone and the UNet the text. `upstream` gives one text to all of them, and no task words, as the
    published edit code of V-SEAM does.
    """
    if preset == "upstream":
        return Prompts(first=words, second=words, negative_first=negative, negative_second=negative, plain=words, plain_negative=negative)
    first, second = _TASK_WORDS[task]
    unwanted = ("P_obj", "P_obj") if task == "context" else (first, second)
    quality = ", ".join(text for text in (negative, QUALITY) if text)
    if version == 2:
        text = f"{words} {_EMPTY}" if task == "context" else words
        return Prompts(
            first=first, second=second, negative_first=unwanted[0], negative_second=unwanted[1], plain=text, plain_negative=quality
        )
    text, refused = (f"{_EMPTY} {words}", negative) if task == "context" else (words, quality)
    negatives = [f"{refused} {word}".strip() for word in unwanted]
    return Prompts(
        first=f"{text} {first}",
        second=f"{text} {second}",
        negative_first=negatives[0],
        negative_second=negatives[1],
        plain=text,
        plain_negative=refused,
    )


def load_text_encoder(painter: str, base: Path, weights: Path) -> tuple[Any, Any]:
    """The tokenizer of `base` with thirty task tokens, and a text encoder of its shape with PowerPaint's weights (float32).

    Every weight comes from the file. Raises `InvalidFileError` where one is missing, unknown or of another shape.
    """
    with explained(painter, f"the tokenizer of {base}"), quietly():
        tokenizer = CLIPTokenizer.from_pretrained(str(base), subfolder="tokenizer", local_files_only=True)
        config = CLIPTextConfig.from_pretrained(str(base), subfolder="text_encoder", local_files_only=True)
    known = len(tokenizer)
    tokenizer.add_tokens([AddedToken(f"{word}_{number}", normalized=False) for word in WORDS for number in range(VECTORS)])
    if len(tokenizer) != known + len(WORDS) * VECTORS:
        raise InvalidFileError(f"editor {painter!r}: the tokenizer of {base} has some of PowerPaint's task tokens already; use a plain one")
    config.vocab_size = len(tokenizer)
    with quietly():
        encoder = CLIPTextModel(config)
    load_strictly(painter, encoder, _renamed(painter, weights, known, encoder), weights)
    return tokenizer, encoder.eval().requires_grad_(False)


def require_task_tokens(painter: str, folder: Path, tokenizer: Any, encoder: Any) -> None:
    """Check that a pipeline whose vocabulary holds the task tokens already has a vector for each. Raises `InvalidFileError`."""
    numbers = tokenizer.convert_tokens_to_ids([f"{word}_{number}" for word in WORDS for number in range(VECTORS)])
    rows = encoder.get_input_embeddings().num_embeddings
    unknown = [number for number in numbers if number is None or number == tokenizer.unk_token_id or number >= rows]
    if unknown:
        raise InvalidFileError(f"editor {painter!r}: {folder} is no PowerPaint: its vocabulary lacks {len(unknown)} of the 30 task tokens")


def embedded(tokenizer: Any, encoder: Any, device: torch.device, first: str, second: str, fitting: float) -> torch.Tensor:
    """The embeddings `[1, tokens, width]` of two texts, `fitting` × the first + (1 − `fitting`) × the second.

    Raises `SampleError` where the model could not read a text to its end.
    """
    one = _embedded(tokenizer, encoder, device, first)
    return one if first == second else fitting * one + (1 - fitting) * _embedded(tokenizer, encoder, device, second)


def _embedded(tokenizer: Any, encoder: Any, device: torch.device, text: str) -> torch.Tensor:
    spelled = _WORD.sub(lambda match: " ".join(f"{match[1]}_{number}" for number in range(VECTORS)), text)
    ids = tokenizer(spelled, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    if ids.shape[1] > tokenizer.model_max_length:
        raise SampleError(f"powerpaint: the prompt has {ids.shape[1]} tokens, the model reads {tokenizer.model_max_length}: {text[:80]!r}")
    return encoder(ids.to(device))[0]


def _renamed(painter: str, path: Path, known: int, encoder: Any) -> Mapping[str, torch.Tensor]:
    """The tensors of PowerPaint's file under the names that this release of transformers uses; task vectors join the embedding."""
    state = {key.removeprefix("text_model."): value for key, value in read_tensors(painter, path).items()}
    names = [f"{_EMBEDDING}wrapped.weight", *(f"{_EMBEDDING}trainable_embeddings.{word}" for word in WORDS)]
    missing = [name for name in names if name not in state]
    if missing:
        raise InvalidFileError(f"editor {painter!r}: {path} is no text encoder of PowerPaint: it lacks {missing[0]}")
    words, *vectors = (state.pop(name) for name in names)
    wrong = [name for name, value in zip(names[1:], vectors, strict=True) if value.shape != (VECTORS, words.shape[1])]
    if wrong or len(words) < known:
        what = wrong[0] if wrong else f"the embedding with {len(words)} rows for {known} words"
        raise InvalidFileError(f"editor {painter!r}: {path} does not fit the model: {what}")
    state[f"{_EMBEDDING}weight"] = torch.cat([words[:known], *vectors])
    has_prefix = any(key.startswith("text_model.") for key in encoder.state_dict())
    return {f"text_model.{key}": value for key, value in state.items()} if has_prefix else state
