"""How a Hugging Face model makes logits of its last hidden state: the map, and the factors, caps, cuts and masks behind it.

Read off modules, configurations and how the model's `forward` is written; nothing runs a model.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from vseam_core.engine.module_discovery import source_of


def unembedding_of(module: Any) -> nn.Module | None:
    """The map from the last hidden state to logits: the model's own, or that of the language model inside."""
    found: nn.Module | None = module.get_output_embeddings()
    if found is not None:
        return found
    named = (getattr(part, "lm_head", None) for part in module.modules())
    # BLIP: only its text decoder says which.
    said = (part.get_output_embeddings() for part in module.modules() if hasattr(part, "get_output_embeddings"))
    return next((part for part in (*named, *said) if isinstance(part, nn.Linear)), None)


def head_transform_of(module: Any, unembedding: nn.Module) -> nn.Module | None:
    """What a head like BERT's makes of the last hidden state before the unembedding: a linear map, an activation and a norm (BLIP)."""
    head = next((part for part in module.modules() if any(child is unembedding for child in part.children())), None)
    found = getattr(head, "transform", None)
    return found if isinstance(found, nn.Module) else None


def logit_transform(module: Any, unembedding: nn.Module) -> tuple[float | None, float]:
    """The softcap (None: none) and the factor that the module owning the unembedding applies to its logits.

    Only the owner's own habits count: a Cohere language model scales its logits, the same decoder inside Aya Vision does not.
    """
    owner, config = _owner_of(module, unembedding)
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = getattr(owner, "logit_scale", None)
    if isinstance(scale, (int, float)):
        return softcap, float(scale)
    written = source_of(type(owner).forward)
    if "logits_scaling" in written and getattr(config, "logits_scaling", None):
        return softcap, 1.0 / float(config.logits_scaling)
    if "logits_mup_width_multiplier" in written and getattr(config, "logits_mup_width_multiplier", None):
        return softcap, 1.0 / float(config.logits_mup_width_multiplier)
    if "output_multiplier" in written and getattr(config, "output_multiplier", None):
        return softcap, float(config.output_multiplier)
    scaled = any(f"{name}**-0.5" in written for name in ("model_dim", "d_model"))
    if scaled and getattr(config, "scale_decoder_outputs", config.tie_word_embeddings):
        # T5 with tied embeddings scales what it unembeds; its unembedding has no bias, so the logits scale alike.
        return softcap, float(config.d_model) ** -0.5
    return softcap, 1.0


def unpadded_vocabulary(module: Any, unembedding: nn.Module) -> int | None:
    """How many logits the module owning the unembedding keeps, where its vocabulary is padded (Inkling); None: all."""
    owner, config = _owner_of(module, unembedding)
    return getattr(config, "unpadded_vocab_size", None) if "unpadded_vocab_size" in source_of(type(owner).forward) else None


def _owner_of(module: Any, unembedding: nn.Module) -> tuple[Any, Any]:
    """The innermost model around the unembedding that has a configuration, with that of its text: T5Gemma 2's head has none."""
    parts = [part for part in module.modules() if hasattr(part, "config") and any(inner is unembedding for inner in part.modules())]
    owner: Any = parts[-1] if parts else module
    return owner, owner.config.get_text_config(decoder=True)


def masked_tokens_of(module: Any) -> tuple[int, ...]:
    """The ids that a model never lets follow: it sets their logits to the lowest number (Chameleon's image tokens)."""
    mapping = getattr(getattr(module, "model", None), "vocabulary_mapping", None)
    if mapping is None or "vocabulary_mapping.image_tokens" not in source_of(type(module).forward):
        return ()
    return tuple(int(token) for token in mapping.image_tokens)
