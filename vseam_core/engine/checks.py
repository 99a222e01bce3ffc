"""What a run may not be: sites, heads or positions that are not there, donors that are missing. Refused with the reason, before it runs."""

from __future__ import annotations

from vseam_core.api.interventions import (
    IMAGE_STACKS,
    Add,
    AttentionBlock,
    LensScore,
    Patch,
    PathPatch,
    Remove,
    Replace,
    Run,
    SiteEdit,
    Zero,
)  # fmt: skip
from vseam_core.engine.cross_attention import in_generator
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.paths import check_path
from vseam_core.engine.readouts import check_lens
from vseam_core.engine.vision_tower import WORDS
from vseam_core.errors import UnsupportedError


def check_change(change: SiteEdit | AttentionBlock, run: Run, stack: Decoder, decoder: Decoder) -> None:
    """Refuses a change of one `stack` that it cannot have; `decoder` is the stack that the prompt's positions stand in."""
    if stack is decoder.generator and stack.unreadable:
        raise UnsupportedError(f"the decoder of this model generates, but nothing in it can be changed: {stack.unreadable}")
    _check_intervention(change, run, stack, stack is decoder)
    if isinstance(change, AttentionBlock):
        if stack is decoder.generator:
            raise UnsupportedError("attention inside the decoder that generates cannot be cut: image and words stand in the encoder")
        _check_block(change, stack)


def check_path_run(run: Run, path: PathPatch, decoder: Decoder) -> None:
    """Refuses a path patch that this model cannot have, with the reason."""
    for edit in (*path.senders, *(SiteEdit(site, Zero()) for site in path.receivers)):
        if in_generator(edit, decoder):
            raise UnsupportedError("paths lie in the encoder of this model, where image and words stand: name no site of its decoder")
        _check_intervention(edit, run, decoder)
    check_path(run, path, decoder)


def check_lens_places(readout: LensScore, run: Run, decoder: Decoder) -> None:
    """Refuses a lens readout that this model cannot have: it stands where an edit could stand."""
    if readout.site.stack in IMAGE_STACKS:
        raise UnsupportedError(f"what the {WORDS[readout.site.stack]} holds has no logits: there is no lens on it")
    check_lens(decoder, readout)
    edit = SiteEdit(readout.site, Zero(), tuple(readout.positions))
    if decoder.generator is not None:
        check_change(edit, run, decoder.generator, decoder)
    else:
        _check_intervention(edit, run, decoder)


def _check_intervention(intervention: SiteEdit | AttentionBlock, run: Run, decoder: Decoder, of_prompt: bool = True) -> None:
    """`of_prompt`: positions are those of the prompt; rows of another stack are counted where they are, when it runs."""
    shape = decoder.shape
    if decoder.unreadable:
        raise UnsupportedError(f"this model answers, but nothing in it can be changed: {decoder.unreadable}")
    stack = intervention.site.stack if isinstance(intervention, SiteEdit) else intervention.stack
    if stack != shape.stack:
        raise UnsupportedError(f"this model has no {stack} stack that can be patched")
    layers = (intervention.site.layer,) if isinstance(intervention, SiteEdit) else intervention.layers
    if any(not 0 <= layer < shape.layers for layer in layers):
        raise UnsupportedError(f"layer {max(layers, key=abs)} does not exist: the model has layers 0 to {shape.layers - 1}")
    if isinstance(intervention, SiteEdit) and (reason := decoder.lacks(intervention.site.layer, intervention.site.kind)):
        raise UnsupportedError(reason)
    parts = [decoder.layers[layer] for layer in layers]
    count = min((part.heads for part in parts), default=0)
    if isinstance(intervention, AttentionBlock):
        named: tuple[int, ...] = (*intervention.targets, *intervention.sources)
        heads: tuple[int | None, ...] = intervention.heads or ()
    else:
        named, heads = intervention.positions or (), (intervention.site.head,)
        count = parts[0].key_value_heads if intervention.site.kind in ("key", "value") else count
        if isinstance(intervention.operation, Patch):
            _check_donor(run)
        if isinstance(intervention.operation, (Replace, Add, Remove)):
            _check_values(intervention, run, parts[0].head_dim, of_prompt)
    for head in heads:
        if head is not None and not 0 <= head < count:
            known = f"layer {max(layers)} has heads 0 to {count - 1}" if count else f"layer {max(layers)} has no heads"
            raise UnsupportedError(f"head {head} does not exist: {known}")
    if of_prompt and any(not 0 <= position < len(run.base) for position in named):
        raise UnsupportedError(f"position {max(named, key=abs)} lies outside a prompt of {len(run.base)} positions")


def _check_block(block: AttentionBlock, decoder: Decoder) -> None:
    for layer in block.layers:
        if decoder.layers[layer].is_cross_attention:
            raise UnsupportedError(f"layer {layer} is a cross-attention layer: its attention has no prompt positions to cut")
        if not decoder.layers[layer].attends:
            raise UnsupportedError(f"layer {layer} has no attention between positions that could be cut")


def _check_values(edit: SiteEdit, run: Run, head_dim: int, of_prompt: bool) -> None:
    """Given values have a row per position (a vector has none), and are as wide as a head where a head is named."""
    values = edit.operation.values if isinstance(edit.operation, Replace) else edit.operation.vector  # type: ignore[union-attr]
    if isinstance(edit.operation, Replace) and edit.positions is None and not of_prompt:
        raise UnsupportedError(f"values that are put into the {edit.site.stack} need the positions that they are for")
    wanted = len(run.base) if edit.positions is None else len(edit.positions)
    if isinstance(edit.operation, Replace) and len(values) != wanted:
        raise UnsupportedError(f"an edit of {wanted} positions was given values for {len(values)}")
    if edit.site.head is not None and values.shape[-1] != head_dim:
        raise UnsupportedError(f"an edit of one head was given values of width {values.shape[-1]}; a head has {head_dim}")


def _check_donor(run: Run) -> None:
    if run.donor is None:
        raise UnsupportedError("a patch needs a donor prompt to take activations from")
    if len(run.donor) != len(run.base):
        raise UnsupportedError(f"donor and base differ in length ({len(run.donor)} and {len(run.base)} positions)")
