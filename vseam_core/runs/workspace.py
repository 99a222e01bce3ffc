"""A workspace: plugins, registry, store and loaded models, opened together and passed to every experiment.

import vseam

with vseam.open_workspace("results.db") as workspace:
    study = vseam.default_study().with_overrides(models=["llava-tiny"], datasets=["scenes/color"], limit=20)
    print(vseam.run_study(workspace, study).accuracy)
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vseam_core.plugins.discovery import Plugins, build_plugins
from vseam_core.plugins.registry import Registry, load_registry
from vseam_core.runs.kept import Kept
from vseam_core.runs.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from vseam_core.api.interfaces import Benchmark, Editor, VisionLanguageModel
    from vseam_core.api.interventions import AnswerValues
    from vseam_core.api.prompts import EncodedPrompt
    from vseam_core.config.editor_settings import EditorChoice
    from vseam_core.engine.base import Engine
    from vseam_core.runs.identity import Component
    from vseam_core.store.store import Store

Made = TypeVar("Made")

EDITS = "edits"
"""The folder of edited images, unless another is given."""


PROMPT_BYTES = 256 * 1024 * 1024
ANSWERS = 65_536
"""How much of encoded prompts, and how many answers, a model keeps for the next role that a question plays."""


@dataclass(frozen=True, eq=False)
class KeptPrompt:
    """An encoded prompt and the (width, height) of its image."""

    prompt: EncodedPrompt
    size: tuple[int, int]


@dataclass(frozen=True)
class Given:
    """What a model answered: the greedy text, and what the sample's answer ids score (None where it has none)."""

    text: str
    values: AnswerValues | None


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with the engine that runs it, the engine's trust record, and the prompts and answers that it has made lately."""

    model: VisionLanguageModel
    engine: Engine
    trust: dict[str, Any]
    prompts: Kept[KeptPrompt] = field(default_factory=lambda: Kept(PROMPT_BYTES))
    answers: Kept[Given] = field(default_factory=lambda: Kept(ANSWERS))


@dataclass(frozen=True)
class Portion:
    """A range of a step's samples, in their order: what one task does of it. With a `reason`, those that are not finished are given up."""

    start: int
    stop: int
    reason: str = ""


class Workspace:
    """Everything that an experiment needs; build it with `open_workspace` and close it (it is a context manager)."""

    def __init__(
        self,
        plugins: Plugins,
        registry: Registry,
        store: Store,
        progress: Progress,
        device: str = "auto",
        seed: int = 0,
        opening: Opening | None = None,
        memory_budget: int | None = None,
        loading: Mapping[str, Mapping[str, Any]] | None = None,
        edits: str | Path = EDITS,
        thumbnails: bool = True,
        memory_share: float = 1.0,
    ):
        self.edits, self.thumbnails = Path(edits), thumbnails
        self.plugins, self.registry, self.store, self.progress = plugins, registry, store, progress
        self.device, self.seed, self.opening, self.memory_budget = device, seed, opening, memory_budget
        self.loading = loading or {}
        self.memory_share = memory_share
        self.portion: Portion | None = None
        self.given_up: dict[str, str] = {}
        self._models: dict[str, LoadedModel] = {}
        self._benchmarks: dict[str, Benchmark] = {}
        self._editors: dict[str, Editor] = {}
        self._kept: dict[Hashable, Any] = {}
        self._given_models: dict[str, VisionLanguageModel] = {}

    def __enter__(self) -> Workspace:
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.close()

    def model(self, name: str) -> LoadedModel:
        """The model of that name, loaded and checked once."""
        if name not in self._models:
            from vseam_core.engine.remembered_check import engine_checked_once
            from vseam_core.engine.selfcheck import checked_engine

            given = self._given_models.get(name)
            model = given or self.registry.load_model(name, device=self.device, **loading_of(self.loading, name))
            # Only a model of the caller's comes back after it was let go; weights are read once more to know it again.
            checked = engine_checked_once if given else checked_engine
            engine, trust = checked(model, self.memory_budget or self._share_of_memory(model))
            # It decides on the shapes of batches, and so on the last digits of results.
            trust["memory_budget"] = getattr(engine, "memory_budget", None)
            if trust.get("fallback"):
                reason = next(one["reason"] for one in trust["capabilities"] if one["name"] == "replay")
                self.progress.note(f"{name}: every run is a full forward pass, because {reason}")
            self._models[name] = LoadedModel(model, engine, trust)
        return self._models[name]

    def _share_of_memory(self, model: VisionLanguageModel) -> int | None:
        """What the engine may take beside the model where several workers share a device; None is its own default."""
        if self.memory_share >= 1:
            return None
        from vseam_core.engine.memory import default_budget

        return int(default_budget(next(model.module.parameters()).device) * self.memory_share)

    def own_portion(self, samples: Iterable[Made]) -> Sequence[Made]:
        """Those of a step's samples that are to be done here: all of them, unless this workspace does a portion for others."""
        return list(islice(samples, self.portion.start, self.portion.stop) if self.portion else samples)

    def give_model(self, model: VisionLanguageModel) -> str:
        """Use a model that somebody loaded; the name that it goes by here from now on, which is its own.

        It is checked when it is used, and again only where it was changed since.
        """
        name = model.info.name
        if self._given_models.get(name) is not model:
            self.release(name)
            self._given_models[name] = model
        return name

    def give_benchmark(self, benchmark: Benchmark) -> str:
        """Use a dataset that somebody made; the name that it goes by here from now on, which is its own."""
        self._benchmarks[benchmark.name] = benchmark
        return benchmark.name

    def give_editor(self, editor: Editor) -> EditorChoice:
        """Use an editor that somebody made; the choice that it goes by here from now on."""
        from vseam_core.config.editor_settings import EditorChoice

        choice = EditorChoice(name=editor.name)
        self._editors[choice.model_dump_json()] = editor
        return choice

    def release(self, name: str) -> None:
        """Forget a loaded model and what its engine recorded, so that their memory is free again."""
        self._models.pop(name, None)
        self._kept.clear()

    def kept(self, what: Hashable, make: Callable[[], Made]) -> Made:
        """What was made for an earlier experiment on the same model (prepared samples), or is made now; forgotten when a model is."""
        if what not in self._kept:
            self._kept[what] = make()
        made: Made = self._kept[what]
        return made

    def benchmark(self, name: str) -> Benchmark:
        """The dataset of that name."""
        if name not in self._benchmarks:
            self._benchmarks[name] = self.registry.load_dataset(name)
        return self._benchmarks[name]

    def editor(self, choice: EditorChoice | str) -> Editor:
        """The editor of that choice, built once; only the latest one keeps a painter in memory."""
        from vseam_core.config.editor_settings import editor_choice
        from vseam_core.editing.building import build_editor
        from vseam_core.editing.folder import EditFolder

        chosen = editor_choice(choice)
        name = chosen.model_dump_json()
        for other, editor in self._editors.items():
            if other != name:
                editor.release()
        if name not in self._editors:
            self._editors[name] = build_editor(self.plugins, chosen, EditFolder(self.edits), self.store.is_accepted)
        return self._editors[name]

    def editor_component(self, choice: EditorChoice | str) -> Component:
        """What an editor of that choice contributes to the identity of whatever uses its edits."""
        from vseam_core.config.editor_settings import editor_choice
        from vseam_core.runs.identity import component_of

        chosen = editor_choice(choice)
        return component_of(self.editor(chosen), chosen.options, chosen.name)

    def versions(self) -> dict[str, str]:
        """The library versions that a run is stored with."""
        return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    """Read once: each takes a walk through the installed packages, and a process does not change them."""
    import importlib.metadata

    names = ("vseam", "torch", "transformers", "numpy", "scipy")
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), "machine": platform.machine(), **found}


def open_workspace(
    database: str | Path = "results.db",
    *,
    registry: str | Path | None = None,
    plugins: Plugins | None = None,
    device: str = "auto",
    seed: int = 0,
    progress: Progress | None = None,
    memory_budget: int | None = None,
    loading: Mapping[str, Mapping[str, Any]] | None = None,
    edits: str | Path = EDITS,
    thumbnails: bool = True,
) -> Workspace:
    """Open (or create) a results database and everything needed to add to it.

    `registry` is a registry.yaml (default: the environment's or the working directory's, if there is one). `plugins` are those to
    use instead of all installed ones. `memory_budget` is the most bytes that the engine may hold beside the model (default:
    part of what is free). `loading` are options of the models' loaders by model name, "" for all: `{"": {"dtype": "bfloat16"}}`.
    `edits` is the folder that edited images are kept in; with `thumbnails` small images of what is measured are kept in the database.
    Raises `VseamError` subclasses for a broken registry or database.
    """
    opening = Opening(str(database), str(registry) if registry else None, device=device, seed=seed, memory_budget=memory_budget)
    opening = replace(opening, loading=loading or {}, edits=str(edits), thumbnails=thumbnails)
    return _opened(opening, plugins or build_plugins(), progress, opening if plugins is None else None)


@dataclass(frozen=True)
class Opening:
    """How a workspace was opened, so that another process can open the same; `select` and `exclude` name plugins.

    `memory_share` is how much of the memory that engines take by default is for this workspace, where several share a device.
    """

    database: str
    registry: str | None = None
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    device: str = "auto"
    seed: int = 0
    memory_budget: int | None = None
    loading: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    edits: str = EDITS
    thumbnails: bool = True
    images: str | None = None
    memory_share: float = 1.0

    def open(self, progress: Progress | None = None) -> Workspace:
        """Open the workspace."""
        return _opened(self, build_plugins(self.select, self.exclude), progress, self)


def _opened(opening: Opening, plugins: Plugins, progress: Progress | None, again: Opening | None) -> Workspace:
    from vseam_core.store import open_store

    registry = load_registry(plugins, Path(opening.registry) if opening.registry else None, opening.images)
    store = open_store(opening.database)
    return Workspace(
        plugins=plugins,
        registry=registry,
        store=store,
        progress=progress or SilentProgress(),
        device=opening.device,
        seed=opening.seed,
        opening=again,
        memory_budget=opening.memory_budget,
        loading=opening.loading,
        edits=opening.edits,
        thumbnails=opening.thumbnails,
        memory_share=opening.memory_share,
    )


def loading_of(loading: Mapping[str, Mapping[str, Any]], model: str) -> dict[str, Any]:
    """The loader's options for one model: those for all, then its own; `NAME@random-SEED` is loaded as NAME is."""
    base = model.rpartition("@")[0] or model
    return {**loading.get("", {}), **loading.get(base, {}), **loading.get(model, {})}
