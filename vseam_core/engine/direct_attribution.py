"""Direct logit attribution: what a component adds to the residual, read through the final norm, and where that means what it says.

An output is its own contribution only if the layer adds it to the residual as it is. Families differ (norms, gates or factors behind
attention and MLP, under many names), so it is measured on one prompt, never read off names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from vseam_core.api.interventions import Site, SiteKind
from vseam_core.api.stored_weights import stored_weight
from vseam_core.engine.decoder import Decoder
from vseam_core.engine.hooks import SiteKey
from vseam_core.errors import UnsupportedError

# How many roundings of the sum of magnitudes two orders of the same additions may differ by.
_ROUNDINGS = 8
_KINDS: tuple[SiteKind, ...] = ("residual_before", "attention_output", "mlp_output", "residual_after", "head_output")


@dataclass(frozen=True)
class DirectWrites:
    """Which layers add the outputs of attention and MLP to the residual as they are (`outputs`), and in which the attention output is
    the sum of what W_O makes of each head (`heads`); whether the final norm can be read as a linear map (`final_norm`)."""

    outputs: tuple[bool, ...]
    heads: tuple[bool, ...]
    final_norm: bool

    def require(self, site: Site) -> None:
        """Raises `UnsupportedError` where this site has no direct logit attribution, with the reason."""
        if not self.final_norm:
            raise UnsupportedError("the final norm of this model cannot be read as a linear map: its parts have no direct attribution")
        if not self.outputs[site.layer]:
            raise UnsupportedError(
                f"layer {site.layer} does not add its outputs to the residual as they are (a norm, a gate or a factor stands between): "
                "they have no direct attribution"
            )
        if site.kind == "head_output" and not self.heads[site.layer]:
            raise UnsupportedError(f"the attention output of layer {site.layer} is not the sum of what its heads write")


def sites_to_hold(decoder: Decoder) -> list[SiteKey]:
    """What `direct_writes` must be given."""
    return [(layer, kind) for layer in range(decoder.shape.layers) for kind in _KINDS if not decoder.lacks(layer, kind)]


@torch.no_grad()
def direct_writes(decoder: Decoder, held: Mapping[SiteKey, torch.Tensor]) -> DirectWrites:
    """What one plain forward pass shows; `held` are the activations `[positions, width]` of `sites_to_hold`."""
    outputs, heads = [], []
    for layer in range(decoder.shape.layers):
        if any(decoder.lacks(layer, kind) for kind in _KINDS) and not decoder.layers[layer].is_single:
            outputs.append(False)
            heads.append(False)
            continue
        nothing = torch.zeros_like(held[(layer, "residual_before")])
        before, attention, mlp, after, z = (held.get((layer, kind), nothing) for kind in _KINDS)
        magnitude = before.abs() + attention.abs() + mlp.abs() + after.abs()
        outputs.append(_is_rounding(after.double() - before.double() - attention.double() - mlp.double(), magnitude))
        has_heads = decoder.layers[layer].output_projection is not None
        heads.append(outputs[-1] and has_heads and _is_sum_of_heads(decoder, layer, z, attention))
    return DirectWrites(
        tuple(outputs), tuple(heads), _norm_is_linear(decoder.final_norm, held[(decoder.shape.layers - 1, "residual_after")])
    )


def _is_rounding(error: torch.Tensor, magnitude: torch.Tensor) -> bool:
    """Whether every entry of `error` is no more than rounding of numbers as large as `magnitude`; NaN is not."""
    return bool((error.abs() <= _ROUNDINGS * torch.finfo(magnitude.dtype).eps * magnitude.double()).all())


def _is_sum_of_heads(decoder: Decoder, layer: int, z: torch.Tensor, attention: torch.Tensor) -> bool:
    projection = decoder.layers[layer].output_projection
    weight = stored_weight(projection).to(z.device)
    bias = None if getattr(projection, "bias", None) is None else stored_weight(projection, "bias").to(z.device)
    if not weight.is_floating_point() or tuple(weight.shape) != (attention.shape[-1], z.shape[-1]):
        return False  # packed by a quantisation
    made = z.double() @ weight.double().T
    magnitude = (z.double().abs() @ weight.double().abs().T + attention.abs()).to(attention.dtype)
    return _is_rounding(attention.double() - made - (0.0 if bias is None else bias.double()), magnitude)


def _norm_is_linear(norm: nn.Module, residual: torch.Tensor) -> bool:
    """Whether `scaled_by_final_norm` of the whole residual is what the norm makes of it, but for its bias."""
    try:
        whole = scaled_by_final_norm(norm, residual, residual)
    except StopIteration:
        return False
    expected = norm(residual) - norm(torch.zeros_like(residual[:1]))
    magnitude = 4 * expected.abs().amax(-1, keepdim=True).expand_as(expected)
    # The library's norms compute in float32 in a float64 model too.
    return _is_rounding(whole.double() - expected.double(), magnitude.float() if magnitude.dtype == torch.float64 else magnitude)


def through_projection(decoder: Decoder, layer: int, head: int | None, value: torch.Tensor) -> torch.Tensor:
    """What W_O makes of its input `[positions, heads × head_dim]`, or of one head's part of it, `[positions, width]`."""
    weight = stored_weight(decoder.layers[layer].output_projection).to(value.device)
    if head is None:
        return value @ weight.T
    size = decoder.layers[layer].head_dim
    part = slice(head * size, (head + 1) * size)
    return value[:, part] @ weight[:, part].T


def scaled_by_final_norm(norm: nn.Module, component: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """A component's share of the normed residual `[positions, width]`: the norm as a linear map, its scale frozen at `residual`.

    Summed over all components of `residual` this gives `norm(residual)` less the norm's bias. Weight and centring are read off by
    norming test vectors, so that families which store the weight as 1 + w, or have a norm class of their own, come out right.
    """
    epsilon = next(float(getattr(norm, name)) for name in ("variance_epsilon", "eps", "epsilon") if hasattr(norm, name))
    # A vector of alternating ±1 has mean 0 and mean square 1, so it reads the weight of both kinds of norm; ones vanish where a
    # norm centres. What is left of zeros is the bias.
    signs = torch.ones_like(residual[:1])
    signs[:, 1::2] = -1
    bias = norm(torch.zeros_like(signs))
    weight = (norm(signs) - bias) * signs * (1.0 + epsilon) ** 0.5
    if bool(torch.isclose(norm(torch.ones_like(signs)), bias, atol=1e-4).all()):
        component = component - component.mean(-1, keepdim=True)
        residual = residual - residual.mean(-1, keepdim=True)
    return component * torch.rsqrt(residual.pow(2).mean(-1, keepdim=True) + epsilon) * weight
