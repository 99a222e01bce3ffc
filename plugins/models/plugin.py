"""Registers the model loaders, the models known by name, and the verb that trains the embedded ones."""

from __future__ import annotations

from collections.abc import Iterator

from vseam_core.plugins.hookspecs import hookimpl
from vseam_core.plugins.records import CommandRecord, ModelFacts, ModelRecord
from vseam_plugins.models.catalogue import LOADERS, records

PLUGIN_API = 1

_EMBEDDED = "vseam_plugins.models.zoo:checkpoint_path"
# Embedded models: their loader and what they are.
_ZOO = {
    "llava-tiny": ("llava", "embedded LLaVA trained on the scenes world"),
    "llava-tiny-skewed": ("llava", "embedded LLaVA trained where some colours nearly always go with some objects"),
    "instructblip-tiny": ("instructblip", "embedded InstructBLIP trained on the scenes world"),
}


@hookimpl
def vseam_models() -> Iterator[ModelRecord]:
    """The loaders, the embedded models and the published ones of the catalogue."""
    for name, family in LOADERS.items():
        yield ModelRecord(name=name, summary=family.summary, factory=family.factory, describer=family.describer)
    for name, (loader, summary) in _ZOO.items():
        yield ModelRecord(
            name=name,
            summary=summary,
            factory=LOADERS[loader].factory,
            describer=LOADERS[loader].describer,
            source_factory=_EMBEDDED,
            facts=ModelFacts(licence="Apache-2.0", gated=False),
        )
    yield from records()


@hookimpl
def vseam_commands() -> Iterator[CommandRecord]:
    """`vseam zoo train`."""
    yield CommandRecord(
        name="zoo",
        summary="train the embedded models again from nothing",
        factory="vseam_plugins.models.zoo.command:zoo",
    )
