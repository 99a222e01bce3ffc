"""Names of models and datasets: those that plugins supply, and those that the user adds in registry.yaml.

The file is taken from the `path` given, else from the environment variable VSEAM_REGISTRY, else from `registry.yaml` in the
working directory; without one, the names of the plugins are all there is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from vseam_core.config.loading import HUB_PREFIX
from vseam_core.errors import InvalidFileError, NameClashError, UnknownNameError, VseamError, did_you_mean
from vseam_core.plugins.discovery import Plugins
from vseam_core.plugins.loading import Record, Registration
from vseam_core.plugins.records import DatasetRecord, ModelRecord, import_factory

if TYPE_CHECKING:
    from vseam_core.api.interfaces import Benchmark, VisionLanguageModel
    from vseam_core.api.types import ModelDescription
    from vseam_core.plugins.registry_yaml import RegistryEntry

REGISTRY_FILE = "registry.yaml"
REGISTRY_VARIABLE = "VSEAM_REGISTRY"
GENERIC_LOADER = "hf"
GENERIC_DATASET = "table"
QUESTION_FILES = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
"""Endings of files that are datasets by their path."""

_RANDOM = re.compile(r"(?P<base>.+)@random-(?P<seed>\d+)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Resolved(Generic[Record]):
    """A name made out: the record that loads it, the options on top of the record's own, and who defined it."""

    name: str
    registration: Registration[Record]
    options: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    summary: str = ""

    @property
    def record(self) -> Record:
        """The plugin record behind the name."""
        return self.registration.record


@dataclass(frozen=True)
class Listed:
    """One line of `vseam models` or `vseam datasets`. `problem` says why the name cannot be used, if it cannot."""

    name: str
    summary: str
    plugin: str
    origin: str
    source: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Registry:
    """The names of models and datasets that can be loaded; built by `load_registry`."""

    plugins: Plugins
    models: Mapping[str, RegistryEntry] = field(default_factory=dict)
    datasets: Mapping[str, RegistryEntry] = field(default_factory=dict)
    images: str | None = None

    def model(self, name: str) -> Resolved[ModelRecord]:
        """What `name` stands for: a registered name, a checkpoint folder, or a hub id `org/name`.

        The suffix `@random-S` (`llava-tiny@random-3`) means the same architecture freshly initialised from seed S.
        Raises `UnknownNameError` with the closest names, and `NameClashError` for a name with two owners.
        """
        random = _RANDOM.fullmatch(name)
        if random:
            base = self.model(random["base"])
            return replace(base, name=name, options={**base.options, "random_seed": int(random["seed"])})
        if "@" in name and not Path(name).expanduser().exists():
            raise UnknownNameError(f"model {name!r}: expected NAME@random-SEED after the '@', such as llava-tiny@random-3")
        if name in self.models or name in self.plugins.names(ModelRecord):
            return self._registered(ModelRecord, self.models, name)
        return self._by_source(name)

    def loadable_model(self, name: str) -> Resolved[ModelRecord]:
        """What `name` stands for, as `model` finds it. Raises `VseamError` also where it is a loader that lacks a source."""
        resolved = self.model(name)
        if resolved.record.is_loader and not resolved.options.get("source"):
            given = f" (its options are {', '.join(map(str, resolved.options))})" if resolved.options else ""
            raise VseamError(
                f"model {name!r} is a loader and needs a source{given}: add to {REGISTRY_FILE} "
                f"`models: {{my-model: {{plugin: {resolved.record.name}, options: {{source: FOLDER-OR-HUB-ID}}}}}}`"
            )
        return resolved

    def dataset(self, name: str) -> Resolved[DatasetRecord]:
        """What `name` stands for: a registered name, `hub:OWNER/NAME[:SPLIT]`, or a file of questions by its path, whose images lie beside
        it or in `images`.

        Raises `UnknownNameError` and `NameClashError` as `model` does.
        """
        if name not in self.datasets and name not in self.plugins.names(DatasetRecord):
            if name.startswith(HUB_PREFIX):
                source, _, split = name.removeprefix(HUB_PREFIX).partition(":")
                return self._table(name, f"{HUB_PREFIX}{source}", "hub", {"source_split": split} if split else {})
            if Path(name).suffix.lower() in QUESTION_FILES:
                return self._question_file(name)
            known = {*self.datasets, *self.plugins.names(DatasetRecord)}
            files = f"; or a file of questions ({', '.join(QUESTION_FILES)}), or {HUB_PREFIX}OWNER/NAME"
            raise UnknownNameError(f"unknown dataset {name!r}; {did_you_mean(name, known)}{files}{self.plugins.broken_note()}")
        return self._registered(DatasetRecord, self.datasets, name)

    def _question_file(self, name: str) -> Resolved[DatasetRecord]:
        path = Path(name).expanduser()
        if not os.path.exists(path):
            raise UnknownNameError(f"dataset {name!r}: expected a file of questions there; there is none")
        return self._table(name, str(path), "file", {})

    def _table(self, name: str, questions: str, origin: str, options: Mapping[str, Any]) -> Resolved[DatasetRecord]:
        registration = self.plugins.find(DatasetRecord, GENERIC_DATASET)
        given = {"name": name, "questions": questions, **({"images": self.images} if self.images else {}), **options}
        return Resolved(name, registration, given, origin, registration.record.summary)

    def load_model(self, name: str, device: str = "auto", dtype: str | None = None, **overrides: Any) -> VisionLanguageModel:
        """Load a model by name, ready to answer; `overrides` win over the options of the registry and the record.

        Raises `VseamError` kinds: unknown name, missing package, missing checkpoint.
        """
        from vseam_core.api.interfaces import VisionLanguageModel

        resolved = self.model(name) if overrides.get("source") else self.loadable_model(name)
        options = {**resolved.options, **overrides}
        source = options.pop("source", None) or self._source(resolved)
        if dtype is not None:
            options["dtype"] = dtype
        if device != "auto":
            options["device"] = device
        with _at_its_place(resolved, "model", self.models):
            return resolved.registration.create(VisionLanguageModel, resolved.name, str(source), **options)

    def describe_model(self, name: str, **overrides: Any) -> ModelDescription | None:
        """What the files on this machine say about a model, without loading weights; None where its plugin cannot say.

        Raises `VseamError` kinds for an unknown name.
        """
        resolved = self.loadable_model(name)
        if resolved.record.describer is None:
            return None
        options = {**resolved.record.options, **resolved.options, **overrides}
        source = options.pop("source", None) or self._source(resolved)
        return resolved.registration.call(partial(import_factory(resolved.record.describer), **options), resolved.name, str(source))

    def load_dataset(self, name: str, **overrides: Any) -> Benchmark:
        """Make a benchmark by name; `overrides` win over the options of the registry and the record.

        The option `instruction` (a text with `{question}` in it) belongs to every dataset: its questions are asked in it.
        """
        from vseam_core.api.interfaces import Benchmark

        resolved = self.dataset(name)
        options = {**resolved.options, **overrides}
        instruction = options.pop("instruction", None)
        with _at_its_place(resolved, "dataset", self.datasets):
            benchmark = resolved.registration.create(Benchmark, **options)
        if instruction is None and (name not in self.datasets or getattr(benchmark, "name", name) == name):
            return benchmark
        from vseam_core.plugins.aliased_benchmark import RegisteredBenchmark

        return RegisteredBenchmark(benchmark, resolved.name, instruction)

    def list_models(self) -> list[Listed]:
        """Every model name with its source and what is wrong with it, if anything; loaders without a source are left out."""
        names = [registration.record.name for registration in self.plugins.registrations(ModelRecord) if not registration.record.is_loader]
        return list(self._list(ModelRecord, self.models, names))

    def list_datasets(self) -> list[Listed]:
        """Every dataset name and what is wrong with it, if anything."""
        return list(self._list(DatasetRecord, self.datasets, self.plugins.names(DatasetRecord)))

    def _registered(self, kind: type[Record], entries: Mapping[str, RegistryEntry], name: str) -> Resolved[Record]:
        entry = entries.get(name)
        if entry is None:
            registration = self.plugins.find(kind, name)
            return Resolved(name, registration, {}, str(registration.origin), registration.record.summary)
        if name in self.plugins.names(kind) and not entry.override:
            owners = " and ".join(item.origin.distribution for item in self.plugins.registrations(kind) if item.record.name == name)
            raise NameClashError(
                f"{kind.kind} {name!r} is claimed by {entry.place} and {owners}; rename the entry or say `override: true` there"
            )
        try:
            registration = self.plugins.find(kind, entry.plugin)
        except UnknownNameError as error:
            raise UnknownNameError(f"{entry.place}: {kind.kind} {name!r}: plugin: {error}") from error
        return Resolved(name, registration, entry.options, entry.place, entry.summary or registration.record.summary)

    def _by_source(self, name: str) -> Resolved[ModelRecord]:
        folder = Path(name).expanduser()
        if folder.is_dir() or (_HUB_ID.fullmatch(name) and not name.startswith(".")):
            source = str(folder) if folder.is_dir() else name
            registration = self.plugins.find(ModelRecord, GENERIC_LOADER)
            return Resolved(name, registration, {"source": source}, "folder" if folder.is_dir() else "hub", registration.record.summary)
        if name.startswith((".", "/", "~")) or folder.exists():
            raise UnknownNameError(f"model {name!r}: expected a checkpoint folder there; there is none")
        known = [item.name for item in self.list_models()]
        raise UnknownNameError(
            f"unknown model {name!r}; {did_you_mean(name, known)}; or a checkpoint folder, or a hub id such as org/name"
            f"{self.plugins.broken_note()}"
        )

    def _source(self, resolved: Resolved[ModelRecord]) -> str:
        record = resolved.record
        if record.source_factory is not None:
            return str(resolved.registration.call(record.source_factory, record.name))
        return str(record.source)

    def _list(self, kind: type[Record], entries: Mapping[str, RegistryEntry], supplied: tuple[str, ...] | list[str]) -> Iterator[Listed]:
        for name in sorted({*entries, *supplied}):
            try:
                resolved = self._registered(kind, entries, name)
            except VseamError as error:
                yield Listed(name, "", "", entries[name].place if name in entries else "", problem=str(error))
                continue
            source = str(resolved.options.get("source") or getattr(resolved.record, "source", None) or "")
            if not source and getattr(resolved.record, "source_factory", None):
                source = "embedded"
            yield Listed(name, resolved.summary, resolved.registration.origin.plugin, resolved.origin, source)


@contextmanager
def _at_its_place(resolved: Resolved[Any], kind: str, entries: Mapping[str, RegistryEntry]) -> Iterator[None]:
    """What is wrong with a name of the registry file is said with its place there, and by that name."""
    try:
        yield
    except VseamError as error:
        if resolved.name not in entries:
            raise
        named = f"{kind} {resolved.name!r}"
        said = str(error) if str(error).startswith(named) else f"{named}: {error}"
        raise type(error)(f"{resolved.origin}: {said}") from error


def registry_path(path: str | Path | None = None) -> Path | None:
    """The registry file that counts: the one given, else VSEAM_REGISTRY, else ./registry.yaml if it is there."""
    chosen = path or os.environ.get(REGISTRY_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(REGISTRY_FILE) if Path(REGISTRY_FILE).is_file() else None


def load_registry(plugins: Plugins, path: str | Path | None = None, images: str | None = None) -> Registry:
    """The names of the plugins with those of the registry file on top; `images` is where images of question files lie that have no name.

    Raises `InvalidFileError` with file, line and what was expected when the file cannot be understood, or is missing although it
    was named.
    """
    file = registry_path(path)
    if file is None:
        return Registry(plugins, images=images)
    if not os.path.exists(file):
        raise InvalidFileError(f"{file}: no such registry file")
    from vseam_core.plugins.registry_yaml import read_registry_file

    sections = read_registry_file(file)
    return Registry(plugins, sections["models"], sections["datasets"], images)
