"""Tiny random models of every family that the engine serves, and prompts for them: no download, no processor.

`TinyVLM` is what an engine takes. Its `collate` pads prompts of different length on either side, which no processor of these
families does in the same way; every input with one entry per position is handled by name.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal
from unittest.mock import patch

import torch
import transformers
from transformers.models.qwen3_5 import modeling_qwen3_5

from tests.engine import configs
from tests.engine.configs import BOI, BOS, EOI, IMAGE, PAD, VISION_END, VISION_START
from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt, PositionClass
from vseam_core.api.types import ModelInfo

LAYERS, HEADS, VOCABULARY = configs.LAYERS, configs.HEADS, configs.VOCABULARY
Padding = Literal["left", "right"]
Inputs = dict[str, torch.Tensor]

# Inputs with one entry per position of the language model's sequence, and what a padded position gets.
PER_POSITION = {"input_ids": PAD, "attention_mask": 0, "token_type_ids": 0, "mm_token_type_ids": 0, "cross_attention_mask": 0}
# The Q-Former's positions are absolute from the left, so its text is padded on the right whatever the rest does.
PER_QFORMER_POSITION = {"qformer_input_ids": PAD, "qformer_attention_mask": 0}


@dataclass(frozen=True, eq=False)
class Family:
    """One architecture: its class, a tiny configuration, how many positions its image takes, and which inputs it reads besides.

    `image_first` puts the beginning-of-text token after the image (Q-Former families). `pixels(seed)` are the image inputs, `per_prompt`
    makes the inputs that follow the ids. `stack` is where the positions live. `image_is_read` is False where the image token is no place
    of the image; `attentions` are the implementations that the library has for the family.
    """

    class_name: str
    config: Callable[[], Any]
    image_positions: int
    pixels: Callable[[int], Inputs]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    image_first: bool = False
    per_prompt: Callable[[torch.Tensor, Sequence[int]], Inputs] = lambda ids, text: {}
    stack: Literal["decoder", "encoder"] = "decoder"
    image_is_read: bool = True
    attentions: tuple[str, ...] = ("eager", "sdpa")


def _noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


def _plain(seed: int) -> Inputs:
    return {"pixel_values": _noise(seed, 3, 32, 32)}


def _with_crops(seed: int) -> Inputs:
    return {"pixel_values": _noise(seed, 3, 3, 32, 32), "image_sizes": torch.tensor([[32, 64]])}


def _with_size(seed: int) -> Inputs:
    return {**_plain(seed), "image_sizes": torch.tensor([[32, 32]])}


def _one_image(seed: int) -> Inputs:
    return {"pixel_values": _noise(seed, 1, 3, 32, 32), "pixel_attention_mask": torch.ones(1, 1, 32, 32, dtype=torch.long)}


def _one_tile(seed: int) -> Inputs:
    ones = torch.ones(1, 1, dtype=torch.long)
    return {"pixel_values": _noise(seed, 1, 1, 3, 32, 32), "aspect_ratio_ids": ones, "aspect_ratio_mask": ones[..., None]}


def _patches(seed: int) -> Inputs:
    # A grid of 4 × 8 patches, flat and without a batch dimension; 2 × 2 of them make one position.
    return {"pixel_values": _noise(seed, 32, 3 * 2 * 4 * 4)[0], "image_grid_thw": torch.tensor([[1, 4, 8]])}


def _marked(name: str) -> Callable[[torch.Tensor, Sequence[int]], Inputs]:
    return lambda ids, text: {name: (ids == IMAGE).long()}


def _prefix(ids: torch.Tensor, text: Sequence[int]) -> Inputs:
    return {"token_type_ids": torch.zeros_like(ids)}


def _cross(ids: torch.Tensor, text: Sequence[int]) -> Inputs:
    # Positions before the image token do not see the image.
    seen = (ids == IMAGE).cumsum(1).clamp(max=1)
    return {"cross_attention_mask": seen[:, :, None, None]}


def _question(ids: torch.Tensor, text: Sequence[int]) -> Inputs:
    read = torch.tensor([list(text)])
    return {"qformer_input_ids": read, "qformer_attention_mask": torch.ones_like(read)}


def _start(ids: torch.Tensor, text: Sequence[int]) -> Inputs:
    return {"decoder_input_ids": torch.tensor([[PAD]])}


def _question_and_start(ids: torch.Tensor, text: Sequence[int]) -> Inputs:
    return {**_question(ids, text), **_start(ids, text)}


_QWEN: dict[str, Any] = {
    "image_positions": 8, "pixels": _patches, "before": (VISION_START,), "after": (VISION_END,), "per_prompt": _marked("mm_token_type_ids")
}  # fmt: skip
_QFORMER: dict[str, Any] = {"image_positions": 8, "pixels": _plain, "image_first": True}

FAMILIES: dict[str, Family] = {
    "llava": Family("LlavaForConditionalGeneration", configs.llava, 16, _plain),
    "vipllava": Family("VipLlavaForConditionalGeneration", configs.vipllava, 16, _plain),
    "llava_next": Family("LlavaNextForConditionalGeneration", configs.llava_next, 52, _with_crops),
    "llava_onevision": Family("LlavaOnevisionForConditionalGeneration", configs.llava_onevision, 52, _with_crops),
    "pixtral_llava": Family("LlavaForConditionalGeneration", configs.pixtral_llava, 16, _with_size),
    "mistral3": Family("Mistral3ForConditionalGeneration", configs.mistral3, 4, _with_size),
    "internvl": Family("InternVLForConditionalGeneration", configs.internvl, 4, _plain),
    "aya_vision": Family("AyaVisionForConditionalGeneration", configs.aya_vision, 4, _plain),
    "idefics3": Family("Idefics3ForConditionalGeneration", configs.idefics3, 4, _one_image),
    "smolvlm": Family("SmolVLMForConditionalGeneration", configs.smolvlm, 4, _one_image),
    "instructblip_llama": Family("InstructBlipForConditionalGeneration", configs.instructblip_llama, per_prompt=_question, **_QFORMER),
    "instructblip_t5": Family(
        "InstructBlipForConditionalGeneration", configs.instructblip_t5, per_prompt=_question_and_start, stack="encoder", **_QFORMER
    ),
    "blip2_opt": Family("Blip2ForConditionalGeneration", configs.blip2_opt, **_QFORMER),
    "blip2_t5": Family("Blip2ForConditionalGeneration", configs.blip2_t5, per_prompt=_start, stack="encoder", **_QFORMER),
    "qwen2_vl": Family("Qwen2VLForConditionalGeneration", configs.qwen2_vl, **_QWEN),
    "qwen2_5_vl": Family("Qwen2_5_VLForConditionalGeneration", configs.qwen2_5_vl, **_QWEN),
    "qwen3_vl": Family("Qwen3VLForConditionalGeneration", configs.qwen3_vl, **_QWEN),
    "qwen3_5": Family("Qwen3_5ForConditionalGeneration", configs.qwen3_5, **_QWEN),
    "paligemma": Family("PaliGemmaForConditionalGeneration", configs.paligemma, 16, _plain, per_prompt=_prefix),
    "paligemma2": Family("PaliGemmaForConditionalGeneration", configs.paligemma2, 16, _plain, per_prompt=_prefix, attentions=("eager",)),
    "gemma3": Family(
        "Gemma3ForConditionalGeneration", configs.gemma3, 4, _plain, (BOI,), (EOI,), per_prompt=_marked("token_type_ids")
    ),
    "mllama": Family("MllamaForConditionalGeneration", configs.mllama, 1, _one_tile, per_prompt=_cross, image_is_read=False),
}  # fmt: skip


def build(family: str, attention: str = "eager", dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A model of the family with large random weights: at the library's own initialisation mistakes do not show (and Mllama's
    gates are closed)."""
    chosen = FAMILIES[family]
    module = getattr(transformers, chosen.class_name)._from_config(chosen.config(), attn_implementation=attention)
    module = module.eval().to(torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                parameter.copy_(noise * (0.25 if parameter.shape[-1] > 4 else 0.5))
            elif "norm" in name.lower() and name.endswith("weight"):
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(0.3 * noise)
            if name.endswith("Attention.q.weight"):
                # T5 divides nothing by √d: its query weights are drawn smaller instead, or attention is all or nothing.
                parameter.mul_(configs.T5_HEAD_DIM**-0.5)
    # Drawn in float32 whatever the dtype, so that the same seed means the same model.
    return module.to(dtype)


class TinyVLM(VisionLanguageModel):
    """A tiny model as an engine takes it; `padding` is the side on which `collate` pads."""

    def __init__(self, family: str, attention: str = "eager", dtype: torch.dtype = torch.float32, seed: int = 0, padding: Padding = "left"):
        self.family = FAMILIES[family]
        self.module: Any = build(family, attention, dtype, seed)
        self.dtype, self.padding = dtype, padding
        size = configs.HEAD_DIMS.get(family, configs.WIDTH // HEADS)
        self.info = ModelInfo(f"tiny-{family}", family, "random", f"seed-{seed}", str(dtype), attention, "cpu", LAYERS, HEADS, size)

    @property
    def pads_left(self) -> bool:
        """Whether an engine may batch prompts of different length and read the last position."""
        # In float64 with eager attention pads become NaN, as in any model of the library.
        return self.padding == "left" and not (self.dtype == torch.float64 and self.info.attention == "eager")

    def prompt(self, image: int, text: Sequence[int]) -> EncodedPrompt:
        """The image of noise drawn from seed `image`, and a question of the given token ids."""
        family = self.family
        picture = (*family.before, *[IMAGE] * family.image_positions, *family.after)
        ids = (*picture, BOS, *text) if family.image_first else (BOS, *picture, *text)
        input_ids = torch.tensor([ids])
        inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), **family.pixels(image)}
        inputs.update(family.per_prompt(input_ids, text))
        key = hashlib.sha256(repr((self.info.family, image, ids)).encode()).hexdigest()
        return EncodedPrompt(
            inputs=inputs,
            ids=ids,
            tokens=tuple(str(token) for token in ids),
            classes=self._classes(ids),
            roles=("",) * len(ids),
            text=" ".join(map(str, text)),
            key=key,
        )

    def _classes(self, ids: Sequence[int]) -> tuple[PositionClass, ...]:
        first = ids.index(IMAGE)
        classes: list[PositionClass] = []
        for position, token in enumerate(ids):
            if token == IMAGE:
                # Mllama reads its image by cross-attention: its image token is a mark, not a place of the image.
                classes.append("image" if self.family.image_is_read else "structural_before")
            elif token in (BOS, *self.family.before, *self.family.after):
                classes.append("structural_before" if position < first else "structural_after")
            else:
                classes.append("question")
        classes[-1] = "last"
        return tuple(classes)

    def collate(self, prompts: Sequence[EncodedPrompt]) -> Inputs:
        """One batch, padded on `self.padding` where lengths differ."""
        batch: Inputs = {}
        for name in prompts[0].inputs:
            tensors = [prompt.inputs[name] for prompt in prompts]
            if name in PER_QFORMER_POSITION:
                tensors = padded(tensors, PER_QFORMER_POSITION[name], "right")
            elif name in PER_POSITION:
                tensors = padded(tensors, PER_POSITION[name], self.padding)
            joined = torch.cat(tensors)
            batch[name] = joined.to(self.dtype) if joined.is_floating_point() else joined
        return batch

    def encode(self, *arguments: Any, **named: Any) -> EncodedPrompt:
        raise NotImplementedError("these prompts are made of token ids: use `prompt`")

    def answer_ids(self, *arguments: Any) -> AnswerIds:
        raise NotImplementedError("these answers are written by hand")

    def answer_tokens(self, *arguments: Any) -> tuple[int, ...]:
        raise NotImplementedError("these answers are written by hand")

    def generate(self, *arguments: Any, **named: Any) -> list[str]:
        raise NotImplementedError("nothing is generated here")


@contextmanager
def softmax_in_float64(model: TinyVLM) -> Iterator[None]:
    """Let a float64 model compute its attention in float64: the library's eager attention asks for a float32 softmax in any dtype,
    and so agrees with nothing beyond 1e-6, itself in another order of summation included. Other models are left as they are."""
    library = torch.nn.functional.softmax

    def own(values: torch.Tensor, dim: int, dtype: torch.dtype | None = None, **more: Any) -> torch.Tensor:
        return library(values, dim=dim, dtype=None if values.dtype == torch.float64 else dtype, **more)

    with ExitStack() as stack:
        if model.dtype == torch.float64:
            stack.enter_context(patch.object(torch.nn.functional, "softmax", own))
            for name in ("chunk", "recurrent"):
                rule = f"torch_{name}_gated_delta_rule"
                stack.enter_context(patch.object(modeling_qwen3_5, rule, _in_float64(getattr(modeling_qwen3_5, rule))))
        yield


def _in_float64(rule: Callable[..., Any]) -> Callable[..., Any]:
    """A copy of a function for which float32 is float64: the library's delta rule computes in float32 whatever it is given."""
    inner = inspect.unwrap(rule)
    names = {**inner.__globals__, "torch": _Float64Torch()}
    copy = FunctionType(inner.__code__, names, inner.__name__, inner.__defaults__, inner.__closure__)
    copy.__kwdefaults__ = inner.__kwdefaults__
    return copy


class _Float64Torch:
    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def padded(tensors: Sequence[torch.Tensor], value: int, side: Padding) -> list[torch.Tensor]:
    """Tensors `[1, positions, …]` made equally long with `value` on one side."""
    longest = max(tensor.shape[1] for tensor in tensors)
    result = []
    for tensor in tensors:
        filler = tensor.new_full((1, longest - tensor.shape[1], *tensor.shape[2:]), value)
        result.append(torch.cat([filler, tensor] if side == "left" else [tensor, filler], 1))
    return result
