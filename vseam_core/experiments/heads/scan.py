"""The head scan: every attention head replaced in turn, on enough right and enough wrong answers, scored with intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vseam_core.api.interfaces import Benchmark, Editor, HeadContext, HeadIntervention, ModelShape
from vseam_core.api.interventions import AnswerScore, Run
from vseam_core.api.types import HeadEffect, HeadId, Sample, ScanDirection
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.errors import SampleError, UnsupportedError, VseamError
from vseam_core.experiments.answering import baselines_of, judge_again
from vseam_core.experiments.encoding import Prepared, model_identity, prepare, prompt_identity
from vseam_core.experiments.heads.donors_and_means import ReferenceSet, RoleMeans, head_positions
from vseam_core.runs.identity import unit_key
from vseam_core.runs.runner import Outcome, Unit, run_units
from vseam_core.runs.spec import RunSpec, UnitResult
from vseam_core.runs.workspace import LoadedModel, Workspace

if TYPE_CHECKING:
    import pandas as pd

VERSION = 1
SCAN_MEASURES: tuple[str, ...] = ("logit_diff", "published_prob")


@dataclass(frozen=True)
class ScanOptions:
    """Which replacement, where, on how many answers.

    `correct` and `wrong` are the numbers of rightly and wrongly answered samples to scan (as many for each gold class where there
    are enough); right answers come from the easiest split, wrong ones from all. `baseline_limit` bounds the baseline pass
    that finds them, per split. `direction` is for `patch`: noising puts corrupt heads into the clean run, denoising clean heads
    into the corrupt run; both are read on the clean answer, so that a head that supports it is positive either way.

    `method`: `exact` replaces every head; `screen` estimates all of them from gradients and replaces the `screen_top` best (None: one in
    40, at least 8) and a random tenth as many, with `integrated_steps` points between sample and donor (0: none).
    """

    operation: str = "resample"
    positions: str = "all"
    correct: int = 40
    wrong: int = 20
    reference_size: int = 64
    direction: ScanDirection = "noising"
    editor: EditorChoice | str = "scenes"
    operation_options: Mapping[str, Any] = field(default_factory=dict)
    method: Literal["exact", "screen"] = "exact"
    screen_top: int | None = None
    integrated_steps: int = 0


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan that is set up and has not run yet. `method` is what identifies its units, `units` hold one sample each."""

    workspace: Workspace
    loaded: LoadedModel
    benchmark: Benchmark
    scanner: HeadScanner
    options: ScanOptions
    method: Mapping[str, Any]
    units: Sequence[Unit]
    run: int
    title: str


def run_scan(
    workspace: Workspace,
    model_name: str,
    dataset: str,
    options: ScanOptions,
    baselines: pd.DataFrame,
    study: int | None = None,
) -> Outcome:
    """Scan all heads on samples chosen by `baselines` (the score pool's answers) and store the effects, sample by sample.

    With `method="screen"` all heads are estimated, some are run exactly, and the outcome's keys are the units of both.
    """
    scan = _set_up(workspace, model_name, dataset, options, baselines, study)
    if options.method == "screen":
        from vseam_core.experiments.heads.screening import run_screening

        return run_screening(scan)
    heads = all_heads(scan.loaded.engine.shape)

    def compute(part: Sequence[Unit]) -> list[UnitResult]:
        return [scan_sample(scan, unit, heads) for unit in part]

    outcome = run_units(workspace.store, scan.run, scan.units, compute, workspace.progress, scan.title)
    judge_scan_again(scan)
    return outcome


def judge_scan_again(scan: Scan) -> None:
    """Which effects are of right and which of wrong answers is said by the benchmark's rule as it is now."""
    samples = [unit.payload.clean.sample for unit in scan.units if unit.payload is not None]
    judge_again(scan.workspace, scan.run, scan.benchmark, {sample.identifier: sample for sample in samples})


def _set_up(workspace: Workspace, model_name: str, dataset: str, options: ScanOptions, baselines: pd.DataFrame, study: int | None) -> Scan:
    loaded, benchmark = workspace.model(model_name), workspace.benchmark(dataset)
    intervention = workspace.plugins.head_intervention(options.operation, **options.operation_options)
    check_direction(intervention, options.direction)
    editor = workspace.editor(options.editor) if intervention.needs().pair else None
    configuration = _configuration(intervention, options, loaded.engine.shape)
    info = loaded.model.info
    spec = RunSpec("head_scan", VERSION, info, dataset, benchmark.level, benchmark.category, "score", "all", configuration, workspace.seed)
    run = workspace.store.ensure_run(spec, study=study, device=info.device, versions=workspace.versions(), trust=loaded.trust)
    scanner = HeadScanner(
        loaded, intervention, options.positions, score_reference_set(workspace, loaded, benchmark, options), workspace.seed
    )
    method = {"method": "head_scan", "version": VERSION, "seed": workspace.seed, **configuration, **scanner.identity()}
    chosen = choose_samples(baselines, benchmark.splits()[0], options.correct, options.wrong)
    samples = find_samples(benchmark, chosen, baselines, workspace.seed)
    units = [_scan_unit(loaded, sample, editor, method, options, workspace.seed) for sample in samples]
    title = f"{model_name} heads by {options.operation} on {dataset}"
    return Scan(workspace, loaded, benchmark, scanner, options, method, units, run, title)


def check_direction(intervention: HeadIntervention, direction: ScanDirection) -> None:
    """Raise `VseamError` for an operation that cannot be carried out in a direction."""
    if direction == "denoising" and not intervention.needs().pair:
        raise VseamError(f"operation {intervention.name!r} has no direction denoising: it takes nothing from an edited image; use patch")


def effect_name(operation: str, direction: ScanDirection) -> str:
    """What results call an operation: its name, and the direction where it is not the usual one."""
    return f"{operation}_denoising" if direction == "denoising" else operation


def effect_sign(options: ScanOptions) -> float:
    """What a head's own output is worth: taken away from the clean run (+1), or given back to the corrupt one (-1)."""
    return -1.0 if options.direction == "denoising" else 1.0


def _configuration(intervention: HeadIntervention, options: ScanOptions, shape: ModelShape) -> dict[str, Any]:
    screening = {"top": screened_heads(options, shape), "integrated_steps": options.integrated_steps}
    return {
        "operation": intervention.name,
        "operation_version": intervention.version,
        "positions": options.positions,
        "reference_size": options.reference_size,
        "direction": options.direction if intervention.needs().pair else None,
        # An exact scan keeps the identity that it had before there was any other.
        **({"screening": screening} if options.method == "screen" else {}),
        **intervention.options(),
    }


def screened_heads(options: ScanOptions, shape: ModelShape) -> int:
    """How many heads a screening verifies beside the random ones."""
    from vseam_core.analysis.screening import default_top

    return options.screen_top or default_top(shape.layers * shape.heads)


def score_reference_set(workspace: Workspace, loaded: LoadedModel, benchmark: Benchmark, options: ScanOptions) -> ReferenceSet:
    """The first samples of the score pool that can be encoded: they lend donors and means."""
    members = []
    for sample in benchmark.samples("score", benchmark.splits()[0], options.reference_size, workspace.seed):
        try:
            members.append(prepare(loaded, sample))
        except (SampleError, UnsupportedError):
            continue
    return ReferenceSet(tuple(members))


def choose_samples(baselines: pd.DataFrame, first_split: str, correct: int, wrong: int) -> list[str]:
    """Identifiers of the samples to scan, evenly over the gold answers: right ones from the first split, wrong from any.

    `baselines` has the columns identifier, split, answer and correct_strict, in the order in which samples are to be taken.
    """
    frame = baselines[baselines["pair_role"].isin(["", "clean"])]
    right = frame[frame["correct_strict"].astype(bool) & (frame["split"] == first_split)]
    return _evenly(right, correct) + _evenly(frame[~frame["correct_strict"].astype(bool)], wrong)


def _evenly(frame: pd.DataFrame, count: int) -> list[str]:
    """The first `count` rows, taken in turn from each gold answer."""
    queues = [group["identifier"].tolist() for _, group in frame.groupby(frame["answer"].str.lower(), sort=True)]
    taken: list[str] = []
    while len(taken) < count and any(queues):
        for queue in queues:
            if queue and len(taken) < count:
                taken.append(queue.pop(0))
    return taken


def find_samples(benchmark: Benchmark, identifiers: Sequence[str], baselines: pd.DataFrame, seed: int) -> list[Sample]:
    """The samples of those identifiers, in that order, from every split of the score pool that the baseline pass saw."""
    wanted, found = set(identifiers), {}
    seen = baselines[baselines["pair_role"].isin(["", "clean"])]
    for split, group in seen.groupby("split", sort=False):
        for sample in benchmark.samples("score", str(split), len(group) + len(wanted), seed):
            if sample.identifier in wanted:
                found[sample.identifier] = sample
    return [found[identifier] for identifier in identifiers if identifier in found]


@dataclass(frozen=True, eq=False)
class _Target:
    """What one unit scans: the prompt that is run, the other image of the pair where the operation needs it, and the clean sample."""

    prepared: Prepared
    other: Prepared | None
    clean: Prepared


def _scan_unit(
    loaded: LoadedModel, sample: Sample, editor: Editor | None, method: Mapping[str, Any], options: ScanOptions, seed: int
) -> Unit:
    try:
        target = _target(loaded, sample, editor, options, seed)
    except (SampleError, UnsupportedError) as error:
        key = unit_key(**method, **model_identity(loaded.model), sample=sample.identifier, problem=str(error))
        return Unit(key, sample.identifier, None, str(error))
    other = prompt_identity(target.other) if target.other else None
    key = unit_key(**method, **model_identity(loaded.model), sample=sample.identifier, **prompt_identity(target.prepared), other=other)
    return Unit(key, sample.identifier, target)


def _target(loaded: LoadedModel, sample: Sample, editor: Editor | None, options: ScanOptions, seed: int) -> _Target:
    if editor is None:
        clean = prepare(loaded, sample)
        return _Target(clean, None, clean)
    pair = editor.edit(sample, seed)
    clean, corrupt = prepare(loaded, pair.clean), prepare(loaded, pair.corrupt)
    if options.direction == "noising":
        return _Target(clean, corrupt, clean)
    # Denoising reads the clean answer in the corrupt run.
    return _Target(replace(corrupt, answer=clean.answer), clean, clean)


class HeadScanner:
    """Replaces heads one by one, or sets of heads at once, on a prepared sample."""

    def __init__(self, loaded: LoadedModel, intervention: HeadIntervention, positions: str, references: ReferenceSet, seed: int):
        self.loaded, self.intervention, self._positions = loaded, intervention, positions
        self._references, self._seed = references, seed
        self._means: RoleMeans | None = None

    def identity(self) -> dict[str, Any]:
        """What of the reference set changes the result."""
        needs = self.intervention.needs()
        return {"reference": self._references.identity if needs.donors or needs.means else []}

    def context(self, prepared: Prepared, other: Prepared | None = None) -> HeadContext:
        """Everything that the intervention asked for, on this sample."""
        needs, engine = self.intervention.needs(), self.loaded.engine
        if needs.means and self._means is None:
            self._means = self._references.means(engine)
        return HeadContext(
            base=prepared.prompt,
            shape=engine.shape,
            positions=head_positions(prepared.prompt, self._positions),
            donors=self._references.donors(prepared, needs.donors, self._seed) if needs.donors else (),
            means=self._means.resolve(prepared.prompt) if self._means else None,
            other=other.prompt if other else None,
        )

    def runs(self, prepared: Prepared, sets: Sequence[Sequence[HeadId]], other: Prepared | None = None) -> list[list[Run]]:
        """For each set of heads, one run per variant of the intervention."""
        context = self.context(prepared, other)
        readouts = (AnswerScore(prepared.answer),)
        return [
            [Run(prepared.prompt, readouts, variant.edits, variant.donor) for variant in self.intervention.interventions(heads, context)]
            for heads in sets
        ]


def all_heads(shape: ModelShape) -> list[HeadId]:
    """Every head, layer by layer."""
    return [HeadId(layer, head, shape.stack) for layer in range(shape.layers) for head in range(shape.heads)]


def in_turn(groups: Sequence[Sequence[Run]], results: Sequence[Any]) -> Iterator[list[Any]]:
    """The results of flattened groups of runs, group by group again."""
    remaining = iter(results)
    for group in groups:
        yield [next(remaining) for _ in group]


def scan_sample(scan: Scan, unit: Unit, heads: Sequence[HeadId]) -> UnitResult:
    """The exact effects of replacing each of `heads` on one sample; all other heads are not measured."""
    target: _Target = unit.payload
    scanner, prepared, engine = scan.scanner, target.prepared, scan.loaded.engine
    sign = effect_sign(scan.options)
    groups = scanner.runs(prepared, [[head] for head in heads], target.other)
    base_run = Run(prepared.prompt, (AnswerScore(prepared.answer),))
    results = engine.run([base_run, *(run for group in groups for run in group)])
    base, shape = results[0].answer, (engine.shape.layers, engine.shape.heads)
    measured = np.zeros(shape, dtype=bool)
    places = tuple(np.array([(head.layer, head.head) for head in heads]).T)
    measured[places] = True
    effects = []
    for measure in SCAN_MEASURES:
        base_value = getattr(base, measure)
        replaced = [np.mean([getattr(result.answer, measure) for result in group]) for group in in_turn(groups, results[1:])]
        values = np.full(shape, np.nan, dtype=np.float32)
        values[places] = sign * (base_value - np.array(replaced))
        named = (effect_name(scanner.intervention.name, scan.options.direction), scan.options.positions, measure, engine.shape.stack)
        effects.append(HeadEffect(*named, values, base_value, None if measured.all() else measured))
    return UnitResult(
        unit.key,
        unit.identifier,
        samples=(target.clean.sample,),
        prompts=((target.clean.sample, target.clean.prompt),),
        baselines=tuple(baselines_of(scan.loaded, scan.benchmark, [target.clean])),
        head_effects=tuple((target.clean.sample, effect) for effect in effects),
    )
