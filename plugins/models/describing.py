"""What can be said about a checkpoint from its files alone: configuration, processor, headers of the weights; no weights, no network.

The architecture is built on the meta device (shapes without numbers), and a blank image is encoded with the real processor.
"""

from __future__ import annotations

from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vseam_core.api.types import ModelDescription, ModelInfo
from vseam_core.errors import VseamError
from vseam_plugins.models.architectures import build
from vseam_plugins.models.load_options import LoadRequest, refuse_wrong_types
from vseam_plugins.models.loading import Checkpoint, open_processor

IMAGE = (640, 480)
QUESTION = "Is the dog red?"


def describe_checkpoint(family: Any, name: str, source: str, **options: Any) -> ModelDescription:
    """Describe what `family` (a class of `hf`) would load; a problem is reported, never raised."""
    kept = {key: value for key, value in options.items() if key in ("revision", "trust_remote_code", "ocr")}
    try:
        refuse_wrong_types(name, options)
        request = LoadRequest(
            name, source, torch.device("cpu"), torch.float32, **kept, local_files_only=True, allow_pickle=bool(options.get("allow_pickle"))
        )
        if _is_not_cached(request):
            return ModelDescription(problem="not in the hub's local cache; the first run downloads it")
        config, processor = open_processor(request, family.model_types)
    except VseamError as error:
        return ModelDescription(problem=str(error))
    weights = _weight_files(request)
    place = str(Path(source).expanduser()) if request.is_folder else "the hub's local cache"
    try:
        return _architecture(family, request, config=config, processor=processor, place=place, weights=weights)
    except VseamError as error:
        return ModelDescription(place=place, problem=str(error), family=config.model_type, parameters=_count(weights))


def _architecture(family: Any, request: LoadRequest, config: Any, processor: Any, place: str, weights: list[Path]) -> ModelDescription:
    from vseam_core.engine.capabilities import of_structure
    from vseam_core.engine.decoder import readable_decoder
    from vseam_core.engine.vision_tower import find_tower

    with torch.device("meta"):
        # Whatever attention a configuration asks for: the plainest has the same structure and fetches nothing.
        module = build(config, trust_remote_code=request.trust_remote_code, attn_implementation="eager")
    decoder = readable_decoder(module)
    shape = decoder.shape
    info = ModelInfo(
        name=request.name,
        family=config.model_type,
        source=request.source,
        weights_hash="",
        dtype="float32",
        attention="",
        device="meta",
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.head_dim,
    )
    model = family(Checkpoint(module, processor, info))
    prompt = model.encode(Image.new("RGB", IMAGE), QUESTION)
    missing = "" if weights else "its weights are not here"
    return ModelDescription(
        place=place,
        problem=missing,
        family=config.model_type,
        parameters=_count(weights) or sum(parameter.numel() for parameter in module.parameters()),
        layers=shape.layers,
        heads=shape.heads,
        head_dim=shape.head_dim,
        width=config.get_text_config(decoder=True).hidden_size,
        stack=shape.stack,
        image_size=IMAGE,
        positions=len(prompt),
        image_positions=prompt.classes.count("image"),
        regions=prompt.image_boxes is not None,
        regions_reason=prompt.notes.get("no_regions", ""),
        template=model.template.fill("{question}"),
        capabilities=tuple(asdict(one) for one in of_structure(decoder, prompt, find_tower(module))),
    )


def _is_not_cached(request: LoadRequest) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if request.is_folder:
        return False
    try:
        return not isinstance(try_to_load_from_cache(request.source, "config.json", revision=request.revision), str)
    except HFValidationError:
        return False  # no hub id at all: opening it says what it should be


def _weight_files(request: LoadRequest) -> list[Path]:
    """The safetensors files of a folder, or those of the hub's local cache beside the configuration."""
    if request.is_folder:
        return sorted(Path(request.source).expanduser().glob("*.safetensors"))
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(request.source, "config.json", revision=request.revision)
    return sorted(Path(found).parent.glob("*.safetensors")) if isinstance(found, str) else []


def _count(files: list[Path]) -> int | None:
    """The number of parameters in safetensors files, from their headers alone; None where they are not readable or quantised."""
    from safetensors import SafetensorError, safe_open

    total = 0
    try:
        for path in files:
            with safe_open(path, "numpy") as file:
                tensors = [file.get_slice(name) for name in file.keys()]  # noqa: SIM118  (no mapping)
                if any(tensor.get_dtype() in ("U8", "I8") for tensor in tensors):
                    return None
                total += sum(prod(tensor.get_shape()) for tensor in tensors)
    except (OSError, SafetensorError):
        return None
    return total or None
