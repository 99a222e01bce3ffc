"""A model with some heads changed, as an evaluation measures it: a stored rescaling, or a set of heads ablated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vseam_core.api.interfaces import Benchmark
from vseam_core.api.interventions import AnswerIds
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadId, parse_head
from vseam_core.engine.generation import Question
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.experiments.answering import Change
from vseam_core.experiments.encoding import Prepared
from vseam_core.experiments.heads.donors_and_means import ReferenceSet
from vseam_core.experiments.heads.scan import HeadScanner, ScanOptions, score_reference_set
from vseam_core.runs.workspace import LoadedModel, Workspace

if TYPE_CHECKING:
    from vseam_core.api.interfaces import HeadIntervention

MOST_NAMED = 4


@dataclass(frozen=True)
class ChangeOptions:
    """What is changed: `rescale` is the name of a stored rescaling, or RUN or RUN:ROLE; `ablate` names heads such as L5H3.

    Ablated heads are replaced by `operation`. Nothing given is the model as it is.
    """

    rescale: str | None = None
    ablate: tuple[str, ...] = ()
    operation: str = "zero"


class HeadChange(Change):
    """Heads changed by an intervention at all positions, those generated included."""

    def __init__(self, scanner: HeadScanner, heads: Sequence[HeadId], label: str):
        self._scanner, self._heads, self.label = scanner, tuple(heads), label

    @property
    def configuration(self) -> dict[str, Any]:
        """The operation with its options, and the heads."""
        intervention = self._scanner.intervention
        return {"operation": intervention.name, "heads": sorted(str(head) for head in self._heads), **intervention.options()}

    @property
    def identity(self) -> dict[str, Any]:
        """The reference set, where the operation takes anything from it."""
        return self._scanner.identity()

    def question(self, prepared: Prepared, prompt: EncodedPrompt, answer: AnswerIds | None) -> Question:
        """A prompt with the intervention's edits. Raises `SampleError` where the sample lacks what they need (donors)."""
        variants = self._scanner.intervention.interventions(self._heads, self._scanner.context(replace(prepared, prompt=prompt)))
        if len(variants) != 1:
            raise UnsupportedError(
                f"{self._scanner.intervention.name}: it averages over {len(variants)} variants, and texts cannot be averaged; give it one"
            )
        return Question(prompt, answer, variants[0].edits, variants[0].donor)


def make_change(workspace: Workspace, loaded: LoadedModel, benchmark: Benchmark, options: ChangeOptions) -> Change:
    """The change that the options ask for. Raises `VseamError` for unknown names and heads, and for an operation with the reason."""
    if options.rescale and options.ablate:
        raise VseamError("a model is rescaled or ablated, not both at once: give --rescale or --ablate")
    if options.rescale:
        scales = stored_scales(workspace, loaded, options.rescale)
        heads = [parse_head(name) for name in scales]
        intervention = workspace.plugins.head_intervention("scale", factors=scales)
        return _changed(workspace, loaded, benchmark, intervention, heads, f"rescaled {options.rescale}")
    if options.ablate:
        heads = list(dict.fromkeys(parse_head(name) for name in options.ablate))
        given = {"donors": 1} if options.operation == "resample" else {}
        intervention = workspace.plugins.head_intervention(options.operation, **given)
        named = ",".join(map(str, heads)) if len(heads) <= MOST_NAMED else f"{len(heads)} heads"
        return _changed(workspace, loaded, benchmark, intervention, heads, f"{intervention.name} {named}")
    return Change()


def _changed(
    workspace: Workspace, loaded: LoadedModel, benchmark: Benchmark, intervention: HeadIntervention, heads: Sequence[HeadId], label: str
) -> Change:
    shape = loaded.engine.shape
    for head in heads:
        if head.stack != shape.stack or not 0 <= head.layer < shape.layers or not 0 <= head.head < shape.heads:
            known = f"the {shape.stack} has layers 0 to {shape.layers - 1} with heads 0 to {shape.heads - 1}"
            raise UnknownNameError(f"{loaded.model.info.name}: head {head} does not exist: {known}")
    needs = intervention.needs()
    if needs.pair:
        raise UnsupportedError(
            f"{intervention.name}: it takes from the other image of a pair, which an evaluation does not have; "
            "use zero, mean_of_others, dataset_mean or resample, or `vseam heads scan`"
        )
    references = ReferenceSet(())
    if needs.donors or needs.means:
        references = score_reference_set(workspace, loaded, benchmark, ScanOptions())
    return HeadChange(HeadScanner(loaded, intervention, "all", references, workspace.seed), heads, label)


def stored_scales(workspace: Workspace, loaded: LoadedModel, name: str) -> Mapping[str, float]:
    """The factors of a stored rescaling: by its name, or those that a rescaling run fitted (RUN), or measured in a role (RUN:ROLE).

    Raises `UnknownNameError` where there is none, and `VseamError` where it belongs to other weights or changes nothing.
    """
    named = workspace.store.named_rescalings()
    if name in named:
        found, weights, model = named[name].scales, named[name].weights_hash, named[name].model
    else:
        run, _, role = name.partition(":")
        runs = workspace.store.runs(method="rescaling")
        here = runs[runs["id"].astype(str) == run]
        if here.empty:
            known = [*named, *runs["id"].astype(str)]
            raise UnknownNameError(f"no rescaling {name!r} in {workspace.store.label}; {did_you_mean(name, known)}")
        rows = workspace.store.modulations(int(here.iloc[0]["id"]))
        rows = rows[rows["role"] == (role or "fitted")]
        if rows.empty:
            raise UnknownNameError(f"run {run} measured no rescaling in the role {role or 'fitted'!r}")
        found, weights, model = dict(rows.iloc[0]["scales"]), here.iloc[0]["weights_hash"], here.iloc[0]["model"]
    if weights != loaded.model.info.weights_hash:
        raise VseamError(f"rescaling {name!r} was fitted to other weights ({model}) than those of {loaded.model.info.name}")
    if not found:
        raise VseamError(f"rescaling {name!r} leaves every head alone: there is nothing to measure")
    return found
