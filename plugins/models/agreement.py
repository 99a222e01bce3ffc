"""Whether the parts of a checkpoint agree: configuration, weights and processor; what does not is one line before anything is run.

A checkpoint that claims impossible numbers is refused by them, before a module is built.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vseam_core.config.bytes import readable_bytes
from vseam_core.engine.module_discovery import source_of
from vseam_core.errors import InvalidFileError, counted
from vseam_plugins.models.load_options import LoadRequest

MOST_LAYERS = 2_000
MOST_OF_ANYTHING = 50_000_000
_LAYERS = ("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers", "n_layer", "depth")
_SIZES = ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads", "num_key_value_heads", "head_dim", "image_size")
_FIXED_TOWERS = ("clip_vision_model", "siglip_vision_model", "instructblip_vision_model", "blip_2_vision_model")
_LLAVA = ("llava", "vipllava", "llava_next", "llava_onevision")
QFORMER = "qformer_tokenizer"
TOKENIZER_FILES = ("tokenizer_config.json", "tokenizer.json")
_ONE_VIEW = ("llava", "vipllava", "paligemma", "instructblip", "blip-2")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_log = logging.getLogger(__name__)


def check_config(request: LoadRequest) -> None:
    """Refuse a folder whose config.json claims numbers that no model has. Raises `InvalidFileError`."""
    if not request.is_folder:
        return
    path = Path(request.source).expanduser() / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # the library says what is wrong with it
    for name, value in _numbers(config):
        most = MOST_LAYERS if name in _LAYERS else MOST_OF_ANYTHING
        if not 0 <= value <= most:
            raise InvalidFileError(f"model {request.name!r}: {path}: {name} {value}: expected at most {most:,}")


def _numbers(config: Any) -> Iterator[tuple[str, int]]:
    if not isinstance(config, Mapping):
        return
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        elif name in (*_LAYERS, *_SIZES) and isinstance(value, int) and not isinstance(value, bool):
            yield name, value


def check_weights_hold(request: LoadRequest, config: Any) -> None:
    """Refuse a configuration of a model many times larger than its weights, which the library would first make room for.

    That is also what an empty section of config.json means: the numbers of some large model are put in its place. Counted are the layers
    alone, as hidden size squared each, against one bit of weights for each parameter, so that no real model is refused. Raises
    `InvalidFileError`.
    """
    if not request.is_folder:
        return
    stored = 8 * sum(path.stat().st_size for path in Path(request.source).expanduser().iterdir() if path.suffix in _WEIGHTS)
    for part in (config, getattr(config, "text_config", None), getattr(config, "vision_config", None)):
        layers, width = (getattr(part, name, None) for name in ("num_hidden_layers", "hidden_size"))
        if isinstance(layers, int) and isinstance(width, int) and layers * width * width > stored:
            raise InvalidFileError(
                f"model {request.name!r}: {request.source}: config.json describes {layers} layers of width {width}, "
                f"for which its weights ({readable_bytes(stored / 8)}) are far too small"
            )


def check_report(request: LoadRequest, report: Mapping[str, Any], loaded: str = "", named: str = "") -> None:
    """Refuse weights that were not all loaded as they are: missing, of another shape, or without a place in the architecture.

    `report` is the library's `output_loading_info`. Tensors that belong to no layer and no adapter (leftovers of training) are left out
    with a warning. Where the class that config.json names is not the one they were `loaded` into, that is said. Raises `InvalidFileError`.
    """
    where = f"model {request.name!r}: the weights of {request.source}"
    if named and loaded and named != loaded:
        where += f", a {named} loaded as {loaded},"
    missing = sorted(report.get("missing_keys") or ())
    if missing:
        raise InvalidFileError(f"{where} lack {counted(len(missing), 'tensor')} that config.json asks for, such as {missing[0]}")
    shapes = sorted((entry[0], *map(tuple, entry[1:3])) for entry in report.get("mismatched_keys") or ())
    if shapes:
        name, found, expected = shapes[0]
        raise InvalidFileError(
            f"{where} have {counted(len(shapes), 'tensor')} of another shape: {name} is {found}, config.json says {expected}"
        )
    spare = sorted(report.get("unexpected_keys") or ())
    of_layers = [name for name in spare if _is_of_a_layer(name)]
    if of_layers:
        raise InvalidFileError(
            f"{where} hold {counted(len(of_layers), 'tensor')} that config.json has no place for, such as {of_layers[0]}"
        )
    if spare:
        _log.warning("%s hold %s that config.json has no place for, such as %s; left out", where, counted(len(spare), "tensor"), spare[0])


def _is_of_a_layer(name: str) -> bool:
    """Whether a tensor changes what a model computes: it lies in a numbered layer, or is an adapter's."""
    return "lora" in name.lower() or "adapter" in name.lower() or any(part.isdigit() for part in name.split("."))


def check_processor(request: LoadRequest, config: Any, processor: Any, revision: str | None = None) -> None:
    """Hold what a processor writes against what the model reads; what it does not say is taken from the configuration.

    `revision` is the hub's that the processor's files were read from. Raises `InvalidFileError` that names both values where they differ.
    """
    vision = getattr(config, "vision_config", None)
    if config.model_type in _LLAVA and getattr(vision, "model_type", None) in _FIXED_TOWERS:
        if getattr(processor, "patch_size", 0) is None and hasattr(processor, "num_additional_image_tokens"):
            processor.num_additional_image_tokens = 1  # an older checkpoint: its tower has a class token, which "default" leaves out
        _agree(request, processor, "patch_size", getattr(vision, "patch_size", None))
        _agree(request, processor, "vision_feature_select_strategy", getattr(config, "vision_feature_select_strategy", None))
    _check_image_token(request, config, processor)
    _check_vision_layer(request, config, vision)
    _check_patches(request, vision, processor)
    _agree(request, processor, "num_query_tokens", getattr(config, "num_query_tokens", None))
    _check_size(request, config, vision, processor)
    _check_qformer(request, config, processor, revision)


def _agree(request: LoadRequest, processor: Any, name: str, expected: Any) -> None:
    """One setting of the processor against the configuration's; where the processor does not say it, it is set."""
    if expected is None or not hasattr(processor, name):
        return
    found = getattr(processor, name)
    if found is None:
        _log.info("model %r: its processor does not say %s; taken from config.json: %s", request.name, name, expected)
        setattr(processor, name, expected)
    elif found != expected:
        raise _at_odds(request, name, found, expected)


def _check_vision_layer(request: LoadRequest, config: Any, vision: Any) -> None:
    """The layers of the vision tower that are read must be there; the embeddings count as layer 0."""
    named, layers = getattr(config, "vision_feature_layer", None), getattr(vision, "num_hidden_layers", None)
    for layer in named if isinstance(named, list | tuple) else [named]:
        if isinstance(layer, int) and isinstance(layers, int) and not -layers - 1 <= layer <= layers:
            raise InvalidFileError(f"model {request.name!r}: vision_feature_layer {layer}: its vision tower has {layers} layers")


def _check_image_token(request: LoadRequest, config: Any, processor: Any) -> None:
    """The model's image token is one that the processor knows: the word for an image, or what that becomes (Gemma 3, Aya Vision)."""
    token = getattr(processor, "image_token", None)
    expected = next((value for name in ("image_token_id", "image_token_index") if (value := getattr(config, name, None)) is not None), None)
    if isinstance(token, str) and isinstance(expected, int):
        found = processor.tokenizer.convert_tokens_to_ids(token)
        others = [getattr(owner, "image_token_id", None) for owner in (processor, processor.tokenizer)]
        # What the processor itself writes in the word's place may be the model's token (Ovis2: <IMG_ATOM> for <image>).
        own = processor.tokenizer.convert_ids_to_tokens(expected)
        writes = _written_by(type(processor))
        is_written = own in processor.tokenizer.get_added_vocab() and str(own) in writes
        if expected not in (found, *others) and not is_written:
            raise _at_odds(request, f"the id of the image token {token!r}", found, expected)


def _written_by(processor: Any) -> str:
    """How a processor writes an image: its own method, and those that it calls (Llama 4 splits an image in one of them)."""
    writes = source_of(getattr(processor, "replace_image_token", None))
    return writes + "".join(source_of(getattr(processor, name, None)) for name in re.findall(r"self\.(\w+)\(", writes))


def _check_patches(request: LoadRequest, vision: Any, processor: Any) -> None:
    """Families whose image processor cuts the patches itself: as large, and as many to a token, as the model takes them."""
    for name, other in (("patch_size", "patch_size"), ("temporal_patch_size", "temporal_patch_size"), ("merge_size", "spatial_merge_size")):
        found, expected = getattr(processor.image_processor, name, None), getattr(vision, other, None)
        if isinstance(found, int) and isinstance(expected, int) and found != expected:
            raise _at_odds(request, f"the image processor's {name}", found, expected)


def _check_size(request: LoadRequest, config: Any, vision: Any, processor: Any) -> None:
    """Families that read one view of a fixed size: the processor must write just that."""
    expected = getattr(vision, "image_size", None)
    if config.model_type not in _ONE_VIEW or getattr(vision, "model_type", None) not in _FIXED_TOWERS or not isinstance(expected, int):
        return
    images = processor.image_processor
    crops = getattr(images, "do_center_crop", False)
    size = dict((images.crop_size if crops else images.size) or {})
    if {"height", "width"} <= set(size) and (size["height"], size["width"]) != (expected, expected):
        raise _at_odds(request, "crop_size" if crops else "size", f"{size['height']} × {size['width']}", f"{expected} × {expected}")


def _check_qformer(request: LoadRequest, config: Any, processor: Any, revision: str | None) -> None:
    """InstructBLIP's Q-Former reads the question with a tokenizer of its own; without its folder the library takes the other one."""
    qformer = getattr(config, "qformer_config", None)
    if getattr(processor, QFORMER, None) is None or qformer is None:
        return
    folder = _folder_with_qformer(request, revision)
    if folder is None:
        raise InvalidFileError(f"model {request.name!r}: {request.source} lacks {QFORMER}/, the tokenizer of its Q-Former")
    if not request.is_folder:
        from transformers import AutoTokenizer

        # In the hub's local cache the library may find no config.json beside it, and reads the other one with a warning that nobody sees.
        setattr(processor, QFORMER, AutoTokenizer.from_pretrained(str(folder), subfolder=QFORMER, local_files_only=True))
    known, found = getattr(qformer, "vocab_size", None), len(getattr(processor, QFORMER))
    if isinstance(known, int) and found > known:
        raise _at_odds(request, f"the vocabulary of {QFORMER}", found, known)


def _folder_with_qformer(request: LoadRequest, revision: str | None) -> Path | None:
    """The checkpoint's folder if that tokenizer is in it; of a hub id, the folder in the local cache that the library has filled."""
    from huggingface_hub import try_to_load_from_cache

    if request.is_folder:
        folder = Path(request.source).expanduser()
        return folder if (folder / QFORMER).is_dir() else None
    found = (try_to_load_from_cache(request.source, f"{QFORMER}/{name}", revision=revision) for name in TOKENIZER_FILES)
    return next((Path(path).parents[1] for path in found if isinstance(path, str)), None)


def _at_odds(request: LoadRequest, what: str, found: Any, expected: Any) -> InvalidFileError:
    return InvalidFileError(
        f"model {request.name!r}: {request.source}: processor and model are at odds: {what} is {found} there, {expected} in config.json"
    )
