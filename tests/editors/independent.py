"""PowerPaint computed step by step, with nothing of the painters: no pipeline, no hooks, DDIM from its formula."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import interpolate
from transformers import CLIPTokenizer

from .checkpoints import END, TASKS, VECTORS, text_encoder

Predict = Callable[[torch.Tensor, int], torch.Tensor]


def pixels_of(image: Image.Image) -> torch.Tensor:
    """An image as `[1, 3, height, width]` from -1 to 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 127.5 - 1


def text_stack(base: Path, state: dict[str, torch.Tensor]) -> Callable[[str], torch.Tensor]:
    """Embeds texts with the weights of a PowerPaint file; task words are spelled out as the ids behind the vocabulary."""
    rows = [state[f"text_model.embeddings.token_embedding.trainable_embeddings.{task}"] for task in TASKS]
    words = state["text_model.embeddings.token_embedding.wrapped.weight"]
    model = text_encoder(len(words) + 3 * VECTORS).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            plain = name.removeprefix("text_model.")
            if plain == "embeddings.token_embedding.weight":
                parameter.copy_(torch.cat([words, *rows]))
            else:
                parameter.copy_(state[f"text_model.{plain}"])
    tokenizer = CLIPTokenizer.from_pretrained(str(base / "tokenizer"))

    def embed(text: str) -> torch.Tensor:
        ids = [END - 1]
        for word in text.split():
            if word in TASKS:
                first = len(words) + TASKS.index(word) * VECTORS
                ids += range(first, first + VECTORS)
            else:
                ids += tokenizer(word, add_special_tokens=False).input_ids
        ids += [END] * (77 - len(ids))
        with torch.no_grad():
            return model(torch.tensor([ids]))[0]

    return embed


def ddim(predict: Predict, latents: torch.Tensor, steps: int) -> torch.Tensor:
    """Deterministic DDIM (Song et al. 2021, equation 12) with the noise schedule of Stable Diffusion; x₀ is clipped to ±1."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = torch.cumprod(1 - betas, dim=0)
    stride = 1000 // steps
    for step in reversed(range(steps)):
        time = step * stride + 1
        now, before = kept[time], kept[time - stride] if time >= stride else kept[0]
        noise = predict(latents, time)
        original = ((latents - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
        latents = before.sqrt() * original + (1 - before).sqrt() * noise
    return latents


def guided(predict_one: Callable[[torch.Tensor, int, torch.Tensor], torch.Tensor], wanted: Any, unwanted: Any, guidance: float) -> Predict:
    def predict(latents: torch.Tensor, time: int) -> torch.Tensor:
        plain, toward = predict_one(latents, time, unwanted), predict_one(latents, time, wanted)
        return plain + guidance * (toward - plain)

    return predict


def decoded(vae: Any, latents: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        pixels = vae.decode(latents / vae.config.scaling_factor).sample
    return ((pixels / 2 + 0.5).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def layers(block: Any) -> list[tuple[Any, Any]]:
    return list(zip(block.resnets, getattr(block, "attentions", None) or [None] * len(block.resnets), strict=True))


def states_of(unet: Any, sample: torch.Tensor, time: int, context: torch.Tensor, added: Any = None) -> tuple[list[torch.Tensor], ...]:
    """A UNet's forward pass by hand: its states on the way down, in the middle and up (the last one included).

    `added` are three lists of the same layout: what is added to each state before the next layer sees it, except that what is added after
    `conv_in` does not enter the long skip.
    """
    down_added, middle_added, up_added = added or ([], [], [])
    take_down, take_up = iter(down_added), iter(up_added)

    def plus(state: torch.Tensor, source: Any) -> torch.Tensor:
        return state + next(source) if added else state

    embedding = unet.time_embedding(unet.time_proj(torch.tensor([time])).to(sample.dtype))
    state = unet.conv_in(sample)
    down = [state]
    state = plus(state, take_down)
    for block in unet.down_blocks:
        for resnet, attention in layers(block):
            state = resnet(state, embedding)
            if attention is not None:
                state = attention(state, encoder_hidden_states=context).sample
            state = plus(state, take_down)
            down.append(state)
        for sampler in block.downsamplers or []:
            state = plus(sampler(state), take_down)
            down.append(state)
    state = unet.mid_block(state, embedding, encoder_hidden_states=context)
    state = state + middle_added[0] if added else state
    middle, up, skips = [state], [], list(down)
    for block in unet.up_blocks:
        for resnet, attention in layers(block):
            state = resnet(torch.cat([state, skips.pop()], dim=1), embedding)
            if attention is not None:
                state = attention(state, encoder_hidden_states=context).sample
            state = plus(state, take_up)
            up.append(state)
        for sampler in block.upsamplers or []:
            state = plus(sampler(state, skips[-1].shape[2:]), take_up)
            up.append(state)
    assert not skips
    assert next(take_down, None) is None
    assert next(take_up, None) is None
    return down, middle, up


def output_of(unet: Any, *arguments: Any) -> torch.Tensor:
    with torch.no_grad():
        last = states_of(unet, *arguments)[2][-1]
        return unet.conv_out(unet.conv_act(unet.conv_norm_out(last)))


def branch_states(weights: dict[str, torch.Tensor], unet9: Any, sample: Any, condition: Any, time: int, context: Any) -> tuple[Any, ...]:
    """What a BrushNet adds, out of a stock UNet with nine input channels that was given its trunk's weights."""
    trunk = {key.replace("conv_in_condition", "conv_in"): value for key, value in weights.items() if not key.startswith("brushnet_")}
    found = unet9.load_state_dict(trunk, strict=False)
    assert not found.unexpected_keys
    assert {key.split(".")[0] for key in found.missing_keys} == {"conv_norm_out", "conv_out"}
    with torch.no_grad():
        down, middle, up = states_of(unet9, torch.cat([sample, condition], dim=1), time, context)

    def tapped(states: list[torch.Tensor], name: str) -> list[torch.Tensor]:
        found = []
        for number, state in enumerate(states):
            key = name if name == "brushnet_mid_block" else f"{name}.{number}"
            # A 1×1 convolution is a matrix applied to the channels of each pixel.
            matrix, bias = weights[f"{key}.weight"][:, :, 0, 0], weights[f"{key}.bias"]
            found.append(torch.einsum("oc,bchw->bohw", matrix, state) + bias[None, :, None, None])
        return found

    return tapped(down, "brushnet_down_blocks"), tapped(middle, "brushnet_mid_block"), tapped(up, "brushnet_up_blocks")


def shrunk(mask: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    return interpolate(torch.from_numpy(mask.astype(np.float32))[None, None], size=size)


def load_branch(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "PowerPaint_Brushnet" / "diffusion_pytorch_model.safetensors")
