"""Tiny Stable Diffusion checkpoints with random weights in the layouts in which the real ones lie on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel

WIDTH, END = 32, 517
TASKS, VECTORS = ("P_ctxt", "P_shape", "P_obj"), 10


def write_tokenizer(folder: Path) -> int:
    """A CLIP tokenizer of single bytes and a few merges; returns the size of its vocabulary."""
    folder.mkdir(parents=True)
    letters = sorted(ByteLevel.alphabet())
    merges = ["r e", "re d</w>", "c a", "ca t</w>"]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>", "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    special = {"bos_token": "<|startoftext|>", **dict.fromkeys(("eos_token", "unk_token", "pad_token"), "<|endoftext|>")}
    settings = {"do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    return len(words)


def text_encoder(vocabulary: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=END - 1,
        eos_token_id=END,
        pad_token_id=END,
    )
    return CLIPTextModel(config)


def unet(channels: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(32, 32, 64, 64),
        norm_num_groups=8,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )


def vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        sample_size=64,
    )


def write_pipeline(folder: Path, channels: int, kind: str, seed: int = 0) -> Path:
    """A pipeline folder as `save_pretrained` writes it (Stable Diffusion 1.5 with `channels` input channels)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary = write_tokenizer(folder / "tokenizer")
        text_encoder(vocabulary).save_pretrained(folder / "text_encoder")
        unet(channels).save_pretrained(folder / "unet")
        vae().save_pretrained(folder / "vae")
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True, "steps_offset": 1}
    PNDMScheduler(**schedule).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": kind,
        "_diffusers_version": "0.27.0",
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def write_sdxl(folder: Path) -> Path:
    """A Stable Diffusion XL inpainting pipeline: two text encoders, size and crop among the conditions."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLInpaintPipeline
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    vocabulary = write_tokenizer(folder / "words")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        first = text_encoder(vocabulary)
        first.config.projection_dim = WIDTH
        second = CLIPTextModelWithProjection(first.config)
        network = UNet2DConditionModel(
            sample_size=8,
            in_channels=9,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            attention_head_dim=(2, 4),
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            cross_attention_dim=2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 6 * 8,
        )
        autoencoder = vae()
    tokenizer = CLIPTokenizer.from_pretrained(str(folder / "words"))
    pipeline = StableDiffusionXLInpaintPipeline(
        autoencoder, first, second, tokenizer, tokenizer, network, EulerDiscreteScheduler(beta_schedule="scaled_linear")
    )
    pipeline.save_pretrained(folder)
    return folder


def powerpaint_text_state(vocabulary: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """A text encoder's weights as PowerPaint stores them: old names, and the task vectors beside the wrapped embedding."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = {key.removeprefix("text_model."): value.clone() for key, value in text_encoder(vocabulary).state_dict().items()}
    words = state.pop("embeddings.token_embedding.weight")
    stored = {f"text_model.{key}": value for key, value in state.items() if not key.endswith("position_ids")}
    stored["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    stored["text_model.embeddings.token_embedding.wrapped.weight"] = words
    for task in TASKS:
        vectors = torch.randn(VECTORS, WIDTH, generator=generator) * 0.02
        stored[f"text_model.embeddings.token_embedding.trainable_embeddings.{task}"] = vectors
    return stored


def write_powerpaint_v1(folder: Path, vocabulary: int) -> Path:
    """`unet/unet.safetensors` and `text_encoder/text_encoder.safetensors`, to lie over an inpainting checkpoint."""
    (folder / "unet").mkdir(parents=True)
    (folder / "text_encoder").mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        save_file(unet(9).state_dict(), folder / "unet" / "unet.safetensors")
    save_file(powerpaint_text_state(vocabulary), folder / "text_encoder" / "text_encoder.safetensors")
    return folder


def write_powerpaint_v2(folder: Path) -> Path:
    """`realisticVisionV60B1_v51VAE/` and `PowerPaint_Brushnet/`, as PowerPaint-v2-1 lies on the hub."""
    from vseam_plugins.editors.diffusion.brushnet import BrushNetModel

    base = write_pipeline(folder / "realisticVisionV60B1_v51VAE", 4, "StableDiffusionPipeline", seed=3)
    branch = folder / "PowerPaint_Brushnet"
    branch.mkdir()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = BrushNetModel(unet(4).config)
        for name, parameter in network.named_parameters():
            if name.startswith("brushnet_"):  # they begin with zeros, which would hide what is added where
                torch.nn.init.normal_(parameter, std=0.1)
    save_file(network.state_dict(), branch / "diffusion_pytorch_model.safetensors")
    vocabulary = len(json.loads((base / "tokenizer" / "vocab.json").read_text()))
    torch.save(powerpaint_text_state(vocabulary, seed=5), branch / "pytorch_model.bin")
    return folder


def rewrite(path: Path, change: Any) -> None:
    """Save a safetensors file again after `change(tensors)`."""
    from safetensors.torch import load_file

    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
