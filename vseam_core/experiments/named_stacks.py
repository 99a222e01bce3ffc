"""What is said and refused where an experiment names a stack: the vision tower, a Q-Former, cross-attention, a decoder that generates."""

from __future__ import annotations

from vseam_core.api.interfaces import HeadIntervention, ModelShape
from vseam_core.api.interventions import IMAGE_STACKS
from vseam_core.errors import UnsupportedError
from vseam_core.runs.workspace import LoadedModel, Workspace


def shape_of_named(loaded: LoadedModel, stack: str) -> ModelShape:
    """The shape of the stack of that name; "" is the one in which image and words stand.

    Raises `UnsupportedError` for a stack that a model does not have, or that needs no name there.
    """
    own = loaded.engine.shape.stack
    if stack == own:
        raise UnsupportedError(f"image and text stand in the {own}, which needs no name: leave stack {stack} out")
    return loaded.engine.shape_of(stack)


def reason_against(loaded: LoadedModel, stack: str) -> str:
    """Why a model cannot be scanned in the stack of that name; "" where it can."""
    try:
        shape_of_named(loaded, stack)
    except UnsupportedError as error:
        return str(error)
    return ""


def say_what_is_left_out(workspace: Workspace, loaded: LoadedModel, stack: str) -> None:
    """A remark where the last layers of a stack cannot reach the language model: nothing is run for them."""
    if stack not in IMAGE_STACKS or reason_against(loaded, stack):
        return
    whole = loaded.engine.image_stacks[stack]
    layers, all_layers = loaded.engine.shape_of(stack).layers, whole.stack.shape.layers
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
