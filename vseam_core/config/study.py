"""A study: models × datasets × methods, as a study file says them, expanded into tasks with a stable identity.

name: colours
models: [llava-tiny]
datasets: [scenes/color, scenes/material]
sizes: {pairs: 50}
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from vseam_core.api.types import PoolChoice, ScanDirection
from vseam_core.config.editor_settings import EditorChoice, EditorSetting
from vseam_core.config.sections import Count, Name, Positive, Section, named
from vseam_core.config.study_methods import Comparing, Directions, PathScreening
from vseam_core.errors import VseamError

if TYPE_CHECKING:
    from vseam_core.analysis.rescaling import Setting

Stage = Literal["evaluate", "trace", "scan", "screen_paths", "directions", "ablate", "rescale", "compare", "shared", "report"]
Positions = Literal["all", "question", "image", "last"]
Protocol = Literal["claims", "published"]
ScanMethod = Literal["exact", "screen"]
StackName = Literal["", "vision", "connector", "decoder", "cross"]
STAGES: tuple[Stage, ...] = ("evaluate", "trace", "scan", "screen_paths", "directions", "ablate", "rescale", "compare", "shared", "report")
METHOD_STAGES: tuple[Stage, ...] = ("screen_paths", "directions", "compare")
"""Stages that are run where a study lists them; each has a section of its name."""
DEFAULT_STAGES: tuple[Stage, ...] = tuple(stage for stage in STAGES if stage not in METHOD_STAGES)
RANDOM_MODEL_STAGES: tuple[Stage, ...] = ("trace",)

MINIMUM_RANDOM_MODELS = 5
UNCAPPED_SIZES = ("random_model_pairs", "random_sets", "reference")


class _OfAStack(Section):
    """Something that is done to a stack: the vision tower, a Q-Former (connector), cross-attention (cross), the decoder that generates
    from an encoder (decoder), or where nothing is named the stack in which image and words stand."""

    stack: StackName = ""

    @model_serializer(mode="wrap")
    def _named_where_it_is_set(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that what was stored before stacks had names is the same work.
        return {name: value for name, value in serialise(self).items() if name != "stack" or value}


class Method(_OfAStack):
    """A registered method with options; a bare name in the file means no options. `stack` is for tracers."""

    name: Name
    options: dict[str, Any] = Field(default_factory=dict)


class HeadScan(_OfAStack):
    """One scan of all heads: by what they are replaced, at which positions, and which protocol scores them.

    `method: screen` estimates all heads from gradients and replaces only the `screen_top` best ones and a random tenth as many;
    `integrated_steps` averages the gradients over so many points between a sample and its donor.

    `direction` is for operations that take the other image of a pair (`patch`): noising puts the edited image's heads into the
    clean run, denoising the clean image's into the edited one.
    """

    operation: Name = "resample"
    positions: Positions = "all"
    direction: ScanDirection = "noising"
    protocol: Protocol = "claims"
    options: dict[str, Any] = Field(default_factory=dict)
    method: ScanMethod = "exact"
    screen_top: Positive | None = None
    integrated_steps: Count = 0

    @model_validator(mode="after")
    def _screening_has_its_own_fields(self) -> HeadScan:
        if self.method == "exact" and (self.screen_top is not None or self.integrated_steps):
            raise ValueError("screen_top and integrated_steps belong to method: screen, an exact scan replaces every head")
        return self

    @model_validator(mode="after")
    def _named_stacks_are_scanned_exactly_and_whole(self) -> HeadScan:
        if self.stack and self.method == "screen":
            raise ValueError(
                f"stack {self.stack}: gradients estimate heads of the language model only, so it is scanned with method: exact"
            )
        if self.stack and self.positions != "all":
            raise ValueError(f"stack {self.stack}: its rows are no positions of the prompt, so heads are replaced at positions: all")
        return self


class Sizes(Section):
    """How many samples each step takes per dataset.

    `score` and `hard` are the questions of the score pool that are answered to find right and wrong answers (easiest split, other
    splits); `scan_sampled` of the easiest split have their heads scanned whatever the answer was, and wrong answers of all splits
    until there are `scan_wrong`. Random models are traced on the first `random_model_pairs` of the `pairs`, and the model itself is held
    against them on these. `test` and `choose` count per split; `confirm` test samples decide on candidates for negative heads.
    `reference` samples lend resampling donors and dataset means.
    """

    pairs: Count = 40
    random_model_pairs: Count = 40
    score: Count = 200
    hard: Count = 200
    scan_sampled: Count = 40
    scan_wrong: Count = 30
    choose: Count = 100
    test: Count = 200
    ablation: Count = 40
    confirm: Count = 200
    random_sets: Count = 199
    reference: Positive = 64


class Rescaling(Section):
    """The grid that head rescaling is chosen from, on the choose pool: λ, heads per sign, and bounds on the scales."""

    strengths: list[float] = Field(default=[0.25, 0.5, 1.0], min_length=1)
    top_k: list[Positive] = Field(default=[2, 4], min_length=1)
    clips: list[float | None] = Field(default=[None], min_length=1)

    def settings(self) -> list[Setting]:
        """Every point of the grid."""
        from vseam_core.analysis.rescaling import rescaling_grid

        return rescaling_grid(self.strengths, self.top_k, self.clips)


class Ablation(Section):
    """Which selected heads are ablated on the test pool, and with what; beside matched random sets."""

    signs: list[Literal["positive", "negative"]] = Field(default=["positive", "negative"])
    operations: list[Annotated[Method, BeforeValidator(named)]] = Field(
        default=[Method(name="resample"), Method(name="zero")], min_length=1
    )


class Study(Section):
    """What a study does. Everything but the lists of models and datasets has a default.

    `trace_pool` and `scan_pool` are the pools that are traced and whose heads are scanned; heads that are selected on another pool than
    score cannot be ablated or rescaled, since no unseen images would be left to report on. `workers` processes of this machine share
    the work, each with a model in memory; `auto` is one for each core, or for each GPU where there are any.
    """

    name: Name = "study"
    models: list[Name] = Field(min_length=1)
    datasets: list[Name] = Field(min_length=1)
    seed: Count = 0
    editor: EditorSetting = EditorChoice()
    tracers: list[Annotated[Method, BeforeValidator(named)]] = Field(default=[Method(name="tokenwise"), Method(name="groups")])
    trace_pool: PoolChoice = "score"
    scan_pool: PoolChoice = "score"
    heads: list[HeadScan] = Field(default=[HeadScan(), HeadScan(operation="mean_of_others", protocol="published")])
    donors: Positive = 5
    sizes: Sizes = Sizes()
    rescaling: Rescaling = Rescaling()
    ablation: Ablation = Ablation()
    compare: Comparing = Comparing()
    directions: Directions = Directions()
    screen_paths: PathScreening = PathScreening()
    top_k: Positive = 4
    shared_k: Positive = 4
    random_models: Count = 0
    workers: Positive | Literal["auto"] = 1
    stages: list[Stage] = Field(default=list(DEFAULT_STAGES), min_length=1)

    @field_validator("random_models")
    @classmethod
    def _enough_for_a_band(cls, value: int) -> int:
        if 0 < value < MINIMUM_RANDOM_MODELS:
            raise ValueError(f"{value} random models make no band: give 0 or at least {MINIMUM_RANDOM_MODELS}")
        return value

    @model_validator(mode="after")
    def _selected_on_the_score_pool(self) -> Study:
        later = [stage for stage in ("ablate", "rescale", "shared") if stage in self.stages]
        if self.scan_pool != "score" and later:
            raise ValueError(
                f"scan_pool {self.scan_pool}: stage {later[0]} reports on images that no head was selected on, so it needs score"
            )
        return self

    @model_validator(mode="after")
    def _later_stages_change_the_language_model(self) -> Study:
        later = [stage for stage in ("ablate", "rescale", "shared") if stage in self.stages]
        if later and self.heads and self.heads[0].stack:
            raise ValueError(
                f"heads.0.stack {self.heads[0].stack}: stage {later[0]} goes on with the heads of the first scan, and they must be the "
                "language model's; list another scan first, or measure heads of this stack by `vseam eval --ablate`"
            )
        return self

    @field_validator("models", "datasets", "stages")
    @classmethod
    def _once_each(cls, values: list[str]) -> list[str]:
        repeated = sorted({value for value in values if values.count(value) > 1})
        if repeated:
            raise ValueError(f"{repeated[0]!r} is listed twice")
        return values

    def with_overrides(self, limit: int | None = None, **fields: Any) -> Study:
        """The same study with other fields (`models=…, seed=…`); `limit` caps every size. None leaves a field as it is."""
        changes = {name: value for name, value in fields.items() if value is not None}
        if limit is not None:
            sizes = changes.get("sizes", self.sizes)
            capped = {name: min(getattr(sizes, name), limit) for name in Sizes.model_fields if name not in UNCAPPED_SIZES}
            changes["sizes"] = sizes.model_copy(update=capped)
        merged = {name: getattr(self, name) for name in type(self).model_fields} | changes
        try:
            return Study.model_validate(merged)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise VseamError(f"study: {'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}") from None

    def stored(self) -> dict[str, Any]:
        """What a database keeps of the study: all but the number of workers, and sections of stages that it does not list."""
        unused = {stage for stage in METHOD_STAGES if stage not in self.stages}
        return self.model_dump(mode="json", exclude={"workers", *unused})

    def expand(self) -> list[StudyTask]:
        """One task for each model and dataset, then those of the randomly initialised models, which are only traced."""
        tasks = [self._task(model, dataset, self._ordered(STAGES)) for model in self.models for dataset in self.datasets]
        random_stages = self._ordered(RANDOM_MODEL_STAGES)
        if random_stages:
            tasks += [
                self._task(f"{model}@random-{seed}", dataset, random_stages)
                for model in self.models
                for seed in range(1, self.random_models + 1)
                for dataset in self.datasets
            ]
        return tasks

    def _ordered(self, allowed: tuple[Stage, ...]) -> tuple[Stage, ...]:
        return tuple(stage for stage in allowed if stage in self.stages)

    def _task(self, model: str, dataset: str, stages: tuple[Stage, ...]) -> StudyTask:
        """A task whose identity holds what changes its numbers: no name, no sizes, no list of the other tasks."""
        settings = self.model_dump(
            mode="json", include={"seed", "tracers", "trace_pool", "scan_pool", "heads", "donors", "rescaling", "ablation"}
        )
        settings["editor"] = self.editor.identity()
        settings |= {stage: getattr(self, stage).model_dump(mode="json") for stage in METHOD_STAGES if stage in stages}
        text = json.dumps({"model": model, "dataset": dataset, **settings}, sort_keys=True, separators=(",", ":"))
        return StudyTask(model, dataset, stages, hashlib.sha256(text.encode()).hexdigest()[:16])


@dataclass(frozen=True)
class StudyTask:
    """One model on one dataset. Equal identities mean the same work, in whichever study and however large."""

    model: str
    dataset: str
    stages: tuple[Stage, ...]
    identity: str


def default_study() -> Study:
    """The small study of `vseam run`: both embedded models on the seven categories of the scenes world, in a few minutes.

    Most head claims need more samples than this takes; what is not resolved is said. `studies/large.yaml` resolves it.
    """
    tracers = ("tokenwise", "groups", "regions", "lens")
    scans = ("resample", "mean_of_others")
    return Study(
        name="default",
        models=["llava-tiny", "instructblip-tiny"],
        datasets=[f"scenes/{task}" for task in ("animal", "vehicle", "indoor", "color", "material", "spatial", "action")],
        tracers=[Method(name=name) for name in tracers],
        heads=[HeadScan(operation=name, protocol="published" if name == "mean_of_others" else "claims") for name in scans],
        ablation=Ablation(operations=[Method(name="resample")]),
        random_models=5,
        workers=2,
        sizes=Sizes(
            pairs=20,
            random_model_pairs=2,
            score=40,
            hard=320,
            scan_sampled=20,
            scan_wrong=24,
            choose=20,
            test=20,
            ablation=4,
            confirm=120,
            random_sets=99,
            reference=32,
        ),
    )
