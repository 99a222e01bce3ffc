"""Finds plugins, keeps the broken ones with their reason, and finds records by name.

Built-in plugins are found the same way as third-party ones: through the entry-point group `vseam`. Each entry point is loaded in its
own `try`, so a broken plugin never breaks a command that does not need it; two packages that claim one name clash only when
that name is asked for.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from vseam_core.errors import NameClashError, UnknownNameError, did_you_mean
from vseam_core.plugins import hookspecs
from vseam_core.plugins.loading import Origin, Record, Registration, describe
from vseam_core.plugins.records import (
    PLUGIN_API,
    CommandRecord,
    DatasetRecord,
    EditorRecord,
    EditPlannerRecord,
    GenerationMethodRecord,
    HeadInterventionRecord,
    MaskProviderRecord,
    ModelRecord,
    PluginRecord,
    TracerRecord,
)

if TYPE_CHECKING:
    from vseam_core.api.generation import GenerationMethod
    from vseam_core.api.interfaces import EditedImages, Editor, EditPlanner, HeadIntervention, MaskProvider, Painter, Tracer

ENTRY_POINT_GROUP = hookspecs.PROJECT
HOOK_RECORDS: Mapping[str, type[PluginRecord]] = {
    "vseam_models": ModelRecord,
    "vseam_datasets": DatasetRecord,
    "vseam_editors": EditorRecord,
    "vseam_mask_providers": MaskProviderRecord,
    "vseam_edit_planners": EditPlannerRecord,
    "vseam_tracers": TracerRecord,
    "vseam_head_interventions": HeadInterventionRecord,
    "vseam_generation_methods": GenerationMethodRecord,
    "vseam_commands": CommandRecord,
}


class _UnusablePlugin(Exception):
    """Why an entry point cannot be used, as one line."""


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that works, and the records it supplies."""

    origin: Origin
    records: tuple[PluginRecord, ...]


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that cannot be used, and why."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"broken {self.origin.plugin} from {self.origin.distribution}: {self.reason}"


@dataclass(frozen=True)
class Clash:
    """One name of one kind that several plugins claim."""

    kind: str
    name: str
    origins: tuple[Origin, ...]

    def __str__(self) -> str:
        owners = " and ".join(f"{origin.distribution} (plugin {origin.plugin})" for origin in self.origins)
        return f"{self.kind} {self.name!r} is claimed by {owners}"


@dataclass(frozen=True)
class Plugins:
    """Everything that the installed plugins supply; built by `build_plugins` and passed to whoever needs it."""

    loaded: tuple[LoadedPlugin, ...]
    broken: tuple[BrokenPlugin, ...] = ()
    _registrations: Mapping[tuple[type[PluginRecord], str], tuple[Registration[Any], ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        registrations: dict[tuple[type[PluginRecord], str], tuple[Registration[Any], ...]] = {}
        for plugin in self.loaded:
            for record in plugin.records:
                key = (type(record), record.name)
                registrations[key] = (*registrations.get(key, ()), Registration(record, plugin.origin))
        object.__setattr__(self, "_registrations", registrations)

    def names(self, kind: type[PluginRecord]) -> tuple[str, ...]:
        """All registered names of one kind, clashing ones included, in order of the alphabet."""
        return tuple(sorted(name for record_type, name in self._registrations if record_type is kind))

    def registrations(self, kind: type[Record]) -> tuple[Registration[Record], ...]:
        """Every record of one kind with its origin, by name; a name that clashes appears once for each claim."""
        return tuple(registration for name in self.names(kind) for registration in self._registrations[kind, name])

    def clashes(self) -> tuple[Clash, ...]:
        """All names that more than one plugin registers."""
        return tuple(
            Clash(kind.kind, name, tuple(registration.origin for registration in registrations))
            for (kind, name), registrations in self._registrations.items()
            if len(registrations) > 1
        )

    def find(self, kind: type[Record], name: str) -> Registration[Record]:
        """The record of that kind and name.

        Raises `UnknownNameError` with the closest names, and `NameClashError` when several packages claim the name.
        """
        registrations = self._registrations.get((kind, name), ())
        if not registrations:
            raise UnknownNameError(f"unknown {kind.kind} {name!r}; {did_you_mean(name, self.names(kind))}{self.broken_note()}")
        if len(registrations) > 1:
            clash = Clash(kind.kind, name, tuple(registration.origin for registration in registrations))
            raise NameClashError(f"{clash}; leave one out: --no-plugin {registrations[-1].origin.plugin}")
        return registrations[0]

    def broken_note(self) -> str:
        """The tail of an unknown-name message: plugins that might have supplied the name, were they not broken."""
        return "".join(f"; {plugin}" for plugin in self.broken)

    def editor(self, name: str, **options: Any) -> Editor | Painter | EditedImages:
        """What the plugin of that name supplies; `vseam_core.editing.building` makes an editor of a painter."""
        from vseam_core.api.interfaces import EditedImages, Editor, Painter

        return self.find(EditorRecord, name).create((Editor, Painter, EditedImages), **options)

    def mask_provider(self, name: str, **options: Any) -> MaskProvider:
        """The mask provider of that name."""
        from vseam_core.api.interfaces import MaskProvider

        return self.find(MaskProviderRecord, name).create(MaskProvider, **options)

    def edit_planner(self, name: str, **options: Any) -> EditPlanner:
        """The edit planner of that name."""
        from vseam_core.api.interfaces import EditPlanner

        return self.find(EditPlannerRecord, name).create(EditPlanner, **options)

    def tracer(self, name: str, **options: Any) -> Tracer:
        """The tracer of that name."""
        from vseam_core.api.interfaces import Tracer

        return self.find(TracerRecord, name).create(Tracer, **options)

    def head_intervention(self, name: str, **options: Any) -> HeadIntervention:
        """The head intervention of that name."""
        from vseam_core.api.interfaces import HeadIntervention

        return self.find(HeadInterventionRecord, name).create(HeadIntervention, **options)

    def generation_method(self, name: str, **options: Any) -> GenerationMethod:
        """The generation method of that name."""
        from vseam_core.api.generation import GenerationMethod

        return self.find(GenerationMethodRecord, name).create(GenerationMethod, **options)


def build_plugins(select: Iterable[str] = (), exclude: Iterable[str] = (), local: Mapping[str, object] | None = None) -> Plugins:
    """Find and load the installed plugins.

    `select` and `exclude` name plugins (entry-point names) or whole distributions: with `select` only those are loaded, and those
    in `exclude` never. `local` are plugins that are not installed, by name: a module or object with hook implementations,
    for a notebook or a test. Raises `UnknownNameError` for a selected or excluded name that nobody has.
    """
    found = _discover(local or {})
    known = {name for origin, _ in found for name in (origin.plugin, origin.distribution)}
    wanted, unwanted = set(select), set(exclude)
    for name in sorted((wanted | unwanted) - known):
        raise UnknownNameError(f"unknown plugin {name!r}; {did_you_mean(name, known)}")
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    loaded: list[LoadedPlugin] = []
    broken: list[BrokenPlugin] = []
    for origin, source in found:
        names = {origin.plugin, origin.distribution}
        if (wanted and not names & wanted) or names & unwanted:
            continue
        try:
            loaded.append(LoadedPlugin(origin, _records(manager, origin, source)))
        except _UnusablePlugin as error:
            broken.append(BrokenPlugin(origin, str(error)))
    return Plugins(tuple(loaded), tuple(broken))


def _discover(local: Mapping[str, object]) -> list[tuple[Origin, object]]:
    """Every plugin with where it comes from, not yet imported, in a fixed order."""
    found: list[tuple[Origin, object]] = []
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        distribution = entry_point.dist
        name, version = (distribution.name, distribution.version) if distribution else ("unknown", "")
        found.append((Origin(entry_point.name, name, version), entry_point))
    found.sort(key=lambda item: (item[0].distribution != "vseam", item[0].distribution, item[0].plugin))
    return found + [(Origin(name, "local", ""), plugin) for name, plugin in local.items()]


def _records(manager: pluggy.PluginManager, origin: Origin, source: object) -> tuple[PluginRecord, ...]:
    """Import one plugin and collect its records. Raises `_UnusablePlugin` with the reason, whatever the plugin does."""
    registered = f"{origin.distribution}/{origin.plugin}"
    try:
        plugin = source.load() if isinstance(source, importlib.metadata.EntryPoint) else source
        _check_api(plugin)
        manager.register(plugin, name=registered)
        _check_hook_names(manager, plugin)
        return tuple(record for hook, record_type in HOOK_RECORDS.items() for record in _call_hook(manager, plugin, hook, record_type))
    except _UnusablePlugin:
        raise
    except (Exception, SystemExit) as error:  # a third-party module may do anything at import, exit included
        raise _UnusablePlugin(describe(error)) from error


def _check_api(plugin: object) -> None:
    declared = getattr(plugin, "PLUGIN_API", PLUGIN_API)
    try:
        major = int(str(declared).split(".")[0])
    except ValueError:
        raise _UnusablePlugin(f"PLUGIN_API is {declared!r}, expected a number") from None
    if major != PLUGIN_API:
        raise _UnusablePlugin(f"made for plugin API {declared}, this vseam has {PLUGIN_API}")


def _check_hook_names(manager: pluggy.PluginManager, plugin: object) -> None:
    for caller in manager.get_hookcallers(plugin) or ():
        if not caller.has_spec():
            raise _UnusablePlugin(f"no hook is called {caller.name!r}; {did_you_mean(caller.name, HOOK_RECORDS)}")


def _call_hook(manager: pluggy.PluginManager, plugin: object, hook: str, record_type: type[PluginRecord]) -> list[PluginRecord]:
    """The records that one plugin yields from one hook: called alone, so that nobody else's hook can interfere."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    records: list[PluginRecord] = []
    for yielded in manager.subset_hook_caller(hook, remove_plugins=others)():
        for record in yielded or ():
            if type(record) is not record_type:
                raise _UnusablePlugin(f"{hook} yields a {type(record).__name__}, expected {record_type.__name__}")
            records.append(record)
    return records
