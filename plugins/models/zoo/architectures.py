"""Configurations and starting weights of the two embedded models.

Both are the genuine Hugging Face classes at toy size. The starting weights differ from the library's in three places,
each needed for training to leave chance within minutes: vision positions start as 2-D sinusoids, query tokens start
apart from each other (the library starts them all at zero, where they stay identical), and the attention keys of the
language model start equal to its queries, so that every head begins as a similarity kernel (Trockman and Kolter 2023,
"Mimetic Initialization of Self-Attention Layers").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from vseam_plugins.models.zoo.prompts import INSTRUCTBLIP, LLAVA
from vseam_plugins.models.zoo.tokenizer import MODEL_MAX_LENGTH, vocabulary

IMAGE_SIZE = 120
PATCH_SIZE = 20
GRID = IMAGE_SIZE // PATCH_SIZE
CELLS = 3  # objects stand on a CELLS x CELLS grid; a cell is 2 x 2 patches


@dataclass(frozen=True)
class Shape:
    """Sizes of one embedded model: width, depth and heads of its three parts."""

    width: int = 96
    layers: int = 6
    heads: int = 8
    head_dim: int = 16
    mlp_width: int = 192
    vision_width: int = 96
    vision_layers: int = 4
    vision_heads: int = 6
    vision_mlp_width: int = 192
    qformer_layers: int = 3
    qformer_heads: int = 6
    qformer_mlp_width: int = 192
    query_tokens: int = CELLS * CELLS


def _llama_config(shape: Shape) -> dict[str, Any]:
    words = vocabulary()
    return LlamaConfig(
        vocab_size=len(words),
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.mlp_width,
        max_position_embeddings=MODEL_MAX_LENGTH,
        rms_norm_eps=1e-5,
        pad_token_id=words["<pad>"],
        bos_token_id=words["<s>"],
        eos_token_id=words["</s>"],
        tie_word_embeddings=False,
        initializer_range=0.05,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    ).to_dict()


def _build_llava(shape: Shape) -> LlavaForConditionalGeneration:
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=shape.vision_mlp_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        projection_dim=shape.vision_width,
    )
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=_llama_config(shape),
        image_token_index=vocabulary()["<image>"],
        vision_feature_select_strategy="default",
        vision_feature_layer=-1,
        image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():
        positions = model.model.vision_tower.embeddings.position_embedding.weight
        positions.copy_(sinusoid_positions(shape.vision_width))
    match_keys_to_queries(model.model.language_model)
    return model


def _build_instructblip(shape: Shape) -> InstructBlipForConditionalGeneration:
    vision = {
        "hidden_size": shape.vision_width,
        "intermediate_size": shape.vision_mlp_width,
        "num_hidden_layers": shape.vision_layers,
        "num_attention_heads": shape.vision_heads,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
        "initializer_range": 0.02,
    }
    qformer = {
        "vocab_size": len(vocabulary()),
        "hidden_size": shape.vision_width,
        "encoder_hidden_size": shape.vision_width,
        "num_hidden_layers": shape.qformer_layers,
        "num_attention_heads": shape.qformer_heads,
        "intermediate_size": shape.qformer_mlp_width,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "cross_attention_frequency": 1,
        "initializer_range": 0.05,
    }
    config = InstructBlipConfig(
        vision_config=vision,
        qformer_config=qformer,
        text_config=_llama_config(shape),
        num_query_tokens=shape.query_tokens,
        image_token_index=vocabulary()["<image>"],
    )
    model = InstructBlipForConditionalGeneration(config)
    _start_queries_at_cells(model, shape)
    match_keys_to_queries(model.language_model.model)
    return model


@torch.no_grad()
def _start_queries_at_cells(model: InstructBlipForConditionalGeneration, shape: Shape) -> None:
    """Start each query token at the position code of its cell, with cross-attention that matches equal codes."""
    positions = sinusoid_positions(shape.vision_width)
    model.vision_model.embeddings.position_embedding.copy_(positions[None])
    side = GRID // CELLS
    cells = positions[1:].reshape(CELLS, side, CELLS, side, -1).mean((1, 3)).reshape(1, CELLS * CELLS, -1)
    unit = cells / 0.3
    model.query_tokens.copy_(unit + 0.1 * torch.randn(unit.shape))
    for layer in model.qformer.encoder.layer:
        attention = layer.crossattention.attention
        attention.query.weight.normal_(std=0.1)
        attention.key.weight.copy_(attention.query.weight)


def sinusoid_positions(width: int, *, scale: float = 0.3) -> torch.Tensor:
    """Give the vision tower a start that knows rows and columns: `[1 + patches, width]`, zeros for the class token."""
    quarter = width // 4
    frequencies = 1 / (100 ** (torch.arange(quarter) / quarter))
    angles = torch.arange(GRID).float()[:, None] * frequencies
    code = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows = code[:, None].expand(GRID, GRID, 2 * quarter)
    columns = code[None].expand(GRID, GRID, 2 * quarter)
    table = torch.cat([rows, columns], dim=-1).reshape(GRID * GRID, 4 * quarter) * scale
    table = torch.nn.functional.pad(table, (0, width - 4 * quarter))
    return torch.cat([torch.zeros(1, width), table])


@torch.no_grad()
def match_keys_to_queries(language_model: Any, *, std: float = 0.1) -> None:
    """Start every head of a Llama with W_K = W_Q, so that attention begins by content similarity."""
    for layer in language_model.layers:
        attention = layer.self_attn
        attention.q_proj.weight.normal_(std=std)
        attention.k_proj.weight.copy_(attention.q_proj.weight)


BUILDERS = {LLAVA: _build_llava, INSTRUCTBLIP: _build_instructblip}


def build_model(name: str, seed: int, shape: Shape | None = None) -> torch.nn.Module:
    """Build an untrained model of the zoo, its starting weights drawn from `seed` alone (the global RNG is restored)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BUILDERS[name](shape or Shape())
