"""What one run of the command line carries around: its options, its output, and the plugins and names, built on first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_cli.output import Output
from vseam_core.errors import UnknownNameError, VseamError, did_you_mean

if TYPE_CHECKING:
    from vseam_core.config.editor_settings import EditorChoice
    from vseam_core.plugins.discovery import Plugins
    from vseam_core.plugins.registry import Registry
    from vseam_core.runs.executors.base import Executor
    from vseam_core.runs.workspace import Workspace


@dataclass
class Application:
    """The object behind `click.Context.obj`; verbs receive it with `@click.pass_obj`."""

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    registry_path: Path | None = None
    debug: bool = False
    memory_budget: int | None = None
    loading: dict[str, dict[str, Any]] = field(default_factory=dict)
    edits: str = "edits"
    images: str | None = None
    editing: dict[str, Any] = field(default_factory=dict)
    output: Output = field(default_factory=Output)
    tables: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    thumbnails: bool = True
    workers: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Application:
        """From the parsed options of the top group."""
        return cls(
            select=tuple(options.get("plugin") or ()),
            exclude=tuple(options.get("no_plugin") or ()),
            registry_path=options.get("registry"),
            debug=bool(options.get("debug")),
            output=Output(verbosity=options.get("verbose") or 0, quiet=bool(options.get("quiet")), log_file=options.get("log_file")),
        )

    @cached_property
    def plugins(self) -> Plugins:
        """The plugins that `--plugin` and `--no-plugin` leave."""
        from vseam_core.plugins.discovery import build_plugins

        return build_plugins(self.select, self.exclude)

    @cached_property
    def registry(self) -> Registry:
        """The names of models and datasets."""
        from vseam_core.plugins.registry import load_registry

        return load_registry(self.plugins, self.registry_path, self.images)

    def check_loading(self, models: Sequence[str]) -> None:
        """Raise `UnknownNameError` for a `--model-option MODEL:…` whose model takes no part."""
        for name in self.loading:
            if name and name not in models:
                raise UnknownNameError(f"--model-option {name}:…: no such --model here; {did_you_mean(name, models)}")

    def loading_of(self, model: str) -> dict[str, Any]:
        """How the command line wants a model to be loaded."""
        from vseam_core.runs.workspace import loading_of

        return loading_of(self.loading, model)

    def executor(self, workers: int | str) -> Executor | None:
        """Who does the tasks of a study of so many workers; None is the process itself or, for several, others on this machine.

        Raises `VseamError` for options that only make sense together with others.
        """
        if self.workers.get("executor") != "ray":
            for name in ("address", "gpus_per_worker"):
                if name in self.workers:
                    raise VseamError(f"--{name.replace('_', '-')} is for --executor ray")
            return None
        from vseam_core.runs.executors.on_ray import RayExecutor

        asked: Any = self.workers.get("workers", "auto" if workers == 1 else workers)
        return RayExecutor(asked, self.workers.get("address", ""), self.workers.get("gpus_per_worker"))

    def editor_choice(self, name: str | None, base: EditorChoice | None = None) -> EditorChoice:
        """What the command line says about editing laid over `base` (a study's); another editor begins with its own defaults."""
        from vseam_core.config.editor_settings import EditorChoice

        base = base or EditorChoice()
        if name is not None and name != base.name:
            base = EditorChoice(name=name)
        options = {**base.options, **self.editing.get("options", {})}
        return EditorChoice(**{**base.model_dump(), **self.editing, "options": options})

    @contextmanager
    def workspace(self, database: str, device: str | None = None, seed: int | None = None) -> Iterator[Workspace]:
        """Everything an experiment needs, with its progress shown on stderr while the context is open."""
        from vseam_core.runs.workspace import Opening

        registry = str(self.registry_path) if self.registry_path else None
        named = (database, registry, self.select, self.exclude, device or "auto", seed or 0, self.memory_budget)
        opening = Opening(*named, loading=self.loading, edits=self.edits, thumbnails=self.thumbnails, images=self.images)
        with self.output.progress() as progress, opening.open(progress) as workspace:
            yield workspace
