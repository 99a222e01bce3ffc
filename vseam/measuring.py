"""`trace`, `scan` and `evaluate` from Python: a model and a dataset, by name or as objects, without a registry or a database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vseam.opening import Opening, model_name
from vseam.own_data import dataset_name
from vseam.shown import EvaluationResult, ScanResult, TraceResult

if TYPE_CHECKING:
    from vseam_core.api.interfaces import VisionLanguageModel
    from vseam_core.api.types import PoolChoice, ScanDirection
    from vseam_core.config.editor_settings import EditorChoice
    from vseam_core.report.data.page_data import PageData
    from vseam_core.results.study_results import StudyMaterial
    from vseam_core.runs.workspace import Workspace


def trace(
    model: str | Path | VisionLanguageModel,
    dataset: Any,
    *,
    tracers: str | Sequence[str] | Mapping[str, Mapping[str, Any]] | None = None,
    pool: PoolChoice | None = None,
    limit: int | None = None,
    editor: EditorChoice | str | None = None,
    random_models: int = 0,
    stack: Literal["", "vision", "connector", "decoder", "cross"] = "",
    images: str | Path | None = None,
    **opening: Any,
) -> TraceResult:
    """Trace which positions and layers carry the answer, as `vseam trace` does.

        traces = vseam.trace("llava-tiny", "scenes/color", tracers="groups", limit=20)
        traces.frame, traces.plot()

    `dataset` is a name, a file, a DataFrame, a list of records or samples, or a benchmark; `images` the folder that its images lie in.
    `tracers` are names, or names with their options; `stack` is traced in place of the language model. Rows of one's own are all traced
    (`pool="all"`), registered datasets in the score pool. `opening`: `workspace`, or `database`, `device`, `seed`, `memory_budget`,
    `loading`, `progress`. Raises `VseamError` kinds, also where nothing was left to measure.
    """
    methods = _methods(tracers, stack)
    with Opening(**opening).open() as workspace:
        chosen = pool or ("score" if isinstance(dataset, str) else "all")
        found = _study(
            workspace,
            model_name(workspace, model),
            dataset_name(workspace, dataset, images),
            ["trace"],
            limit,
            tracers=methods,
            trace_pool=chosen,
            editor=editor,
            random_models=random_models,
        )
    return TraceResult(*found)


def scan(
    model: str | Path | VisionLanguageModel,
    dataset: Any,
    *,
    operation: str | None = None,
    options: Mapping[str, Any] | None = None,
    positions: str = "all",
    direction: ScanDirection | None = None,
    method: Literal["exact", "screen"] = "exact",
    stack: Literal["", "vision", "connector", "decoder", "cross"] = "",
    limit: int | None = None,
    editor: EditorChoice | str | None = None,
    images: str | Path | None = None,
    **opening: Any,
) -> ScanResult:
    """Replace every head in turn and score it, as `vseam heads scan` does.

        heads = vseam.scan("llava-tiny", "scenes/color", operation="zero", limit=24)
        heads.frame.nlargest(5, "support"), heads.plot()

    Heads are scored on the score pool of the dataset (about half of the images of one's own rows; a list of samples says the pool of each).
    The other arguments are as for `trace`. Raises `VseamError` kinds, also where nothing was left to measure.
    """
    from vseam_core.config.defaults import OPERATION, PAIR_OPERATION

    chosen = operation or (PAIR_OPERATION if direction else OPERATION)
    wanted: dict[str, Any] = {"operation": chosen, "positions": positions, "method": method, "options": dict(options or {}), "stack": stack}
    if direction:
        wanted["direction"] = direction
    with Opening(**opening).open() as workspace:
        found = _study(
            workspace,
            model_name(workspace, model),
            dataset_name(workspace, dataset, images),
            ["scan"],
            limit,
            heads=[wanted],
            editor=editor,
        )
    return ScanResult(*found)


def evaluate(
    model: str | Path | VisionLanguageModel,
    dataset: Any,
    *,
    images: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    **how: Any,
) -> EvaluationResult:
    """Measure how well a model answers a dataset, as `vseam eval` does.

        answers = vseam.evaluate("llava-tiny", "scenes/color", limit=200)
        answers.value("accuracy"), answers.frame, answers.plot()

    `how` are the options of the command (`pool`, `split`, `limit`, `offset`, `max_new_tokens`, `batch_size`, `editor`, `rescale`, `ablate`,
    `operation`, `method`, `method_options`, `compare`), and what `trace` calls opening. `options` are those of the ablating operation.
    Raises `VseamError` kinds.
    """
    from vseam_core.experiments.evaluation import evaluate as run

    opening = {name: how.pop(name) for name in Opening.__dataclass_fields__ if name in how}
    with Opening(**opening).open() as workspace:
        names = model_name(workspace, model), dataset_name(workspace, dataset, images)
        return EvaluationResult(**vars(run(workspace, *names, operation_options=options, **how)))


def _methods(tracers: str | Sequence[str] | Mapping[str, Mapping[str, Any]] | None, stack: str) -> list[dict[str, Any]] | None:
    from vseam_core.config.defaults import IMAGE_TRACER

    if tracers is None and not stack:
        return None
    named = IMAGE_TRACER if tracers is None else tracers
    chosen = named if isinstance(named, Mapping) else {name: {} for name in ([named] if isinstance(named, str) else named)}
    return [{"name": name, "options": dict(options), "stack": stack} for name, options in chosen.items()]


def _study(
    workspace: Workspace, model: str, dataset: str, stages: list[str], limit: int | None, **fields: Any
) -> tuple[StudyMaterial, PageData]:
    """Part of a study of one model on one dataset, and its page, read while the database is open.

    Raises `VseamError` where nothing was left to measure.
    """
    from vseam_core.config.study import Study
    from vseam_core.experiments.study.nothing_left import require_results
    from vseam_core.experiments.study.run import run_study
    from vseam_core.report.data.study import study_page_data
    from vseam_core.report.tables.closing import closing_tables
    from vseam_core.results.stored_study import study_of

    base = Study(name=stages[-1], models=[model], datasets=[dataset])
    study = base.with_overrides(limit=limit, stages=stages, seed=workspace.seed, **fields)
    material = run_study(workspace, study)
    require_results(workspace, study, material)
    assert material.study is not None
    return material, study_page_data(workspace.store, study_of(workspace.store, material.study), material, closing_tables(material))
