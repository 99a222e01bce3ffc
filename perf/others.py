"""The same patch in other people's libraries, where they are installed. Nothing here is needed by vseam."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch

from perf.shapes import RandomLlava

Cell = Callable[[int, int], torch.Tensor]


def nnsight_patch(model: RandomLlava, inputs: dict[str, torch.Tensor], donors: list[torch.Tensor]) -> Cell | None:
    """A patch of one attention output position in nnsight, full model; None where nnsight is not installed."""
    if importlib.util.find_spec("nnsight") is None:
        return None
    from nnsight import NNsight

    traced: Any = NNsight(model.module)

    def cell(layer: int, position: int) -> torch.Tensor:
        with torch.no_grad(), traced.trace(**inputs):
            traced.model.language_model.layers[layer].self_attn.output[0][:, position] = donors[layer][:, position]
            logits = traced.lm_head.output[:, -1].save()
        return logits[0]  # type: ignore[no-any-return]

    return cell


def vlmprobe_patch(model: RandomLlava, inputs: dict[str, torch.Tensor], donors: list[torch.Tensor]) -> Cell | None:
    """The same with vlmprobe's adapter for given sites, full model; None where vlmprobe is not installed.

    Its own list of models is for transformers 5.3 only, and its sweeps patch residuals, several passes for every position.
    """
    if importlib.util.find_spec("vlmprobe") is None:
        return None
    from vlmprobe.adapters import HookPoint, TorchModelAdapter

    layers = range(model.shape.layers)
    sites = {str(layer): HookPoint(f"model.language_model.layers.{layer}.self_attn", selector=0) for layer in layers}
    adapter: Any = TorchModelAdapter(model.module, sites)

    def cell(layer: int, position: int) -> torch.Tensor:
        def patch(value: torch.Tensor) -> torch.Tensor:
            value = value.clone()
            value[:, position] = donors[layer][:, position]
            return value

        return adapter.run(inputs, interventions={str(layer): patch}).logits[0, -1]  # type: ignore[no-any-return]

    return cell


def transformer_lens_patch(model: RandomLlava, embeddings: torch.Tensor, donors: list[torch.Tensor]) -> Cell | None:
    """The same in TransformerLens's own Llama of that shape, from the embeddings on (it has no images); None without
    a version below 4."""
    try:
        # Version 4 has no models of its own any more, only bridges to hub checkpoints.
        from transformer_lens import HookedTransformer, HookedTransformerConfig
    except ImportError:
        return None

    shape = model.shape
    hooked: Any = HookedTransformer(
        HookedTransformerConfig(
            n_layers=shape.layers, d_model=shape.width, n_ctx=embeddings.shape[1], d_head=shape.width // shape.heads, n_heads=shape.heads,
            d_mlp=shape.mlp, act_fn="silu", gated_mlp=True, normalization_type="RMS", positional_embedding_type="rotary", d_vocab=512,
            rotary_dim=shape.width // shape.heads, seed=0,
        )
    )  # fmt: skip

    def cell(layer: int, position: int) -> torch.Tensor:
        def patch(value: torch.Tensor, hook: Any) -> torch.Tensor:
            value[:, position] = donors[layer][:, position]
            return value

        with torch.no_grad():
            logits = hooked.run_with_hooks(embeddings, start_at_layer=0, fwd_hooks=[(f"blocks.{layer}.hook_attn_out", patch)])
        return logits[0, -1]  # type: ignore[no-any-return]

    return cell
