"""A model with some heads changed, as an evaluation measures it: a stored rescaling, or a set of heads ablated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vseam_core.api.types import HeadId, parse_head
from vseam_core.config.defaults import EVALUATED_OPERATION, RESCALING
from vseam_core.errors import UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.experiments.generating import method_change
from vseam_core.experiments.heads.changes import Change, HeadChange, head_operation
from vseam_core.runs.workspace import LoadedModel, Workspace

MOST_NAMED = 4


@dataclass(frozen=True)
class ChangeOptions:
    """What is changed: `rescale` is the name of a stored rescaling, or RUN or RUN:ROLE; `ablate` names heads such as L5H3.

    Ablated heads are replaced by `operation`, which is made with `operation_options`. `method` is the registered name of a way to generate
    answers, made with `method_options`. Nothing given is the model as it is.
    """

    rescale: str | None = None
    ablate: tuple[str, ...] = ()
    operation: str = EVALUATED_OPERATION
    operation_options: Mapping[str, Any] = field(default_factory=dict)
    method: str | None = None
    method_options: Mapping[str, Any] = field(default_factory=dict)


def make_change(workspace: Workspace, model: str, dataset: str, options: ChangeOptions) -> Change:
    """The change that the options ask for. Raises `VseamError` for unknown names and heads, and for an operation with the reason."""
    if sum(map(bool, (options.rescale, options.ablate, options.method))) > 1:
        raise VseamError("one change at a time: give --rescale, --ablate or --method")
    loaded = workspace.model(model)
    if options.method:
        return method_change(workspace, model, options.method, options.method_options)
    if options.rescale:
        scales = stored_scales(workspace, loaded, options.rescale)
        heads = [parse_head(name) for name in scales]
        operation = head_operation(workspace, model, dataset, RESCALING, {"factors": scales})
        label = f"rescaled {options.rescale}"
    elif options.ablate:
        heads = list(dict.fromkeys(parse_head(name) for name in options.ablate))
        # Texts cannot be averaged over donors.
        stack = _stack_of(heads, loaded.engine.shape.stack)
        operation = head_operation(workspace, model, dataset, options.operation, options.operation_options, donors=1, stack=stack)
        named = ",".join(map(str, heads)) if len(heads) <= MOST_NAMED else f"{len(heads)} heads"
        label = f"{operation.name} {named}"
    else:
        return Change()
    for head in heads:
        try:
            loaded.engine.require(head)
        except (UnknownNameError, UnsupportedError) as error:
            raise type(error)(f"{model}: {error}") from None
    if operation.intervention.needs().pair:
        raise UnsupportedError(
            f"{operation.name}: it takes from the other image of a pair, which an evaluation does not have; "
            "use another operation (`vseam operations`), or `vseam heads scan`"
        )
    return HeadChange(operation, heads, label)


def _stack_of(heads: Sequence[HeadId], own: str) -> str:
    """The stack that heads lie in, "" where it is the model's `own`. Raises `VseamError` for heads of several stacks."""
    stacks = list(dict.fromkeys(head.stack for head in heads))
    if len(stacks) > 1:
        raise VseamError(f"heads of one stack are ablated at a time; these are of {' and '.join(stacks)}")
    return next((stack for stack in stacks if stack != own), "")


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
