"""What can be done with a model: answers, traces, heads, replay, regions, lens, each yes or no with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.engine.decoder import Decoder

_LATE = 10
NAMES = ("answers", "traces", "heads", "replay", "regions", "lens")


@dataclass(frozen=True)
class Capability:
    """One thing that a model can or cannot do here; `reason` says why not, or what is particular."""

    name: str
    holds: bool
    reason: str = ""


def of_structure(decoder: Decoder, prompt: EncodedPrompt) -> list[Capability]:
    """What the modules and one prompt say, before anything was run."""
    found = decoder.unreadable
    return [
        Capability("answers", True),
        Capability("traces", not found, found or _lacking(decoder)),
        Capability("heads", not _no_heads(decoder), _no_heads(decoder)),
        Capability("replay", not decoder.reason_against_replay, decoder.reason_against_replay),
        Capability("regions", prompt.image_boxes is not None, prompt.notes.get("no_regions", "")),
        Capability("lens", not _no_lens(decoder), _no_lens(decoder)),
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
    counts = {part.heads for part in decoder.layers}
    if 0 in counts:
        return next(part.missing.get("head_output", "some layers have no heads") for part in decoder.layers if not part.heads)
    if len(counts) > 1:
        return f"its layers have different numbers of heads ({', '.join(map(str, sorted(counts)))}): no grid of layers and heads"
    return ""


def _no_lens(decoder: Decoder) -> str:
    if decoder.generator is not None:
        return "image and text stand in an encoder; its residual has no logits"
    return decoder.unreadable
