"""What a run's logits are, computed the slow and obvious way: one full forward pass of one prompt with plain hooks.

Modules are named by hand, family by family, and nothing of the engine is used but the records that say what a run is. Where
attention is cut, the layer is given its mask written out; a query that lost every key outputs zero.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from tests.engine.configs import STATE_ATTENTION
from tests.engine.families import HEADS, TinyVLM
from vseam_core.api.interventions import Add, AttentionBlock, MeanOfOthers, Patch, Replace, Run, Scale, SiteEdit, Zero
from vseam_core.api.prompts import EncodedPrompt

Change = Callable[[torch.Tensor], torch.Tensor]
"""Takes an activation `[positions, width]` and returns what it becomes."""
Place = tuple[int, str]


@dataclass(frozen=True)
class Names:
    """Where a family keeps its layers, and the names of their parts inside a layer."""

    layers: str
    attention: str = "self_attn"
    output: str = "o_proj"
    mlp: str = "mlp"
    query: str = "q_proj"
    key: str = "k_proj"
    value: str = "v_proj"


_USUAL = Names("model.language_model.layers")
_IDEFICS = Names("model.text_model.layers")
_T5 = Names("language_model.encoder.block", "layer.0.SelfAttention", "o", "layer.1.DenseReluDense", "q", "k", "v")
NAMES = {
    "idefics3": _IDEFICS,
    "smolvlm": _IDEFICS,
    "instructblip_llama": Names("language_model.model.layers"),
    "blip2_opt": Names("language_model.model.decoder.layers", output="out_proj", mlp="fc2"),
    "instructblip_t5": _T5,
    "blip2_t5": _T5,
}
MLLAMA_CROSS_LAYERS = (1, 3)
_QWEN3_5_STATE = replace(_USUAL, attention="linear_attn", output="out_proj")


def module_of(model: TinyVLM, layer: int, kind: str) -> nn.Module:
    """The module whose input or output is the site."""
    names = NAMES.get(model.info.family, _USUAL)
    if model.info.family == "qwen3_5" and layer != STATE_ATTENTION:
        names = _QWEN3_5_STATE
    attention = "cross_attn" if model.info.family == "mllama" and layer in MLLAMA_CROSS_LAYERS else names.attention
    inside = {
        "residual_before": "",
        "residual_after": "",
        "attention_output": attention,
        "mlp_output": names.mlp,
        "head_output": f"{attention}.{names.output}",
        "query": f"{attention}.{names.query}",
        "key": f"{attention}.{names.key}",
        "value": f"{attention}.{names.value}",
    }[kind]
    return model.module.get_submodule(".".join(filter(None, (names.layers, str(layer), inside))))


@torch.no_grad()
def plain_logits(model: TinyVLM, run: Run) -> torch.Tensor:
    """The logits `[vocabulary]` after the last position of the run's prompt, in float64."""
    edits: dict[Place, list[SiteEdit]] = defaultdict(list)
    for edit in run.interventions:
        if isinstance(edit, SiteEdit):
            edits[edit.site.layer, edit.site.kind].append(edit)
    blocks = [block for block in run.interventions if isinstance(block, AttentionBlock)]
    donors = _donors(model, run, edits)
    with ExitStack() as stack:
        for block in blocks:
            for layer in block.layers:
                for handle in _cut(model, layer, block):
                    stack.callback(handle.remove)
        for place, of_site in edits.items():
            stack.callback(attach(model, place, partial(edited, edits=of_site, donor=donors.get(place))).remove)
        return model.module(**model.collate([run.base]), use_cache=False).logits[0, -1].double()


@torch.no_grad()
def held(model: TinyVLM, prompt: EncodedPrompt, places: Sequence[Place]) -> dict[Place, torch.Tensor]:
    """What some sites hold in an unchanged run, each `[positions, width]`."""
    kept: dict[Place, torch.Tensor] = {}

    def keeper(place: Place) -> Change:
        def keep(value: torch.Tensor) -> torch.Tensor:
            kept[place] = value.clone()
            return value

        return keep

    handles = [attach(model, place, keeper(place)) for place in places]
    try:
        model.module(**model.collate([prompt]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _donors(model: TinyVLM, run: Run, edits: dict[Place, list[SiteEdit]]) -> dict[Place, torch.Tensor]:
    places = [place for place, of_site in edits.items() if any(isinstance(edit.operation, Patch) for edit in of_site)]
    if not places:
        return {}
    assert run.donor is not None
    return held(model, run.donor, places)


def attach(model: TinyVLM, place: Place, change: Change) -> Any:
    """A plain hook that replaces the activation `[positions, width]` of a forward pass of one prompt."""
    module = module_of(model, *place)

    def replaced(value: torch.Tensor) -> torch.Tensor:
        # OPT's MLP output has no batch dimension of its own: with one prompt, positions are all that it has.
        return change(value.reshape(-1, value.shape[-1])).reshape(value.shape)

    def on_input(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if args:
            return (replaced(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": replaced(kwargs["hidden_states"])}

    def on_output(_: Any, args: Any, output: Any) -> Any:
        return (replaced(output[0]), *output[1:]) if isinstance(output, tuple) else replaced(output)

    if place[1] in ("residual_before", "head_output"):
        return module.register_forward_pre_hook(on_input, with_kwargs=True)
    return module.register_forward_hook(on_output)


def edited(value: torch.Tensor, edits: Sequence[SiteEdit], donor: torch.Tensor | None) -> torch.Tensor:
    """The activation after all edits of one site, each computed from what the site held before any of them."""
    result = value.clone()
    replaced = {edit.site.head for edit in edits if isinstance(edit.operation, MeanOfOthers)}
    for edit in edits:
        rows = range(len(value)) if edit.positions is None else edit.positions
        size = value.shape[-1] if edit.site.head is None else value.shape[-1] // HEADS
        first = 0 if edit.site.head is None else edit.site.head * size
        for index, row in enumerate(rows):
            live = value[row, first : first + size]
            match edit.operation:
                case Patch():
                    assert donor is not None
                    new = donor[row, first : first + size]
                case Zero():
                    new = torch.zeros_like(live)
                case Scale(factor=factor):
                    new = factor * live
                case Add(vector=vector):
                    new = live + torch.from_numpy(vector).to(live)
                case Replace(values=values):
                    new = torch.from_numpy(values[index]).to(live)
                case MeanOfOthers():
                    others = [head for head in range(HEADS) if head not in replaced]
                    new = sum(value[row, head * size : (head + 1) * size] for head in others) / len(others)  # type: ignore[assignment]
            result[row, first : first + size] = new
    return result


def _cut(model: TinyVLM, layer: int, block: AttentionBlock) -> list[Any]:
    """Hooks that deny `block.targets` the keys at `block.sources` in one layer."""
    heads = range(HEADS) if block.heads is None else block.heads
    blind: list[torch.Tensor] = []

    def mask_out(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        # T5 hands its mask over by position.
        given = args[1] if len(args) > 1 else kwargs.get("attention_mask")
        seen = _seen(model, hidden.shape[1], given)
        for head in heads:
            for target in block.targets:
                seen[0, head, target, list(block.sources)] = False
        blind[:] = [~seen[0].any(-1).T]
        mask = torch.zeros(seen.shape, dtype=hidden.dtype).masked_fill(~seen, torch.finfo(hidden.dtype).min)
        return (args[0], mask, *args[2:]) if len(args) > 1 else args, kwargs if len(args) > 1 else {**kwargs, "attention_mask": mask}

    def silence(value: torch.Tensor) -> torch.Tensor:
        split = value.reshape(len(value), HEADS, -1)
        return torch.where(blind[0][..., None], torch.zeros_like(split), split).reshape(value.shape)

    whole = module_of(model, layer, "residual_before")
    return [whole.register_forward_pre_hook(mask_out, with_kwargs=True), attach(model, (layer, "head_output"), silence)]


def _seen(model: TinyVLM, length: int, mask: torch.Tensor | None) -> torch.Tensor:
    """Which key each query sees, bool `[1, heads, queries, keys]`, from the mask that the layer was given."""
    if mask is None:
        # The library drops a mask that says no more than the architecture does.
        everything = torch.ones(1, HEADS, length, length, dtype=torch.bool)
        return everything if model.family.stack == "encoder" else everything.tril()
    seen = mask if mask.dtype == torch.bool else mask == 0
    return seen.expand(1, HEADS, length, length).clone()
