"""Heads changed by an intervention: the runs and the questions that it makes of a prompt, for scans, ablation, rescaling and `eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vseam_core.api.interfaces import HeadContext, HeadIntervention, ModelShape, Variant
from vseam_core.api.interventions import AnswerIds, AnswerScore, Run
from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadId
from vseam_core.config.defaults import EDITOR, OPERATION
from vseam_core.config.editor_settings import EditorChoice
from vseam_core.engine.generation import Question
from vseam_core.errors import UnsupportedError
from vseam_core.experiments.encoding import Prepared
from vseam_core.experiments.heads.donors_and_means import ReferenceSet, head_positions, reference_set
from vseam_core.experiments.named_stacks import check_operation, shape_of_named
from vseam_core.plugins.records import HeadInterventionRecord
from vseam_core.runs.identity import Component, component_of
from vseam_core.runs.workspace import Workspace

REFERENCE_SIZE = 64
"""How many samples lend donors and means, unless something else is asked for."""


@dataclass(frozen=True)
class OperationOptions:
    """What heads are replaced by in a stage, at which positions, and from what.

    `donors` is for operations that take some, unless `operation_options` say how many; `reference_size` samples lend donors and means.
    `editor` makes the other image of a pair.
    """

    operation: str = OPERATION
    positions: str = "all"
    reference_size: int = REFERENCE_SIZE
    donors: int | None = None
    editor: EditorChoice | str = EDITOR
    operation_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class HeadOperation:
    """A head intervention at some positions of a model's prompts, with the reference set that it asked for (else None).

    `component` is what it contributes to an identity, under the name that it is registered by.
    """

    shape: ModelShape
    intervention: HeadIntervention
    component: Component
    positions: str = "all"
    references: ReferenceSet | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """The registered name: what results call the operation."""
        return self.component.name

    @property
    def inputs(self) -> dict[str, Any]:
        """What of the reference set changes the result."""
        return {"reference": self.references.identity} if self.references else {}

    def variants(self, prepared: Prepared, heads: Sequence[HeadId], other: Prepared | None = None) -> Sequence[Variant]:
        """The ways to change these heads on a sample; `other` is the other image of its pair.

        Raises `SampleError` where the sample lacks what the intervention needs (donors).
        """
        return self.intervention.interventions(heads, self._context(prepared, other))

    def runs(self, prepared: Prepared, sets: Sequence[Sequence[HeadId]], other: Prepared | None = None) -> list[list[Run]]:
        """For each set of heads, one run per variant of the intervention."""
        context = self._context(prepared, other)
        readouts = (AnswerScore(prepared.answer),)
        return [
            [Run(prepared.prompt, readouts, variant.edits, variant.donor) for variant in self.intervention.interventions(heads, context)]
            for heads in sets
        ]

    def _context(self, prepared: Prepared, other: Prepared | None) -> HeadContext:
        """Everything that the intervention asked for, on this sample."""
        needs, references = self.intervention.needs(), self.references
        return HeadContext(
            base=prepared.prompt,
            shape=self.shape,
            positions=head_positions(prepared.prompt, self.positions),
            donors=references.donors(prepared, needs.donors, self.seed, self.shape.stack) if references and needs.donors else (),
            means=references.means.resolve(prepared.prompt) if references and needs.means else None,
            other=other.prompt if other else None,
        )


def make_intervention(
    workspace: Workspace, name: str, options: Mapping[str, Any], donors: int | None = None
) -> tuple[HeadIntervention, Component]:
    """The head intervention of that name, and what it contributes to an identity.

    `donors` is how many resampling donors it takes where it takes any and neither the options nor its record say how many.
    """
    plugins, given = workspace.plugins, dict(options)
    intervention = plugins.head_intervention(name, **given)
    settled = {**plugins.find(HeadInterventionRecord, name).record.options, **given}
    if donors is not None and "donors" not in settled and intervention.accepts("donors"):
        given["donors"] = donors
        intervention = plugins.head_intervention(name, **given)
    return intervention, component_of(intervention, given, name)


def head_operation(
    workspace: Workspace,
    model: str,
    dataset: str,
    name: str,
    options: Mapping[str, Any],
    *,
    donors: int | None = None,
    positions: str = "all",
    reference_size: int = REFERENCE_SIZE,
    stack: str = "",
) -> HeadOperation:
    """A head intervention on a model, ready to be tried on samples of a dataset; a reference set is made only where it needs one.

    `stack` "" is the language model. Raises `UnsupportedError` for a stack that the model lacks, or that the operation cannot change.
    """
    intervention, component = make_intervention(workspace, name, options, donors)
    check_operation(intervention, stack, positions)
    needs = intervention.needs()
    references = reference_set(workspace, model, dataset, reference_size) if needs.donors or needs.means else None
    return HeadOperation(
        shape=shape_of_named(workspace.model(model), stack),
        intervention=intervention,
        component=component,
        positions=positions,
        references=references,
        seed=workspace.seed,
    )


def operation_of(workspace: Workspace, model: str, dataset: str, options: OperationOptions, stack: str = "") -> HeadOperation:
    """`head_operation` as the options of a stage say."""
    return head_operation(
        workspace,
        model,
        dataset,
        options.operation,
        options.operation_options,
        donors=options.donors,
        positions=options.positions,
        reference_size=options.reference_size,
        stack=stack,
    )


class Change:
    """The model as it is: what an experiment measures where no head is changed.

    `label` says for people what is changed, `parts` tell runs apart, and `inputs` belong to a unit's identity beside them.
    """

    label = ""

    @property
    def parts(self) -> dict[str, Any]:
        """What of the change identifies a run."""
        return {}

    @property
    def inputs(self) -> dict[str, Any]:
        """What of the change is part of a unit's identity beside its parts."""
        return {}

    def runs(self, prepared: Prepared) -> list[Run]:
        """The runs that read a sample's answer, one per variant of the change."""
        return [Run(prepared.prompt, (AnswerScore(prepared.answer),))]

    def question(self, prepared: Prepared, prompt: EncodedPrompt, answer: AnswerIds | None) -> Question:
        """One of the sample's prompts with the interventions that carry the change, to be answered in words."""
        return Question(prompt, answer)


class HeadChange(Change):
    """A set of heads changed by one operation; an empty set is the model as it is."""

    def __init__(self, operation: HeadOperation, heads: Sequence[HeadId], label: str = "") -> None:
        self._operation, self._heads, self.label = operation, tuple(heads), label

    @property
    def parts(self) -> dict[str, Any]:
        """The operation, and the heads."""
        return {"operation": self._operation.component, "heads": sorted(str(head) for head in self._heads)}

    @property
    def inputs(self) -> dict[str, Any]:
        """The reference set, where the operation takes anything from it."""
        return self._operation.inputs

    def runs(self, prepared: Prepared) -> list[Run]:
        """One run per variant."""
        return self._operation.runs(prepared, [self._heads])[0] if self._heads else super().runs(prepared)

    def question(self, prepared: Prepared, prompt: EncodedPrompt, answer: AnswerIds | None) -> Question:
        """A prompt with the intervention's edits. Raises `SampleError` where the sample lacks what they need (donors)."""
        variants = self._operation.variants(replace(prepared, prompt=prompt), self._heads)
        if len(variants) != 1:
            raise UnsupportedError(
                f"{self._operation.name}: it averages over {len(variants)} variants, and texts cannot be averaged; give it one"
            )
        return Question(prompt, answer, variants[0].edits, variants[0].donor)
