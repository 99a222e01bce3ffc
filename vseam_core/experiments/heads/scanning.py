"""A head scan that is set up: its options and units, and the exact effects of replacing heads on one sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vseam_core.api.interfaces import Editor, HeadIntervention, ModelShape
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.api.presentation import Replacement
from vseam_core.api.types import HeadEffect, HeadId, Sample, ScanDirection
from vseam_core.errors import SampleError, VseamError
from vseam_core.experiments.answering import baselines_of, judge_again
from vseam_core.experiments.encoding import NO_COMPETITOR, Prepared, prepare, prompt_identity
from vseam_core.experiments.heads.changes import HeadOperation, OperationOptions, operation_of
from vseam_core.experiments.heads.looking import image_attention, keeps_attention
from vseam_core.experiments.heads.samples import Chosen, find_samples
from vseam_core.experiments.named_stacks import say_what_is_left_out
from vseam_core.experiments.thumbnails import keep_thumbnails
from vseam_core.results.scoring import one_pool
from vseam_core.runs.experiment import Experiment, OpenRun
from vseam_core.runs.runner import Unit
from vseam_core.runs.spec import UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

EXPERIMENT = Experiment("head_scan", version=1)
SCAN_MEASURES: tuple[str, ...] = ("logit_diff", "published_prob")


@dataclass(frozen=True)
class ScanOptions(OperationOptions):
    """Which replacement, where, on how many answers.

    `sampled` samples of the easiest split are scanned whatever the model answered, and wrong answers of all splits until there are
    `wrong` (as many for each gold class where there are enough). `direction` is for `patch`: noising puts corrupt heads into the
    clean run, denoising clean heads into the corrupt run; both are read on the clean answer, so that a head that supports it is
    positive either way.

    `method`: `exact` replaces every head; `screen` estimates all of them from gradients and replaces the `screen_top` best (None: one in
    40, at least 8) and a random tenth as many, with `integrated_steps` points between sample and donor (0: none). `stack` is whose heads
    are scanned, "" the language model's.
    """

    sampled: int = 40
    wrong: int = 20
    direction: ScanDirection = "noising"
    method: Literal["exact", "screen"] = "exact"
    screen_top: int | None = None
    integrated_steps: int = 0
    stack: str = ""


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that is set up and has not run yet; `units` hold one `Target` each. `effect` is what results call the operation."""

    opened: OpenRun
    operation: HeadOperation
    options: ScanOptions
    units: Sequence[Unit[Target]]
    title: str

    @property
    def shape(self) -> ModelShape:
        """The shape of the model that is scanned."""
        return self.operation.shape

    @property
    def effect(self) -> str:
        """The operation's name, and the direction where it is not the usual one."""
        return effect_name(self.operation.name, self.options.direction)

    @property
    def sign(self) -> float:
        """What a head's own output is worth: taken away from the clean run (+1), or given back to the corrupt one (-1)."""
        return -1.0 if self.options.direction == "denoising" else 1.0

    @property
    def shows_attention(self) -> bool:
        """Whether where heads look is kept for reports."""
        return keeps_attention(self.opened.workspace, self.operation.intervention, self.options.stack)

    def close(self, reused: int) -> None:
        """Keep small images of what was scanned, and where units were `reused` judge answers by the benchmark's rule as it is now."""
        samples = [unit.payload.clean.sample for unit in self.units if unit.payload is not None]
        keep_thumbnails(self.opened.workspace, samples)
        if self.opened.workspace.portion is None and reused:
            known = {sample.identifier: sample for sample in samples}
            judge_again(self.opened.workspace, self.opened.run, self.opened.benchmark, known)


def open_scan(workspace: Workspace, model: str, dataset: str, options: ScanOptions, chosen: Chosen, study: int | None = None) -> Scan:
    """Open the run and name its units, one for each sample.

    Raises `VseamError` for a direction that the operation does not have.
    """
    operation = operation_of(workspace, model, dataset, options, options.stack)
    check_direction(operation.intervention, options.direction)
    paired = operation.intervention.needs().pair
    screening = {"top": screened_heads(options, operation.shape), "integrated_steps": options.integrated_steps}
    parts = {
        "operation": operation.component,
        "positions": options.positions,
        "reference_size": options.reference_size if operation.references else None,
        "direction": options.direction if paired else None,
        "editor": workspace.editor_component(options.editor) if paired else None,
        "screening": screening if options.method == "screen" else None,
        **({"stack": options.stack} if options.stack else {}),
    }
    pool = one_pool(place[0] for place in chosen.places)
    opened = EXPERIMENT.open(workspace, model, dataset, pool=pool, split="all", parts=parts, inputs=operation.inputs, study=study)
    workspace.store.present_run(opened.run, _replacement(operation.intervention, options.direction).record())
    say_what_is_left_out(workspace, opened.loaded, options.stack)
    benchmark = opened.benchmark
    samples = workspace.own_portion(find_samples(benchmark, chosen, workspace.seed))
    editor = workspace.editor(options.editor) if paired else None
    units = [_unit(opened, sample, editor, options.direction) for sample in samples]
    whose = f"{model} {options.stack} heads" if options.stack else f"{model} heads"
    return Scan(opened, operation, options, units, f"{whose} by {operation.name} on {dataset}")


def _unit(opened: OpenRun, sample: Sample, editor: Editor | None, direction: ScanDirection) -> Unit[Target]:
    def prepared() -> tuple[Target, Mapping[str, object]]:
        target = _target(opened.loaded, sample, editor, direction, opened.workspace.seed)
        other = prompt_identity(target.other) if target.other else None
        return target, {"prompt": prompt_identity(target.prepared), "other": other}

    return opened.unit(sample.identifier, prepared)


def check_direction(intervention: HeadIntervention, direction: ScanDirection) -> None:
    """Raise `VseamError` for an operation that cannot be carried out in a direction."""
    if direction == "denoising" and not intervention.needs().pair:
        raise VseamError(f"operation {intervention.name!r} has no direction denoising: it takes nothing from an edited image")


def effect_name(operation: str, direction: ScanDirection) -> str:
    """What results call an operation: its name, and the direction where it is not the usual one."""
    return f"{operation}_denoising" if direction == "denoising" else operation


def _replacement(intervention: HeadIntervention, direction: ScanDirection) -> Replacement:
    """What stands in place of a head; denoising puts it into a run of the edited image."""
    given = intervention.replacement()
    if direction == "noising":
        return given
    return replace(given, words=f"{given.words or intervention.name}, where everything else is the edited image's too")


def screened_heads(options: ScanOptions, shape: ModelShape) -> int:
    """How many heads a screening verifies beside the random ones."""
    from vseam_core.analysis.screening import default_top

    return options.screen_top or default_top(len(all_heads(shape)))


@dataclass(frozen=True, eq=False)
class Target:
    """What one unit scans: the prompt that is run, the other image of the pair where the operation needs it, and the clean sample."""

    prepared: Prepared
    other: Prepared | None
    clean: Prepared


def _target(loaded: LoadedModel, sample: Sample, editor: Editor | None, direction: ScanDirection, seed: int) -> Target:
    if editor is None:
        clean = _with_competitor(prepare(loaded, sample))
        return Target(clean, None, clean)
    pair = editor.edit(sample, seed)
    clean, corrupt = _with_competitor(prepare(loaded, pair.clean)), prepare(loaded, pair.corrupt)
    if direction == "noising":
        return Target(clean, corrupt, clean)
    # Denoising reads the clean answer in the corrupt run.
    return Target(replace(corrupt, answer=clean.answer), clean, clean)


def _with_competitor(clean: Prepared) -> Prepared:
    """The sample, if its answer can be held against another one. Raises `SampleError`."""
    if not clean.answer.competitor:
        reason = "heads are scanned by the logit difference, which needs the dataset's column competitor, options, or an edited image"
        raise SampleError(f"{clean.sample.identifier}: {clean.note or NO_COMPETITOR}; {reason}")
    return clean


def all_heads(shape: ModelShape) -> list[HeadId]:
    """Every head, layer by layer."""
    return [HeadId(layer, head, shape.stack) for layer in range(shape.layers) for head in range(shape.heads_in(layer))]


def in_turn(groups: Sequence[Sequence[Run]], results: Sequence[Any]) -> Iterator[list[Any]]:
    """The results of flattened groups of runs, group by group again."""
    remaining = iter(results)
    for group in groups:
        yield [next(remaining) for _ in group]


def scan_sample(scan: Scan, unit: Unit[Target], heads: Sequence[HeadId]) -> UnitResult:
    """The exact effects of replacing each of `heads` on one sample; all other heads are not measured."""
    target = unit.payload
    prepared, shape, loaded = target.prepared, scan.shape, scan.opened.loaded
    groups = scan.operation.runs(prepared, [[head] for head in heads], target.other)
    base_run = Run(prepared.prompt, (AnswerScore(prepared.answer),))
    results = loaded.engine.run([base_run, *(run for group in groups for run in group)])
    base = results[0].answer
    measured = np.zeros((shape.layers, shape.heads), dtype=bool)
    places = tuple(np.array([(head.layer, head.head) for head in heads]).T)
    measured[places] = True
    effects = []
    for measure in SCAN_MEASURES:
        base_value = getattr(base, measure)
        replaced = [np.mean([getattr(result.answer, measure) for result in group]) for group in in_turn(groups, results[1:])]
        values = np.full(measured.shape, np.nan, dtype=np.float32)
        values[places] = scan.sign * (base_value - np.array(replaced))
        named = (scan.effect, scan.options.positions, measure, shape.stack)
        effects.append(HeadEffect(*named, values, base_value, None if measured.all() else measured))
    return UnitResult(
        unit.key,
        unit.identifier,
        samples=(target.clean.sample,),
        prompts=((target.clean.sample, target.clean.prompt),),
        baselines=tuple(baselines_of(loaded, scan.opened.benchmark, [target.clean])),
        head_effects=tuple((target.clean.sample, effect) for effect in effects),
        details=image_attention(loaded, target.clean) if scan.shows_attention else {},
    )
