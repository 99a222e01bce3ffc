"""What is said and refused where an experiment changes the vision tower or a Q-Former in place of the language model."""

from __future__ import annotations

from vseam_core.api.interfaces import HeadIntervention
from vseam_core.api.interventions import IMAGE_STACKS
from vseam_core.errors import UnsupportedError
from vseam_core.runs.workspace import LoadedModel, Workspace


def say_what_is_left_out(workspace: Workspace, loaded: LoadedModel, stack: str) -> None:
    """A remark where the last layers of a stack cannot reach the language model: nothing is run for them."""
    if stack not in IMAGE_STACKS:
        return
    whole = loaded.engine.image_stacks[stack]
    if whole.stack.unreadable:
        return
    layers, all_layers = loaded.engine.shape_of(stack).layers, whole.stack.shape.layers
    if layers < all_layers:
        left_out = f"layer {layers}" if all_layers - layers == 1 else f"layers {layers} to {all_layers - 1}"
        workspace.progress.note(
            f"{loaded.model.info.name}: {left_out} of the {whole.words} without effect by construction, and left out: image features are "
            f"taken after layer {layers - 1}"
        )


def check_operation(intervention: HeadIntervention, stack: str, positions: str) -> None:
    """Raise `UnsupportedError` for a head operation, or positions, that mean nothing in the vision tower or a Q-Former."""
    if stack not in IMAGE_STACKS:
        return
    if intervention.needs().means:
        raise UnsupportedError(
            f"{intervention.name}: its means go by the roles of words, and the stack {stack} reads none; use resample, zero or patch"
        )
    if positions != "all":
        raise UnsupportedError(f"stack {stack}: its rows are no positions of the prompt, so heads are replaced at positions all")
