"""What can be done with a model: answers, traces, heads, replay, regions, lens, vision, each yes or no with the reason."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.cross_attention import cross_shape
from vseam_core.engine.decoder import Decoder
from vseam_core.errors import UnsupportedError

_LATE = 10
NAMES = ("answers", "traces", "heads", "replay", "regions", "lens", "vision")


@dataclass(frozen=True)
class Capability:
    """One thing that a model can or cannot do here; `reason` says why not, or what is particular."""

    name: str
    holds: bool
    reason: str = ""


def of_structure(decoder: Decoder, prompt: EncodedPrompt, tower: Decoder) -> list[Capability]:
    """What the modules and one prompt say, before anything was run; `tower` is the stack of the vision tower."""
    found = decoder.unreadable
    return [
        Capability("answers", True),
        Capability("traces", not found, found or _lacking(decoder)),
        Capability("heads", not _no_heads(decoder), _no_heads(decoder) or _kinds_of_heads(decoder)),
        Capability("replay", not decoder.reason_against_replay, decoder.reason_against_replay),
        Capability("regions", prompt.image_boxes is not None, prompt.notes.get("no_regions", "")),
        Capability("lens", not _no_lens(decoder), _no_lens(decoder)),
        Capability("vision", not tower.unreadable, tower.unreadable or _lacking(tower)),
    ]


def with_checks(structure: list[Capability], fallback: str, no_lens: str, positions: int) -> list[Capability]:
    """The same after a model was run: `fallback` says why replay is not used, `no_lens` why the lens is not."""
    checked = []
    for one in structure:
        if one.name == "replay" and fallback:
            one = Capability("replay", False, f"{fallback}; {ratio_of(positions)}")
        if one.name == "lens" and one.holds and no_lens:
            one = Capability("lens", False, no_lens)
        checked.append(one)
    return checked


def ratio_of(positions: int) -> str:
    """What a full pass costs beside a replay, in computed positions, for edits of the last ten positions spread over all layers."""
    return f"a full pass computes about {2 * positions / min(_LATE, positions):.0f} times what a replay of the last ten positions would"


def _lacking(decoder: Decoder) -> str:
    """The first kind of site that some layers lack, with the reason."""
    lacking = [(layer, kind, reason) for layer, part in enumerate(decoder.layers) for kind, reason in part.missing.items()]
    if not lacking:
        return ""
    _, kind, reason = lacking[0]
    layers = [layer for layer, other, _ in lacking if other == kind]
    return f"no {kind} in {len(layers)} of {len(decoder.layers)} layers: {reason}"


def _no_heads(decoder: Decoder) -> str:
    if decoder.unreadable:
        return decoder.unreadable
    if any(part.heads for part in decoder.layers):
        return ""
    return next((part.missing.get("head_output", "") for part in decoder.layers), "") or "no layer has heads"


def _kinds_of_heads(decoder: Decoder) -> str:
    """Which layers have how many heads, where they differ, and which heads are named by another stack."""
    said = [_heads_by_layer(decoder)]
    if decoder.generator is not None:
        said.append(decoder.generator.unreadable or "heads of the decoder that generates: stack decoder")
    try:
        cross_shape(decoder)
        said.append("heads of cross-attention: stack cross")
    except UnsupportedError:
        pass
    return "; ".join(filter(None, said))


def _heads_by_layer(decoder: Decoder) -> str:
    if not decoder.shape.heads_by_layer:
        return ""
    kinds: dict[tuple[str, int], list[int]] = defaultdict(list)
    for layer, part in enumerate(decoder.layers):
        kinds["an MLP alone" if part.attention is None else type(part.attention).__name__, part.heads].append(layer)
    said = (f"{heads or 'none'} in layer{'s' * (len(layers) > 1)} {_listed(layers)} ({name})" for (name, heads), layers in kinds.items())
    return "heads by layer: " + ", ".join(said)


def _listed(layers: list[int]) -> str:
    """Layers as they are written: 0, 1, 2, 4 → 0–2, 4."""
    ranges: list[list[int]] = []
    for layer in layers:
        if ranges and layer == ranges[-1][-1] + 1:
            ranges[-1].append(layer)
        else:
            ranges.append([layer])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 1 else str(part[0]) for part in ranges)


def _no_lens(decoder: Decoder) -> str:
    if decoder.generator is not None:
        lens = not decoder.generator.unreadable and decoder.generator.unembedding is not None
        other = " (that of its decoder has: stack decoder)" if lens else ""
        return f"image and text stand in an encoder; its residual has no logits{other}"
    return decoder.unreadable
