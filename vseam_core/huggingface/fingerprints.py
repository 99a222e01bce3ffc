"""Hashes that identify what a model computes: its weights, its processor, and the inputs of one forward pass.

None depends on a path, a device or the order in which things were read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from vseam_core.api.stored_weights import stored_weight

# What a processor's configuration says about where it came from, not about what it does.
_PROVENANCE = {"auto_map", "name_or_path", "_name_or_path", "transformers_version", "processor_class"}


def weights_hash(module: torch.nn.Module) -> str:
    """A sha256 over all parameters and stored buffers, in order of their names, as float32.

    Float16 weights give the same hash whether they are computed with as float16 or as float32 (that conversion is exact).
    """
    entries = [(name, module, tensor) for name, tensor in sorted(module.state_dict().items())]
    # Hashing releases the interpreter lock: threads make the 28 GB of a 7B model a matter of seconds.
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        digests = pool.map(_weight_digest, entries)
        return hashlib.sha256("".join(digests).encode()).hexdigest()


def inputs_key(inputs: Mapping[str, torch.Tensor], ids: Sequence[int]) -> str:
    """A sha256 over the forward arguments of one prompt and its ids: equal keys mean equal forward passes."""
    digest = hashlib.sha256(json.dumps(list(ids)).encode())
    for name, tensor in sorted(inputs.items()):
        _add_tensor(digest, name, tensor)
    return digest.hexdigest()


def processor_hash(processor: Any) -> str:
    """A sha256 over everything that turns image and text into inputs: settings, vocabularies, merges, chat template."""
    parts: dict[str, Any] = {"settings": _without_provenance(processor.to_dict())}
    parts["image_processor"] = _without_provenance(processor.image_processor.to_dict())
    parts["chat_template"] = getattr(processor, "chat_template", None)
    for name in ("tokenizer", "qformer_tokenizer"):
        tokenizer = getattr(processor, name, None)
        if tokenizer is not None:
            parts[name] = list(_tokenizer_parts(tokenizer))
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _tokenizer_parts(tokenizer: Any) -> Iterable[Any]:
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    # A call of the tokenizer leaves its last padding and truncation behind; every call here sets its own.
    yield {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
    yield {name: str(token) for name, token in sorted(tokenizer.special_tokens_map.items())}


def _without_provenance(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_provenance(item) for key, item in value.items() if key not in _PROVENANCE}
    return value


def _weight_digest(entry: tuple[str, torch.nn.Module, torch.Tensor]) -> str:
    name, module, tensor = entry
    digest = hashlib.sha256()
    if tensor.is_meta:
        owner, _, own_name = name.rpartition(".")
        tensor = stored_weight(module.get_submodule(owner), own_name)
    _add_tensor(digest, name, tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor)
    return digest.hexdigest()


def _add_tensor(digest: Any, name: str, tensor: torch.Tensor) -> None:
    """Add one named tensor; the shape and type keep `[2, 3]` and `[3, 2]` of the same bytes apart."""
    plain = tensor.detach().cpu().contiguous()
    digest.update(f"{name}|{plain.dtype}|{tuple(plain.shape)}|".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy())
