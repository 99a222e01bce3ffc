"""Randomly initialised models of real shapes, and prompts for them: what is measured needs no trained weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, Qwen3_5TextConfig

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt, PositionClass
from vseam_core.api.types import ModelInfo

ANSWER = AnswerIds((20,), (21,), (20,))
_BEFORE = 3
_VOCABULARY = 512
_IMAGE = _VOCABULARY - 1


@dataclass(frozen=True)
class Shape:
    """The measures of a LLaVA: its language decoder, its image, its question.

    `carries_state` puts a decoder like Qwen3.5's in the place of Llama's: every fourth layer has attention, others are gated delta nets;
    its heads are twice as wide together as the residual.
    """

    layers: int = 16
    heads: int = 8
    width: int = 256
    mlp: int = 1024
    image_positions: int = 576
    text_positions: int = 20
    vision_layers: int = 4
    vision_width: int = 128
    carries_state: bool = False

    @property
    def head_dim(self) -> int:
        """The width of a head."""
        return (2 if self.carries_state else 1) * self.width // self.heads

    def attends(self, layer: int) -> bool:
        """Whether a layer has attention."""
        return not self.carries_state or layer % 4 == 3

    @property
    def side(self) -> int:
        """The image's height and width in pixels."""
        return int(self.image_positions**0.5) * 14

    def __str__(self) -> str:
        return f"{self.layers} layers × {self.heads} heads, width {self.width}, {self.image_positions} + {self.text_positions} positions"


SMALL = Shape()
RECURRENT = Shape(layers=24, mlp=896, carries_state=True)
MANY_HEADS = Shape(layers=32, heads=32, width=256, mlp=512, image_positions=256)
# About the 2,880 image positions that LLaVA-NeXT makes of five tiles, as one square.
TILES = Shape(image_positions=54**2)
SEVEN_BILLION = Shape(layers=32, heads=32, width=4096, mlp=11008, vision_layers=24, vision_width=1024)


class RandomLlava(VisionLanguageModel):
    """A LLaVA of a given shape with random weights, with its real image processor."""

    def __init__(self, shape: Shape, device: str = "cpu", dtype: torch.dtype = torch.float32):
        self.shape = shape
        torch.manual_seed(0)
        with torch.device(device):
            self.module: Any = LlavaForConditionalGeneration(_configuration(shape)).to(dtype).eval()
        for parameter in self.module.parameters():
            if parameter.dim() > 1:
                # As in a trained model, a layer adds about as much as it was given, whatever its width.
                parameter.data.normal_(0, parameter.shape[-1] ** -0.5)
        size = shape.head_dim
        name = str(dtype).removeprefix("torch.")
        self.info = ModelInfo(
            name="random-llava",
            family="llava",
            source="random",
            weights_hash="seed-0",
            dtype=name,
            attention="sdpa",
            device=device,
            layers=shape.layers,
            heads=shape.heads,
            head_dim=size,
        )
        self._processor = CLIPImageProcessorPil(size={"shortest_edge": shape.side}, crop_size={"height": shape.side, "width": shape.side})
        self.device, self.dtype = torch.device(device), dtype

    def encode(self, image: Image.Image, question: str, *_: Any, **__: Any) -> EncodedPrompt:
        """The image, processed as the family does, and 20 words drawn from the question's hash."""
        shape = self.shape
        seed = int(hashlib.sha256(question.encode()).hexdigest()[:8], 16)
        words = np.random.default_rng(seed).integers(10, 500, shape.text_positions)
        ids = (1, 5, 6, *[_IMAGE] * shape.image_positions, *words.tolist())
        pixels = self.pixels(image)
        classes: list[PositionClass] = ["structural_before"] * _BEFORE + ["image"] * shape.image_positions
        classes += ["question"] * (shape.text_positions - 1) + ["last"]
        input_ids = torch.tensor([ids])
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "pixel_values": pixels}
        key = hashlib.sha256(pixels.numpy().tobytes() + input_ids.numpy().tobytes()).hexdigest()
        return EncodedPrompt(
            inputs=inputs, ids=ids, tokens=tuple(map(str, ids)), classes=tuple(classes), roles=("",) * len(ids), text=question, key=key
        )

    def pixels(self, image: Image.Image) -> torch.Tensor:
        """What the processor makes of an image, `[1, 3, side, side]`."""
        return self._processor(images=image, return_tensors="pt")["pixel_values"]  # type: ignore[no-any-return]

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """One batch on the device, floats in the model's format."""
        return self.on_device({name: torch.cat([prompt.inputs[name] for prompt in prompts]) for name in prompts[0].inputs})

    def on_device(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Inputs on the device, floats in the model's format."""
        return {
            name: value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in inputs.items()
        }

    def answer_ids(self, prompt: EncodedPrompt, gold: str, competitor: str | None) -> AnswerIds:
        """Two arbitrary tokens: the weights are random."""
        return ANSWER

    def answer_tokens(self, prompt: EncodedPrompt, answer: str) -> tuple[int, ...]:
        """The same two tokens."""
        return ANSWER.gold

    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """Random weights say nothing."""
        return [""] * len(prompts)


def _configuration(shape: Shape) -> LlavaConfig:
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_width,
        intermediate_size=4 * shape.vision_width,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=max(4, shape.vision_width // 64),
        image_size=shape.side,
        patch_size=14,
    )
    if shape.carries_state:
        return LlavaConfig(vision_config=vision, text_config=_with_states(shape), image_token_id=_IMAGE, vision_feature_layer=-2)
    text = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        vocab_size=_VOCABULARY,
    )
    return LlavaConfig(vision_config=vision, text_config=text, image_token_id=_IMAGE, vision_feature_layer=-2)


def _with_states(shape: Shape) -> Qwen3_5TextConfig:
    return Qwen3_5TextConfig(
        hidden_size=shape.width,
        intermediate_size=shape.mlp,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 4,
        head_dim=shape.head_dim,
        linear_num_key_heads=shape.heads,
        linear_num_value_heads=shape.heads,
        linear_key_head_dim=shape.head_dim,
        linear_value_head_dim=shape.head_dim,
        vocab_size=_VOCABULARY,
    )


def image(seed: int) -> Image.Image:
    """An image of noise of a usual size."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (375, 500, 3), dtype=np.uint8))
