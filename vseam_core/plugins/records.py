"""The records that plugins register: a name, one line about it, and a factory that is imported only when it is used.

A plugin yields these from its hooks (`vseam_core.plugins.hookspecs`); nothing in them imports torch or any other heavy package.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

PLUGIN_API = 1
Factory = str | Callable[..., Any]

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def import_factory(factory: Factory) -> Callable[..., Any]:
    """The callable that a record names as `"module:attribute"`, imported now; a callable is returned as it is.

    Raises ImportError or AttributeError when there is no such module or attribute.
    """
    if callable(factory):
        return factory
    module, _, attribute = factory.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    if not callable(found):
        raise AttributeError(f"{factory} is a {type(found).__name__}, not something to call")
    return found


@dataclass(frozen=True, kw_only=True)
class PluginRecord:
    """What a plugin supplies under one name.

    `factory` is `"module:attribute"` (imported on first use) or a callable that needs no import. `options` are the keyword
    arguments it is called with; a registry entry or the caller may add to them. `extra` names the optional extra of the plugin's
    own distribution whose packages the factory needs: a missing one becomes a line that says what to install.
    `renamed_options` are options that had another name, old → new: the old one still works, with a warning. `experimental` marks what
    may give other results with any release: it is listed as such, and whoever uses it is warned. Raises ValueError for a name,
    summary or factory that is malformed.
    """

    kind: ClassVar[str] = ""

    name: str
    summary: str
    factory: Factory
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: str | None = None
    renamed_options: Mapping[str, str] = field(default_factory=dict)
    experimental: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME_PATTERN.fullmatch(self.name):
            raise ValueError(f"record name {self.name!r}: expected letters, digits and . _ / + -")
        if not isinstance(self.summary, str) or not self.summary.strip() or "\n" in self.summary:
            raise ValueError(f"record {self.name!r}: the summary must be one line")
        if not callable(self.factory) and not _FACTORY.fullmatch(str(self.factory)):
            raise ValueError(f"record {self.name!r}: factory {self.factory!r} is neither 'module:attribute' nor callable")


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known about published weights without having them; None where it is not known.

    `parameters` is the count (of the whole model, vision included), `licence` what its authors say, `gated` whether the hub asks
    for an agreement first.
    """

    parameters: float | None = None
    licence: str | None = None
    gated: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ModelRecord(PluginRecord):
    """A way to load vision-language models, or one named model.

    The factory is `load(name, source, *, device, dtype, **options) -> VisionLanguageModel`. A record with a `source` (a folder or
    a hub id) or a `source_factory` (called with the record's name for the source, when the model is loaded) is a model
    that users name; one without is a loader that registry entries give a source: `{plugin: NAME, options: {source: …}}`.
    `facts` is what can be said of it unseen; `describer` is called as `describe(name, source, **options) -> ModelDescription` by
    `vseam models show` and must neither load weights nor ask the network.
    """

    kind: ClassVar[str] = "model"

    source: str | None = None
    source_factory: Factory | None = None
    facts: ModelFacts | None = None
    describer: Factory | None = None

    @property
    def is_loader(self) -> bool:
        """Whether a source must be given before anything can be loaded."""
        return self.source is None and self.source_factory is None


@dataclass(frozen=True, kw_only=True)
class DatasetRecord(PluginRecord):
    """A benchmark: the factory returns a `Benchmark`; registry entries may name it with other options."""

    kind: ClassVar[str] = "dataset"


@dataclass(frozen=True, kw_only=True)
class EditorRecord(PluginRecord):
    """An image editor: the factory returns an `Editor`, or a `Painter` or `EditedImages`, which the core makes an editor."""

    kind: ClassVar[str] = "editor"


@dataclass(frozen=True, kw_only=True)
class TracerRecord(PluginRecord):
    """A causal tracing method: the factory returns a `Tracer`."""

    kind: ClassVar[str] = "tracer"


@dataclass(frozen=True, kw_only=True)
class HeadInterventionRecord(PluginRecord):
    """A way to replace or rescale attention heads: the factory returns a `HeadIntervention`."""

    kind: ClassVar[str] = "head intervention"


@dataclass(frozen=True, kw_only=True)
class GenerationMethodRecord(PluginRecord):
    """A way to change how answers are generated: the factory is a class, or a function, that returns a `GenerationMethod`."""

    kind: ClassVar[str] = "generation method"


@dataclass(frozen=True, kw_only=True)
class MaskProviderRecord(PluginRecord):
    """A way to find the pixels of a concept: the factory returns a `MaskProvider`."""

    kind: ClassVar[str] = "mask provider"


@dataclass(frozen=True, kw_only=True)
class EditPlannerRecord(PluginRecord):
    """A way to decide what to edit: the factory returns an `EditPlanner`."""

    kind: ClassVar[str] = "edit planner"


@dataclass(frozen=True, kw_only=True)
class CommandRecord(PluginRecord):
    """A verb of the command line: `factory` names a `click.Command` or `click.Group` (`"module:attribute"`)."""

    kind: ClassVar[str] = "command"
