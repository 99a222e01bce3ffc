"""The published models that have a name here, as data: hub id, size, licence, whether the hub asks for an agreement.

Parameter counts are of the whole model, rounded as its authors give them or as its weights add up; licences are those of the weights,
in the words of the model's page or of its language model where that decides. None stands for what is not known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vseam_core.plugins.records import ModelFacts, ModelRecord


class Loader(NamedTuple):
    """A family with a loader of its own: the module in this folder, and the line that users read."""

    module: str
    summary: str

    @property
    def factory(self) -> str:
        """What loads a checkpoint."""
        return f"vseam_plugins.models.{self.module}:load"

    @property
    def describer(self) -> str:
        """What says what a checkpoint is without loading it."""
        return f"vseam_plugins.models.{self.module}:describe"


LOADERS: dict[str, Loader] = {
    "llava": Loader("llava", "loads any LLaVA checkpoint"),
    "instructblip": Loader("instructblip", "loads any InstructBLIP checkpoint"),
    "hf": Loader("hf", "loads any Hugging Face image-text-to-text checkpoint"),
}

_LLAMA2 = "Llama 2 Community Licence (Vicuna)"
_QWEN_RESEARCH = "Qwen Research Licence (not commercial)"
_INTERNVL = "MIT; its Qwen2.5 language model under its own"
_GEMMA = "Gemma Terms of Use"
_VICUNA_11 = "LLaMA 1 terms, research only (Vicuna 1.1)"


class Entry(NamedTuple):
    """One published model; `loader` is the plugin record that loads it."""

    name: str
    source: str
    summary: str
    parameters: float | None
    licence: str | None
    gated: bool | None = False
    loader: str = "hf"
    extra: str | None = None


CATALOGUE: tuple[Entry, ...] = (
    Entry("llava-1.5-7b", "llava-hf/llava-1.5-7b-hf", "LLaVA 1.5, 7B", 7.06e9, _LLAMA2, loader="llava"),
    Entry("llava-1.5-13b", "llava-hf/llava-1.5-13b-hf", "LLaVA 1.5, 13B", 13.35e9, _LLAMA2, loader="llava"),
    Entry("vip-llava-7b", "llava-hf/vip-llava-7b-hf", "ViP-LLaVA 7B: five vision layers side by side", 7.1e9, _LLAMA2, loader="llava"),
    Entry("llava-next-mistral-7b", "llava-hf/llava-v1.6-mistral-7b-hf", "LLaVA-NeXT (1.6) on Mistral 7B", 7.57e9, "Apache-2.0"),
    Entry("llava-next-vicuna-7b", "llava-hf/llava-v1.6-vicuna-7b-hf", "LLaVA-NeXT (1.6) on Vicuna 7B", 7.06e9, _LLAMA2),
    Entry("llava-onevision-0.5b", "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "LLaVA-OneVision, 0.5B", 0.89e9, "Apache-2.0"),
    Entry("llava-onevision-7b", "llava-hf/llava-onevision-qwen2-7b-ov-hf", "LLaVA-OneVision, 7B", 8.03e9, "Apache-2.0"),
    Entry(
        "instructblip-vicuna-7b", "Salesforce/instructblip-vicuna-7b", "InstructBLIP with Vicuna 7B", 7.9e9, _VICUNA_11,
        loader="instructblip",
    ),
    Entry(
        "instructblip-vicuna-13b", "Salesforce/instructblip-vicuna-13b", "InstructBLIP with Vicuna 13B", 14.2e9, _VICUNA_11,
        loader="instructblip",
    ),
    Entry(
        "instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xl", "InstructBLIP with Flan-T5 XL", 4.0e9, "MIT",
        loader="instructblip",
    ),
    Entry("blip2-opt-2.7b", "Salesforce/blip2-opt-2.7b", "BLIP-2 with OPT 2.7B", 3.74e9, "MIT (OPT: its own research licence)"),
    Entry("blip2-flan-t5-xl", "Salesforce/blip2-flan-t5-xl", "BLIP-2 with Flan-T5 XL", 3.94e9, "MIT"),
    Entry("qwen2-vl-2b", "Qwen/Qwen2-VL-2B-Instruct", "Qwen2-VL, 2B", 2.21e9, "Apache-2.0"),
    Entry("qwen2.5-vl-3b", "Qwen/Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL, 3B", 3.75e9, _QWEN_RESEARCH),
    Entry("qwen2.5-vl-7b", "Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL, 7B", 8.29e9, "Apache-2.0"),
    Entry("qwen3-vl-2b", "Qwen/Qwen3-VL-2B-Instruct", "Qwen3-VL, 2B", 2.13e9, "Apache-2.0"),
    Entry("qwen3-vl-4b", "Qwen/Qwen3-VL-4B-Instruct", "Qwen3-VL, 4B", 4.44e9, "Apache-2.0"),
    Entry("qwen3-vl-8b", "Qwen/Qwen3-VL-8B-Instruct", "Qwen3-VL, 8B", 8.77e9, "Apache-2.0"),
    Entry("paligemma2-3b", "google/paligemma2-3b-mix-224", "PaliGemma 2, 3B, the mix for many tasks", 3.03e9, _GEMMA, gated=True),
    Entry("gemma3-4b", "google/gemma-3-4b-it", "Gemma 3, 4B", 4.3e9, _GEMMA, gated=True),
    Entry("smolvlm-256m", "HuggingFaceTB/SmolVLM-256M-Instruct", "SmolVLM, 256M", 0.256e9, "Apache-2.0", extra="smolvlm"),
    Entry("smolvlm-500m", "HuggingFaceTB/SmolVLM-500M-Instruct", "SmolVLM, 500M", 0.508e9, "Apache-2.0", extra="smolvlm"),
    Entry("smolvlm-2.2b", "HuggingFaceTB/SmolVLM-Instruct", "SmolVLM, 2.2B", 2.25e9, "Apache-2.0", extra="smolvlm"),
    Entry("internvl3-1b", "OpenGVLab/InternVL3-1B-hf", "InternVL3, 1B", 0.94e9, _INTERNVL),
    Entry("internvl3-2b", "OpenGVLab/InternVL3-2B-hf", "InternVL3, 2B", 2.09e9, _INTERNVL),
    Entry("internvl3-8b", "OpenGVLab/InternVL3-8B-hf", "InternVL3, 8B", 7.94e9, _INTERNVL),
    Entry("idefics3-8b", "HuggingFaceM4/Idefics3-8B-Llama3", "Idefics3, 8B", 8.46e9, "Apache-2.0"),
)  # fmt: skip


def records() -> Iterator[ModelRecord]:
    """Every entry as a record."""
    for entry in CATALOGUE:
        yield ModelRecord(
            name=entry.name,
            summary=entry.summary,
            factory=LOADERS[entry.loader].factory,
            describer=LOADERS[entry.loader].describer,
            source=entry.source,
            extra=entry.extra,
            facts=ModelFacts(parameters=entry.parameters, licence=entry.licence, gated=entry.gated),
        )
