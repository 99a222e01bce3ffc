"""Loads SmolVLM and Idefics3 checkpoints. The image is cut into tiles; each tile is some image positions between markers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from transformers import AutoImageProcessor, GenerationConfig, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor

from vseam_core.api.interfaces import VisionLanguageModel
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import ModelInfo, RoleSpan
from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.huggingface.answers import AnswerReader
from vseam_core.huggingface.fingerprints import inputs_key, processor_hash, weights_hash
from vseam_core.huggingface.prompting import PromptTemplate, align, assign_roles, classify, default_separator, unknown_words, write_prompt

PROMPT = "<|im_start|>User:<image>{question} Answer with a single word.<end_of_utterance>\nAssistant:"


class SmolVlm(VisionLanguageModel):
    """An Idefics3 model with its processor. Tiles have no simple place in the image here, so there are no regions."""

    def __init__(self, module: Any, processor: Any, info: ModelInfo, prompt_template: str = PROMPT) -> None:
        self.module, self.processor, self.info = module, processor, info
        self.tokenizer = processor.tokenizer
        self.template = PromptTemplate.parse(prompt_template)
        added = self.tokenizer.added_tokens_decoder.items()
        self.special = {token.content: number for number, token in added if token.special and number != self.tokenizer.unk_token_id}
        self.separator = default_separator(self.template.after, self.special)

    @property
    def pads_left(self) -> bool:
        """Llama's rotation tells positions apart by their distance, which pads in front do not change."""
        return self.module.config.text_config.model_type == "llama"

    def encode(self, image: Image, question: str, roles: Sequence[RoleSpan] = (), answer_prefix: Sequence[int] = ()) -> EncodedPrompt:
        """The question in the template; the processor puts the tiles in place of `<image>`."""
        if not question.strip():
            raise SampleError("the question is empty")
        if any(token in question for token in self.special):
            raise SampleError("the question contains a control token")
        written = write_prompt(self.tokenizer, self.template, question)
        try:
            found = self.processor(images=[image.convert("RGB")], text=[written.text], return_tensors="pt", add_special_tokens=False)
        except Exception as error:  # processors raise anything for an image that they cannot take
            raise SampleError(f"the processor refuses the sample: {error}") from error
        inputs = dict(found)
        ids = tuple(inputs["input_ids"][0].tolist())
        origins = align(ids, written)
        if answer_prefix:
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([list(answer_prefix)])], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            ids, origins = (*ids, *answer_prefix), [*origins, *[None] * len(answer_prefix)]
        limit = self.module.config.text_config.max_position_embeddings
        if len(ids) > limit:
            raise SampleError(f"the prompt has {len(ids)} tokens, the model reads at most {limit}")
        classes = classify(
            ids,
            origins,
            written,
            image_id=self.module.config.image_token_id,
            bos_id=self.tokenizer.bos_token_id,
            special_ids=frozenset(self.special.values()),
            appended=len(answer_prefix),
        )
        unknown = unknown_words(self.tokenizer, written)
        return EncodedPrompt(
            inputs=inputs,
            ids=ids,
            tokens=tuple(self.tokenizer.convert_ids_to_tokens(list(ids))),
            classes=classes,
            roles=assign_roles(origins, written, roles),
            text=written.text,
            key=inputs_key(inputs, ids),
            notes={"unknown_words": ", ".join(unknown)} if unknown else {},
        )

    def answer_ids(self, prompt: EncodedPrompt, gold: str, competitor: str | None) -> AnswerIds:
        """Where the answers differ; the core's reader does the work."""
        return self._reader(prompt).answer_ids(gold, competitor)

    def answer_tokens(self, prompt: EncodedPrompt, answer: str) -> tuple[int, ...]:
        """The ids of the whole answer."""
        return self._reader(prompt).tokens(answer)

    def collate(self, prompts: Sequence[EncodedPrompt]) -> dict[str, torch.Tensor]:
        """Padded on the left; images must have been cut into as many tiles of one size."""
        lengths = {len(prompt) for prompt in prompts}
        if not prompts or (len(lengths) > 1 and not self.pads_left):
            raise ValueError(f"prompts of {len(lengths)} different lengths cannot stand in one batch")
        batch = {}
        for name in prompts[0].inputs:
            rows = [prompt.inputs[name] for prompt in prompts]
            if name in ("input_ids", "attention_mask"):
                pad = (self.tokenizer.pad_token_id or 0) if name == "input_ids" else 0
                rows = [torch.nn.functional.pad(row, (max(lengths) - row.shape[1], 0), value=pad) for row in rows]
            if len({row.shape for row in rows}) > 1:
                raise ValueError(f"prompts with {name} of different shapes in one batch")
            stacked = torch.cat(rows).to(self.module.device)
            batch[name] = stacked.to(self.module.dtype) if stacked.is_floating_point() else stacked
        return batch

    @torch.no_grad()
    def generate(self, prompts: Sequence[EncodedPrompt], max_new_tokens: int = 8) -> list[str]:
        """The greedy answers, one prompt after the other."""
        ends = sorted({self.special.get("<end_of_utterance>", -1), self.tokenizer.eos_token_id or -1} - {-1})
        plain = GenerationConfig(max_new_tokens=max_new_tokens, eos_token_id=ends or None, pad_token_id=self.tokenizer.pad_token_id or 0)
        answers = []
        for prompt in prompts:
            output = self.module.generate(**self.collate([prompt]), generation_config=plain)
            answers.append(self.tokenizer.decode(output[0, len(prompt) :], skip_special_tokens=True).strip())
        return answers

    def _reader(self, prompt: EncodedPrompt) -> AnswerReader:
        return AnswerReader(self.tokenizer, prompt.text, self.separator, frozenset(self.special.values()))


def load(
    name: str,
    source: str,
    *,
    device: str = "auto",
    dtype: str = "float32",
    random_seed: int | None = None,
    prompt_template: str = PROMPT,
) -> SmolVlm:
    """What `vseam --model NAME` calls. `source` is a folder or a hub id; `random_seed` gives fresh weights (`NAME@random-3`)."""
    folder = Path(source).expanduser()
    where = str(folder) if folder.is_dir() else source
    number_format = getattr(torch, dtype)
    try:
        processor = Idefics3Processor.from_pretrained(where)
        processor.image_processor = AutoImageProcessor.from_pretrained(where, backend="pil")
        if random_seed is None:
            module: Any = Idefics3ForConditionalGeneration.from_pretrained(where, dtype=number_format, use_safetensors=True)
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(random_seed)
                module = Idefics3ForConditionalGeneration(Idefics3Config.from_pretrained(where)).to(number_format)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidFileError(f"model {name!r}: {source} is no SmolVLM checkpoint that can be read: {reason}") from error
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    module.to(device).eval().requires_grad_(False)
    return SmolVlm(module, processor, _described(name, source, module, processor), prompt_template)


def _described(name: str, source: str, module: Any, processor: Any) -> ModelInfo:
    """What identifies the model in the store: everything that changes its numbers."""
    text = module.config.text_config
    return ModelInfo(
        name=name,
        family="smolvlm",
        source=source,
        weights_hash=weights_hash(module),
        dtype=str(module.dtype).removeprefix("torch."),
        attention=module.config._attn_implementation,
        device=str(module.device),
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        processor_hash=processor_hash(processor),
    )
