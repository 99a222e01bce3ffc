"""A study file is read, and every name in it is looked up: what is refused is said with its line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.config.editor_settings import EditorChoice
from vseam_core.config.study import Study
from vseam_core.config.study_methods import is_registered, registered_name
from vseam_core.config.yaml_files import Location, YamlFile, read_yaml
from vseam_core.errors import VseamError
from vseam_core.plugins.records import (
    EditorRecord,
    EditPlannerRecord,
    GenerationMethodRecord,
    HeadInterventionRecord,
    MaskProviderRecord,
    PluginRecord,
    TracerRecord,
)
from vseam_core.plugins.registry_yaml import refuse_unsafe_options

if TYPE_CHECKING:
    from vseam_core.plugins.discovery import Plugins
    from vseam_core.plugins.registry import Registry


def load_study(path: str | Path, registry: Registry | None = None) -> Study:
    """Read a study file; with a registry, every name in it is checked too.

    Raises `InvalidFileError` with file, line and what was expected, and `UnknownNameError` with file, line and the closest names.
    """
    file = read_yaml(Path(path))
    study = file.validate(Study)
    for index, method in enumerate(study.tracers):
        refuse_unsafe_options(file, method.options, ("tracers", index, "options"))
    for index, method in enumerate(study.ablation.operations):
        refuse_unsafe_options(file, method.options, ("ablation", "operations", index, "options"))
    for index, compared in enumerate(study.compare.methods):
        refuse_unsafe_options(file, compared.options, ("compare", "methods", index, "options"))
    for index, scan in enumerate(study.heads):
        refuse_unsafe_options(file, scan.options, ("heads", index, "options"))
    for name in ("options", "planner_options", "mask_options"):
        refuse_unsafe_options(file, getattr(study.editor, name), ("editor", name))
    if registry is not None:
        check_names(study, registry, file)
    return study


def check_names(study: Study, registry: Registry, file: YamlFile | None = None) -> None:
    """Raise `UnknownNameError` (or a clash) about the first model, dataset or method that the study names and nobody has."""
    for location, name, find in _lookups(study, registry):
        try:
            find(name)
        except VseamError as error:
            if file is None:
                raise
            where = ".".join(map(str, location))
            raise type(error)(f"{file.path}:{file.line(location)}: {where}: {error}") from error


def _editing_lookups(choice: EditorChoice, plugins: Plugins) -> list[tuple[Location, str, Any]]:
    """A planner and a mask provider are looked up where somebody named them: an editor that paints nothing needs none."""
    kinds: dict[str, type[PluginRecord]] = {"planner": EditPlannerRecord, "mask": MaskProviderRecord}
    named = [field for field in kinds if field in choice.model_dump(exclude_defaults=True)]
    return [(("editor", field), getattr(choice, field), partial(plugins.find, kinds[field])) for field in named]


def _lookups(study: Study, registry: Registry) -> list[tuple[Location, str, Any]]:
    """Every name in a study with its place in the file and the function that finds it."""
    plugins = registry.plugins
    lookups: list[tuple[Location, str, Any]] = [
        *((("models", index), name, registry.loadable_model) for index, name in enumerate(study.models)),
        *((("datasets", index), name, registry.dataset) for index, name in enumerate(study.datasets)),
        (("editor",), study.editor.name, lambda name: plugins.find(EditorRecord, name)),
        *_editing_lookups(study.editor, plugins),
    ]
    for place, kind, name, options in _methods(study):
        lookups.append((place, name, partial(_checked, plugins, kind, options)))
    return lookups


def _methods(study: Study) -> Iterator[tuple[Location, type[PluginRecord], str, Mapping[str, Any]]]:
    """Every tracer and operation with its place in the file and its options."""
    for index, method in enumerate(study.tracers):
        yield ("tracers", index), TracerRecord, method.name, method.options
    for index, scan in enumerate(study.heads):
        yield ("heads", index, "operation"), HeadInterventionRecord, scan.operation, scan.options
    for index, method in enumerate(study.ablation.operations):
        yield ("ablation", "operations", index), HeadInterventionRecord, method.name, method.options
    for index, compared in enumerate(study.compare.methods if "compare" in study.stages else ()):
        if is_registered(compared.name):
            yield ("compare", "methods", index), GenerationMethodRecord, registered_name(compared.name), compared.options


def _checked(plugins: Plugins, kind: type[PluginRecord], options: Mapping[str, Any], name: str) -> None:
    """Find a method; with options, see that it takes them, for which its module has to be imported."""
    found = plugins.find(kind, name)
    if options:
        found.check_options(options)
