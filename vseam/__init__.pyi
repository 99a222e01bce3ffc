"""The public names and where each lives: what type checkers and editors read, and what `vseam/__init__.py` imports on first use."""

from vseam.explaining import ExplanationResult as ExplanationResult, explain as explain
from vseam.measuring import evaluate as evaluate, scan as scan, trace as trace
from vseam.querying import query as query
from vseam.shown import (
    EvaluationResult as EvaluationResult,
    HeadMapResult as HeadMapResult,
    ScanResult as ScanResult,
    TraceResult as TraceResult,
)
from vseam_core.api.interfaces import (
    Benchmark as Benchmark,
    EditedImages as EditedImages,
    Editor as Editor,
    EditPlan as EditPlan,
    EditPlanner as EditPlanner,
    HeadContext as HeadContext,
    HeadIntervention as HeadIntervention,
    MaskProvider as MaskProvider,
    ModelShape as ModelShape,
    Needs as Needs,
    Painter as Painter,
    TraceContext as TraceContext,
    Tracer as Tracer,
    Variant as Variant,
    VisionLanguageModel as VisionLanguageModel,
)
from vseam_core.api.interventions import (
    Add as Add,
    AnswerIds as AnswerIds,
    AnswerScore as AnswerScore,
    AttentionBlock as AttentionBlock,
    AttentionWeights as AttentionWeights,
    LensScore as LensScore,
    MeanOfOthers as MeanOfOthers,
    Patch as Patch,
    PathPatch as PathPatch,
    Remove as Remove,
    Replace as Replace,
    Run as Run,
    RunResult as RunResult,
    Scale as Scale,
    Site as Site,
    SiteEdit as SiteEdit,
    Zero as Zero,
)
from vseam_core.api.prompts import EncodedPrompt as EncodedPrompt
from vseam_core.api.types import (
    HeadEffect as HeadEffect,
    HeadId as HeadId,
    ModelInfo as ModelInfo,
    Pair as Pair,
    RoleSpan as RoleSpan,
    Sample as Sample,
    Skip as Skip,
    TraceEffect as TraceEffect,
)
from vseam_core.config.editor_settings import EditorChoice as EditorChoice
from vseam_core.config.study import Study as Study, default_study as default_study
from vseam_core.config.study_file import load_study as load_study
from vseam_core.errors import (
    InvalidFileError as InvalidFileError,
    NameClashError as NameClashError,
    PluginError as PluginError,
    QueryError as QueryError,
    SampleError as SampleError,
    StoreError as StoreError,
    UnknownNameError as UnknownNameError,
    UnsupportedError as UnsupportedError,
    VseamError as VseamError,
)
from vseam_core.experiments.evaluation import Evaluation as Evaluation
from vseam_core.experiments.rescaling.checkpoint import fitted_scales as fitted_scales, save_rescaled_model as save_rescaled_model
from vseam_core.experiments.study.run import run_study as run_study
from vseam_core.plugins.discovery import Plugins as Plugins, build_plugins as build_plugins
from vseam_core.plugins.hookspecs import hookimpl as hookimpl
from vseam_core.plugins.registry import Registry as Registry, load_registry as load_registry
from vseam_core.plugins.records import (
    PLUGIN_API as PLUGIN_API,
    CommandRecord as CommandRecord,
    DatasetRecord as DatasetRecord,
    EditorRecord as EditorRecord,
    EditPlannerRecord as EditPlannerRecord,
    HeadInterventionRecord as HeadInterventionRecord,
    MaskProviderRecord as MaskProviderRecord,
    ModelRecord as ModelRecord,
    TracerRecord as TracerRecord,
)
from vseam_core.report.tables.closing import closing_tables as closing_tables
from vseam_core.report.writer import write_report as write_report
from vseam_core.runs.workspace import Workspace as Workspace, open_workspace as open_workspace
from vseam_core.store import open_store as open_store

__version__: str
