"""What is said and refused where an experiment names a stack: the vision tower, a Q-Former, cross-attention, a decoder that generates."""

from __future__ import annotations

from vseam_core.api.interfaces import HeadIntervention
from vseam_core.api.interventions import IMAGE_STACKS
from vseam_core.errors import UnsupportedError
from vseam_core.runs.workspace import LoadedModel, Workspace


def check_named_stack(workspace: Workspace, loaded: LoadedModel, stack: str) -> None:
    """Raise `UnsupportedError` for a stack that a model does not have, or that needs no name there.

    A remark says where the last layers of a stack cannot reach the language model: nothing is run for them.
    """
    if not stack:
        return
    name, own = loaded.model.info.name, loaded.engine.shape.stack
    if stack == own:
        raise UnsupportedError(f"{name}: image and text stand in the {own}, which needs no name: leave stack {stack} out")
    try:
        shape = loaded.engine.shape_of(stack)
    except UnsupportedError as error:
        raise UnsupportedError(f"{name}: {error}") from None
    if stack in IMAGE_STACKS:
        _say_what_is_left_out(workspace, loaded, stack, shape.layers)


def _say_what_is_left_out(workspace: Workspace, loaded: LoadedModel, stack: str, layers: int) -> None:
    whole = loaded.engine.image_stacks[stack]
    all_layers = whole.stack.shape.layers
    if layers < all_layers:
        left_out = f"layer {layers}" if all_layers - layers == 1 else f"layers {layers} to {all_layers - 1}"
        workspace.progress.note(
            f"{loaded.model.info.name}: {left_out} of the {whole.words} without effect by construction, and left out: image features are "
            f"taken after layer {layers - 1}"
        )


def check_operation(intervention: HeadIntervention, stack: str, positions: str) -> None:
    """Raise `UnsupportedError` for a head operation, or positions, that mean nothing in a stack that is named."""
    if not stack:
        return
    if intervention.needs().means:
        raise UnsupportedError(
            f"{intervention.name}: its means go by the roles of words, and the stack {stack} reads none; use resample, zero or patch"
        )
    if positions != "all":
        raise UnsupportedError(f"stack {stack}: its rows are no positions of the prompt, so heads are replaced at positions all")
