"""Registers the model loaders, the models known by name, and the verb that trains the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.hookspecs import hookimpl
from vseam_core.records import CommandRecord, ModelRecord

PLUGIN_API = 1

_LLAVA = "vseam_plugins.models.llava:load"
_INSTRUCTBLIP = "vseam_plugins.models.instructblip:load"
_EMBEDDED = "vseam_plugins.models.zoo:checkpoint_path"


@hookimpl
def vseam_models() -> Iterator[ModelRecord]:
    """The loaders, the embedded models and the models of the paper."""
    yield ModelRecord(name="llava", summary="loads any LLaVA checkpoint", factory=_LLAVA)
    yield ModelRecord(name="instructblip", summary="loads any InstructBLIP checkpoint", factory=_INSTRUCTBLIP)
    yield ModelRecord(
        name="hf",
        summary="loads any Hugging Face image-text-to-text checkpoint",
        factory="vseam_plugins.models.hf:load",
    )
    yield ModelRecord(
        name="llava-tiny",
        summary="embedded LLaVA trained on the scenes world",
        factory=_LLAVA,
        source_factory=_EMBEDDED,
    )
    yield ModelRecord(
        name="llava-tiny-skewed",
        summary="embedded LLaVA trained where some colours nearly always go with some objects",
        factory=_LLAVA,
        source_factory=_EMBEDDED,
    )
    yield ModelRecord(
        name="instructblip-tiny",
        summary="embedded InstructBLIP trained on the scenes world",
        factory=_INSTRUCTBLIP,
        source_factory=_EMBEDDED,
    )
    yield ModelRecord(name="llava-1.5-7b", summary="LLaVA 1.5, 7B", factory=_LLAVA, source="llava-hf/llava-1.5-7b-hf")
    yield ModelRecord(name="llava-1.5-13b", summary="LLaVA 1.5, 13B", factory=_LLAVA, source="llava-hf/llava-1.5-13b-hf")
    yield ModelRecord(
        name="instructblip-vicuna-7b",
        summary="InstructBLIP with Vicuna 7B",
        factory=_INSTRUCTBLIP,
        source="Salesforce/instructblip-vicuna-7b",
    )


@hookimpl
def vseam_commands() -> Iterator[CommandRecord]:
    """`vseam zoo train`."""
    yield CommandRecord(
        name="zoo",
        summary="train the embedded models again from nothing",
        factory="vseam_plugins.models.zoo.command:zoo",
    )
