# ruff: noqa: F401
"""vseam: which parts of a vision-language model cause its answers, found by intervention.

    import vseam_core as vseam

    with vseam.open_workspace("results.db") as workspace:
        study = vseam.default_study().with_overrides(models=["llava-tiny"], datasets=["scenes/color"], limit=20)
        material = vseam.run_study(workspace, study)
        print(material.accuracy)

Every public name is imported on first use: `import vseam_core` alone imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; a test holds this list against the one below
    from vseam_core.api.interfaces import (
        Benchmark,
        EditedPictures,
        Editor,
        EditPlan,
        EditPlanner,
        HeadContext,
        HeadIntervention,
        MaskProvider,
        ModelShape,
        Needs,
        Painter,
        TraceContext,
        Tracer,
        Variant,
        VisionLanguageModel,
    )
    from vseam_core.api.interventions import (
        Add,
        AnswerIds,
        AnswerScore,
        AttentionBlock,
        LensScore,
        MeanOfOthers,
        Patch,
        Replace,
        Run,
        RunResult,
        Scale,
        Site,
        SiteEdit,
        Zero,
    )
    from vseam_core.api.prompts import EncodedPrompt
    from vseam_core.api.types import HeadEffect, HeadId, ModelInfo, Pair, RoleSpan, Sample, Skip, TraceEffect
    from vseam_core.config.editor_settings import EditorChoice
    from vseam_core.config.study import Study, default_study, load_study
    from vseam_core.errors import (
        InvalidFileError,
        NameClashError,
        PluginError,
        QueryError,
        SampleError,
        StoreError,
        UnknownNameError,
        UnsupportedError,
        VseamError,
    )
    from vseam_core.experiments.evaluation import Evaluation, evaluate
    from vseam_core.experiments.rescaling.checkpoint import fitted_scales, save_rescaled_model
    from vseam_core.experiments.study_run import run_study
    from vseam_core.plugins.discovery import Plugins, build_plugins
    from vseam_core.plugins.hookspecs import hookimpl
    from vseam_core.plugins.registry import Registry, load_registry
    from vseam_core.plugins.specs import (
        PLUGIN_API,
        CommandRecord,
        DatasetRecord,
        EditorRecord,
        EditPlannerRecord,
        HeadInterventionRecord,
        MaskProviderRecord,
        ModelRecord,
        TracerRecord,
    )
    from vseam_core.report.tables.closing import closing_tables
    from vseam_core.report.writer import write_report
    from vseam_core.runs.workspace import Workspace, open_workspace
    from vseam_core.store import open_store

_HOMES = {
    "vseam_core.config.editor_settings": ("EditorChoice",),
    "vseam_core.errors": (
        "InvalidFileError",
        "NameClashError",
        "PluginError",
        "QueryError",
        "SampleError",
        "StoreError",
        "UnknownNameError",
        "UnsupportedError",
        "VseamError",
    ),
    "vseam_core.experiments.evaluation": ("Evaluation", "evaluate"),
    "vseam_core.experiments.rescaling.checkpoint": ("fitted_scales", "save_rescaled_model"),
    "vseam_core.experiments.study_run": ("run_study",),
    "vseam_core.plugins.hookspecs": ("hookimpl",),
    "vseam_core.api.interfaces": (
        "Benchmark",
        "EditPlan",
        "EditPlanner",
        "EditedPictures",
        "Editor",
        "HeadContext",
        "HeadIntervention",
        "MaskProvider",
        "ModelShape",
        "Needs",
        "Painter",
        "TraceContext",
        "Tracer",
        "Variant",
        "VisionLanguageModel",
    ),
    "vseam_core.api.interventions": (
        "Add",
        "AnswerIds",
        "AnswerScore",
        "AttentionBlock",
        "LensScore",
        "MeanOfOthers",
        "Patch",
        "Replace",
        "Run",
        "RunResult",
        "Scale",
        "Site",
        "SiteEdit",
        "Zero",
    ),
    "vseam_core.plugins.discovery": ("Plugins", "build_plugins"),
    "vseam_core.api.prompts": ("EncodedPrompt",),
    "vseam_core.plugins.specs": (
        "PLUGIN_API",
        "CommandRecord",
        "DatasetRecord",
        "EditPlannerRecord",
        "EditorRecord",
        "HeadInterventionRecord",
        "MaskProviderRecord",
        "ModelRecord",
        "TracerRecord",
    ),
    "vseam_core.plugins.registry": ("Registry", "load_registry"),
    "vseam_core.report.tables.closing": ("closing_tables",),
    "vseam_core.report.writer": ("write_report",),
    "vseam_core.store": ("open_store",),
    "vseam_core.config.study": ("Study", "default_study", "load_study"),
    "vseam_core.api.types": (
        "HeadEffect",
        "HeadId",
        "ModelInfo",
        "Pair",
        "RoleSpan",
        "Sample",
        "Skip",
        "TraceEffect",
    ),
    "vseam_core.runs.workspace": ("Workspace", "open_workspace"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("vseam")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
