"""Sites inside what looks at the image before the language model does: found by structure, changed in full passes of one prompt.

These are the layers of the vision tower (`stack="vision"`) and of a Q-Former (`stack="connector"`). What they change reaches every image
position of the first decoder layer, so there is no recorded prefix to start from: the whole model runs, one prompt at a time, and what it
does between its layers (deepstack features) is in it. Positions are the rows that the layers hold, those of several tiles or images one
after another; in a Q-Former its queries, and where it reads the question (InstructBLIP) those words behind them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from vseam_core.api.interfaces import ModelShape
from vseam_core.api.interventions import IMAGE_STACKS, AttentionBlock, Intervention, Patch, PathPatch, Run, SiteEdit
from vseam_core.engine import module_discovery as finder
from vseam_core.engine.decoder import Decoder, DecoderLayer, layer_of, stack_of_layers, unreadable_decoder
from vseam_core.engine.hooks import SiteHooks, SiteKey, heads_at
from vseam_core.engine.layout import Layout
from vseam_core.engine.operations import EditOfRow, apply_edits, check_rows
from vseam_core.errors import UnsupportedError

WORDS = {"vision": "vision tower", "connector": "Q-Former"}
_NAMES = ("vision_tower", "visual", "vision_model", "vision_encoder", "image_tower", "image_encoder")
_QFORMERS = ("qformer",)
_INNER_NAMES = ("vision_model", "encoder", "transformer", "model")
_PROJECTION_NAMES = (*finder.PROJECTION_NAMES, "proj", "projection", "projection_layer")
# A tower that says this in its forward pass holds its rows window by window, and puts them in reading order at its end only.
_WINDOWS = "window_index"

Held = Mapping[SiteKey, torch.Tensor]
Forward = Callable[[Any], torch.Tensor]


def find_tower(module: Any) -> Decoder:
    """The vision tower as a stack that can be addressed; one that is `unreadable`, with the reason, where none is found."""
    for tower in _towers(module):
        current = tower
        while isinstance(current, nn.Module):
            if (layers := finder.layers_of(current)) is not None:
                return stack_of_layers("vision", current, [layer_of(tower, layer, _PROJECTION_NAMES) for layer in layers])
            following = [getattr(current, inner, None) for inner in _INNER_NAMES]
            current = next((one for one in following if isinstance(one, nn.Module)), None)
    return unreadable_decoder(module, f"{type(module).__name__}: no vision tower with a list of layers found")


def _towers(module: Any) -> Iterator[Any]:
    """What may be a vision tower, by the library's usual names, and the encoder of an encoder-decoder that reads the image alone."""
    for parent in (module, getattr(module, "model", None), getattr(module, getattr(module, "base_model_prefix", ""), None)):
        yield from filter(None, (getattr(parent, name, None) for name in _NAMES))
    try:
        yield finder.image_encoder_of(module)
    except UnsupportedError:
        return


def find_connector(module: Any) -> Decoder:
    """The layers of a Q-Former as a stack that can be addressed; one that is `unreadable`, with the reason, where there is none."""
    for parent in (module, getattr(module, "model", None)):
        for name in _QFORMERS:
            encoder = getattr(getattr(parent, name, None), "encoder", None)
            layers = finder.layers_of(encoder) if isinstance(encoder, nn.Module) else None
            if isinstance(encoder, nn.Module) and layers is not None and all(map(_is_of_qformer, layers)):
                return stack_of_layers("connector", encoder, list(map(_layer_of_qformer, layers)))
    return unreadable_decoder(module, f"{type(module).__name__}: no Q-Former found between its vision tower and its language model")


def _is_of_qformer(layer: nn.Module) -> bool:
    attention, mlp = getattr(layer, "attention", None), getattr(layer, "output_query", None)
    parts = ((getattr(attention, "output", None), "dense"), (getattr(attention, "attention", None), "num_attention_heads"), (mlp, "dense"))
    return all(hasattr(part, name) for part, name in parts)


def _layer_of_qformer(layer: Any) -> DecoderLayer:
    """Its self-attention, its attention to the image where it has one, and the MLP of its queries.

    A module behind each adds the residual and norms the sum, so that what a sublayer adds is what its last linear map gives. Words that a
    Q-Former reads behind its queries have an MLP of their own and do not look at the image.
    """
    projection, heads = layer.attention.output.dense, int(layer.attention.attention.num_attention_heads)
    cross = getattr(getattr(getattr(layer, "crossattention", None), "output", None), "dense", None)
    return DecoderLayer(
        module=layer,
        attention=None,
        output_projection=projection,
        mlp=layer.output_query.dense,
        attention_writer=projection,
        cross_projection=cross,
        heads=heads,
        head_dim=projection.in_features // heads,
        key_value_heads=heads,
    )


def is_before_the_model(change: Intervention) -> bool:
    """Whether an intervention lies in the vision tower or a Q-Former."""
    return stack_of(change) in IMAGE_STACKS


def changes_the_image(run: Run) -> bool:
    """Whether a run changes something in the vision tower or a Q-Former."""
    return any(map(is_before_the_model, run.interventions))


def stack_of(change: Intervention) -> str:
    """The stack that an intervention lies in; "" for a path through the language model."""
    if isinstance(change, PathPatch):
        return ""
    return change.site.stack if isinstance(change, SiteEdit) else change.stack


class ImageStacks:
    """The vision tower and the Q-Former of a model; `forward(prompt)` makes one full forward pass and gives its last logits."""

    def __init__(self, module: Any, forward: Forward):
        found = {"vision": find_tower(module), "connector": find_connector(module)}
        self._stacks = {name: ImageStack(name, stack, forward) for name, stack in found.items()}

    def __getitem__(self, name: str) -> ImageStack:
        return self._stacks[name]

    def check(self, run: Run) -> None:
        """Refuses what the stacks that a run changes do not have, with the reason."""
        for name in _stacks_of(run):
            self[name].check(run)

    def check_reach(self, run: Run) -> None:
        """Refuses edits of layers whose output goes nowhere: many models take their features before the last layer."""
        for name in _stacks_of(run):
            self[name].check_reach(run)

    def held(self, runs: Sequence[Run], donor: Any) -> dict[str, Held]:
        """What a donor holds, by stack, at every site that one of `runs` patches from it."""
        wanted = {name: _sites_patched(runs, name, donor) for name in IMAGE_STACKS} if donor is not None else {}
        return {name: self[name].held(donor, sites) for name, sites in wanted.items() if sites}

    @contextmanager
    def editing(self, run: Run, held: Mapping[str, Held]) -> Iterator[None]:
        """While entered, the next forward pass of the run's prompt alone carries its edits out."""
        with ExitStack() as stack:
            for name in _stacks_of(run):
                stack.enter_context(self[name].editing(run, held.get(name, {})))
            yield


class ImageStack:
    """Edits and reads one stack that looks at the image."""

    def __init__(self, name: str, stack: Decoder, forward: Forward):
        self.name, self.stack, self.words = name, stack, WORDS[name]
        self._windows = not stack.unreadable and _WINDOWS in finder.source_of(type(stack.stack).forward)
        self._forward = forward
        self._reach: int | None = None

    def shape(self, prompt: Any) -> ModelShape:
        """The layers that can reach the language model. Raises `UnsupportedError` where there are none, with the reason."""
        if self.stack.unreadable:
            raise UnsupportedError(self.stack.unreadable)
        layers = self.reach(prompt)
        if not layers:
            raise UnsupportedError(f"nothing in the {self.words} changes what this model answers about an image")
        shape = self.stack.shape
        return replace(shape, layers=layers, heads_by_layer=shape.heads_by_layer[:layers])

    def check(self, run: Run) -> None:
        """Refuses what the stack does not have, with the reason."""
        for change in run.interventions:
            if stack_of(change) != self.name:
                continue
            if self.stack.unreadable:
                raise UnsupportedError(self.stack.unreadable)
            if isinstance(change, AttentionBlock):
                raise UnsupportedError(f"attention inside the {self.words} cannot be cut")
            if self._windows and isinstance(change, SiteEdit) and change.positions is not None:
                raise UnsupportedError("this vision tower holds its patches window by window: edits of it go to all positions")

    def check_reach(self, run: Run) -> None:
        """Refuses edits of layers whose output goes nowhere."""
        layers = [change.site.layer for change in run.interventions if isinstance(change, SiteEdit) and stack_of(change) == self.name]
        if max(layers, default=-1) >= self.reach(run.base):
            raise UnsupportedError(self.without_effect(max(layers)))

    def without_effect(self, layer: int) -> str:
        """Why a layer behind `reach` changes nothing."""
        return (
            f"layer {layer} of the {self.words} has no effect by construction: image features are taken after layer "
            f"{cast(int, self._reach) - 1}"
        )

    def reach(self, prompt: Any) -> int:
        """How many layers can reach the language model: behind them, not even zeros change a logit."""
        if self._reach is None:
            logits, self._reach = self._forward(prompt), 0
            for layer in reversed(range(self.stack.shape.layers)):
                with SiteHooks(self.stack, [(layer, "residual_after")], lambda _, value: torch.zeros_like(value), first=True):
                    if not torch.equal(self._forward(prompt), logits):
                        self._reach = layer + 1
                        break
        return self._reach

    def held(self, prompt: Any, sites: Iterable[SiteKey]) -> dict[SiteKey, torch.Tensor]:
        """What sites of the stack hold in a plain forward pass, each `[rows, width]`."""
        kept: dict[SiteKey, torch.Tensor] = {}
        with SiteHooks(self.stack, sites, lambda site, value: kept.__setitem__(site, _rows(value).clone()), first=True):
            self._forward(prompt)
        return kept

    def editing(self, run: Run, donor: Held) -> SiteHooks:
        """Hooks that carry a run's edits of this stack out in the next forward pass of its prompt alone."""
        edits: dict[SiteKey, list[EditOfRow]] = defaultdict(list)
        for change in run.interventions:
            if isinstance(change, SiteEdit) and stack_of(change) == self.name:
                site: SiteKey = (change.site.layer, change.site.kind)
                given = donor[site] if isinstance(change.operation, Patch) else None
                edits[site].append(EditOfRow(0, change.operation, change.positions, change.site.head, given))
        seen: set[SiteKey] = set()

        def visit(site: SiteKey, value: torch.Tensor) -> torch.Tensor:
            if site in seen:
                raise UnsupportedError(f"this model runs its {self.words} more than once for a prompt, so its positions are not clear")
            seen.add(site)
            rows = _rows(value)
            check_rows(edits[site], len(rows), self.words)
            layout = Layout([(0, range(len(rows)))], rows.device)
            return apply_edits(rows, edits[site], layout, heads_at(self.stack, site)).reshape(value.shape)

        return SiteHooks(self.stack, edits, visit, first=True)


def _stacks_of(run: Run) -> list[str]:
    """The image stacks that a run changes, in the order in which they look at the image."""
    changed = set(map(stack_of, run.interventions))
    return [name for name in IMAGE_STACKS if name in changed]


def _sites_patched(runs: Sequence[Run], name: str, donor: Any) -> set[SiteKey]:
    """The sites of a stack that some run patches from this donor."""
    return {
        (change.site.layer, change.site.kind)
        for run in runs
        if run.donor is not None and run.donor.key == donor.key
        for change in run.interventions
        if isinstance(change, SiteEdit) and stack_of(change) == name and isinstance(change.operation, Patch)
    }


def _rows(value: torch.Tensor) -> torch.Tensor:
    return value.reshape(-1, value.shape[-1])
