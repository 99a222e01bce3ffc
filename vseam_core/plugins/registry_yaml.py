"""The form of registry.yaml, and what such a file may never switch on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vseam_core.config.yaml_files import Location, YamlFile, read_yaml
from vseam_core.plugins.records import NAME_PATTERN

# A file in the working directory may come from anyone: it names data, never code. Only a command-line flag can allow these.
UNSAFE_OPTIONS = frozenset(
    {
        "trust_remote_code",
        "code_revision",
        "custom_pipeline",
        "custom_generate",
        "allow_pickle",
        "weights_only",
        "use_safetensors",
        "factory",
        "source_factory",
        "import_path",
        "sys_path",
    }
)


@dataclass(frozen=True)
class RegistryEntry:
    """A name that the user added: the plugin record it builds on, its options, and where it is written."""

    name: str
    plugin: str
    options: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    override: bool = False
    place: str = ""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    plugin: str = Field(min_length=1)
    options: dict[str, Any] = {}
    summary: str = ""
    override: bool = False


class _Sections(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    models: dict[str, _Entry] = {}
    datasets: dict[str, _Entry] = {}


def read_registry_file(path: Path) -> dict[Literal["models", "datasets"], Mapping[str, RegistryEntry]]:
    """The entries of a registry file by section and name. Raises `InvalidFileError` with file, line and what was expected."""
    file = read_yaml(path)
    sections = file.validate(_Sections)
    return {
        "models": {name: _entry(file, "models", name, entry) for name, entry in sections.models.items()},
        "datasets": {name: _entry(file, "datasets", name, entry) for name, entry in sections.datasets.items()},
    }


def refuse_unsafe_options(file: YamlFile, options: Any, location: Location) -> None:
    """Raise `InvalidFileError` for an option, however deep, that would make a file run code."""
    for key, value, where in _options(options, location):
        if str(key).lower().replace("-", "_") in UNSAFE_OPTIONS:
            raise file.error(where, f"a file may not set this (it can make code run); got {value!r}")


def _options(value: Any, location: Location) -> Iterator[tuple[Any, Any, Location]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner, (*location, str(key))
            yield from _options(inner, (*location, str(key)))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _options(inner, (*location, index))


def _entry(file: YamlFile, section: str, name: str, entry: _Entry) -> RegistryEntry:
    location: Location = (section, name)
    if not NAME_PATTERN.fullmatch(name):
        raise file.error(location, f"expected a name of letters, digits and . _ / + -, got {name!r}")
    refuse_unsafe_options(file, entry.options, (*location, "options"))
    options = dict(entry.options)
    source = options.get("source")
    if isinstance(source, str):
        options["source"] = _resolved(source, file.path.parent)
    return RegistryEntry(
        name=name,
        plugin=entry.plugin,
        options=options,
        summary=entry.summary,
        override=entry.override,
        place=f"{file.path}:{file.line(location)}",
    )


def _resolved(source: str, folder: Path) -> str:
    """A source that is a path counts from the folder of the file, so that the file works from anywhere; a hub id stays."""
    path = Path(source).expanduser()
    if path.is_absolute():
        return str(path)
    local = folder / path
    return str(local) if source.startswith(("./", "../")) or local.is_dir() else source
