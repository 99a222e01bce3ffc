"""Opens a checkpoint folder or a hub repository: configuration, processor and weights, every failure one clear line.

Only safetensors are read, pickles where the caller says `allow_pickle=True` (and even then as tensors alone). A folder is opened
without touching the network. Remote code runs only where the caller says `trust_remote_code=True`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vseam_core.api.types import ModelInfo
from vseam_core.engine.decoder import readable_decoder
from vseam_core.engine.dtype import cast_weights
from vseam_core.errors import InvalidFileError, UnsupportedError
from vseam_core.huggingface.fingerprints import processor_hash, weights_hash
from vseam_plugins.models.agreement import check_config, check_processor, check_report, check_weights_hold
from vseam_plugins.models.architectures import answering_class, build, is_built_as
from vseam_plugins.models.hub import commit_of, explained, locate
from vseam_plugins.models.library_faults import mend
from vseam_plugins.models.load_options import LoadRequest
from vseam_plugins.models.pages import choose_ocr
from vseam_plugins.models.processors import read_processor

# Parameters that the library starts with (nearly) equal values, and what they are redrawn with: see `initialise`.
DEGENERATE_STD = 1e-6
REDRAWN_STD = 0.02


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened model: the module in eval mode on its device, its processor, and what identifies it."""

    module: Any
    processor: Any
    info: ModelInfo


def open_processor(request: LoadRequest, model_types: Collection[str] = ()) -> tuple[Any, Any]:
    """The configuration and the processor alone, for what can be said about a model without its weights. Raises as `open_checkpoint`."""
    arguments = locate(request)
    with quietly(request.is_folder):
        config = _read_config(request, arguments)
        _require_kind(request, config, model_types)
        return config, _read_processor(request, arguments, config)


def open_checkpoint(request: LoadRequest, model_types: Collection[str] = ()) -> Checkpoint:
    """Open what `request` names; `model_types` limits the accepted architectures (empty: any image-text-to-text model).

    Raises `InvalidFileError` for missing or damaged files, `UnsupportedError` for models of another kind, `VseamError` where the
    hub cannot be reached.
    """
    arguments = locate(request)
    with quietly(request.is_folder):
        config = _read_config(request, arguments)
        _require_kind(request, config, model_types)
        if request.attention is None:  # a checkpoint may ask for one too
            request.check_attention(getattr(config, "_attn_implementation", None))
        processor = _read_processor(request, arguments, config)
        if request.random_seed is None:
            check_weights_hold(request, config)
            module = _read_weights(request, arguments, config)
        else:
            with explained(request, "architecture", "build"):
                module = initialise(config, request.random_seed, request.attention, request.trust_remote_code)
                _read_generation(module, arguments)
                cast_weights(module, request.dtype)
    if not request.is_spread:
        with explained(request, "weights", f"move to {request.device}"):
            module.to(device=request.device)
    mend(module).eval().requires_grad_(False)
    return Checkpoint(module, processor, _describe(request, module, processor, commit_of(request, arguments)))


def initialise(config: Any, seed: int, attention: str | Mapping[str, str] | None = None, trust_remote_code: bool = False) -> Any:
    """A float32 model of the same architecture with fresh weights drawn from `seed` alone; the global generators stay untouched.

    Weights follow the library's own initialisation. Parameters that it leaves (nearly) constant, such as the query tokens of a
    Q-Former, are redrawn with standard deviation 0.02: otherwise all image positions of the random model would be identical and
    a control made of such models would be too easy to beat.
    """
    extra: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = build(config, trust_remote_code=trust_remote_code, dtype=torch.float32, **extra)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            is_norm = "norm" in name.lower()
            if parameter.ndim >= 2 and not is_norm and parameter.numel() > 1 and parameter.std() < DEGENERATE_STD:
                parameter.normal_(0.0, REDRAWN_STD, generator=generator)
    return module.float()


def _read_config(request: LoadRequest, arguments: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    check_config(request)
    with explained(request, "configuration"):
        return AutoConfig.from_pretrained(**arguments)


def _require_kind(request: LoadRequest, config: Any, model_types: Collection[str]) -> None:
    """Refuse what is not a vision-language model, or not of the wanted family, with the reason."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    kind = config.model_type
    remote = request.trust_remote_code and "AutoModelForImageTextToText" in (getattr(config, "auto_map", None) or {})
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and not remote:
        raise UnsupportedError(f"model {request.name!r}: {request.source} holds a {kind!r} model, not an image-text-to-text one")
    if model_types and kind not in model_types:
        raise UnsupportedError(
            f"model {request.name!r}: {request.source} holds a {kind!r} model; expected {' or '.join(sorted(model_types))}. "
            "The plugin hf loads any image-text-to-text model"
        )


def _read_processor(request: LoadRequest, arguments: dict[str, Any], config: Any) -> Any:
    with explained(request, "processor"):
        processor = read_processor(config, arguments)
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise InvalidFileError(f"model {request.name!r}: {request.source} has no processor for images and text together")
    if not getattr(processor.tokenizer, "is_fast", False):
        raise UnsupportedError(f"model {request.name!r}: its tokenizer gives no character offsets (no tokenizer.json)")
    choose_ocr(request, processor)
    check_processor(request, config, processor, arguments.get("revision"))
    return processor


def _read_weights(request: LoadRequest, arguments: dict[str, Any], config: Any) -> Any:
    """The trained module. Weights that the files lack are an error: the library would fill them with random numbers."""
    with explained(request, "weights"):
        module, report = answering_class(config).from_pretrained(
            config=config,
            dtype=request.dtype,
            use_safetensors=None if request.allow_pickle else True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported below, in one line
            **arguments,
            **_placement(request),
        )
    check_report(request, report, type(module).__name__, is_built_as(config))
    return module


def _read_generation(module: Any, arguments: dict[str, Any]) -> None:
    """What the checkpoint says about generating: a model with random weights begins its answers as the trained one does."""
    from transformers import GenerationConfig

    rest = {name: value for name, value in arguments.items() if name in ("revision", "local_files_only")}
    with contextlib.suppress(OSError):  # a checkpoint need not have any
        module.generation_config = GenerationConfig.from_pretrained(arguments["pretrained_model_name_or_path"], **rest)


def _placement(request: LoadRequest) -> dict[str, Any]:
    """What the library is told about attention, devices and quantisation."""
    extra: dict[str, Any] = {} if request.attention is None else {"attn_implementation": request.attention}
    if request.device_map is not None:
        extra["device_map"] = request.device_map if isinstance(request.device_map, str) else dict(request.device_map)
        if request.max_memory:
            extra["max_memory"] = dict(request.max_memory)
        if request.offload_folder:
            extra["offload_folder"] = request.offload_folder
    if request.quantisation is not None:
        extra["quantization_config"] = _quantisation(request)
        extra.setdefault("device_map", {"": str(request.device)})
    return extra


def _quantisation(request: LoadRequest) -> Any:
    """LLM.int8 or NF4, as their papers recommend; what is not quantised stays in the request's dtype."""
    from transformers import BitsAndBytesConfig

    if request.quantisation == "8bit":
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it remarks on its own rounding at every product
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=request.dtype)


def _shown_name(request: LoadRequest) -> str:
    """The model's name; one with random weights says so, whether it was asked for by name or by option."""
    suffix = "" if request.random_seed is None else f"@random-{request.random_seed}"
    return request.name if request.name.endswith(suffix) else request.name + suffix


def _describe(request: LoadRequest, module: Any, processor: Any, commit: str) -> ModelInfo:
    text = module.config.get_text_config(decoder=True)
    try:
        heads = getattr(text, "num_attention_heads", None) or 0
        head_dim = getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // max(1, heads)
    except RuntimeError:  # layers differ, and the library names no number for all of them (Gemma 4)
        shape = readable_decoder(module).shape
        heads, head_dim = shape.heads, shape.head_dim
    return ModelInfo(
        name=_shown_name(request),
        family=module.config.model_type,
        source=request.source,
        weights_hash=weights_hash(module),
        dtype=request.format_name,
        attention=str(getattr(text, "_attn_implementation", "")),
        device=_devices(request, module),
        layers=getattr(text, "num_hidden_layers", None) or 0,
        heads=heads,
        head_dim=head_dim,
        processor_hash=processor_hash(processor),
        revision=commit,
    )


def _devices(request: LoadRequest, module: Any) -> str:
    """Where the weights lie: one device, or all that a spread model is on."""
    placed = getattr(module, "hf_device_map", None)
    if not placed:
        return str(request.device)
    return ", ".join(dict.fromkeys(f"cuda:{place}" if isinstance(place, int) else str(place) for place in placed.values()))


@contextlib.contextmanager
def quietly(without_progress: bool) -> Iterator[None]:
    """Keep the library's remarks off the screen while loading or saving; a download keeps its progress bar. Settings are restored."""
    from transformers.utils import logging as remarks

    level, bars = remarks.get_verbosity(), remarks.is_progress_bar_enabled()
    remarks.set_verbosity_error()
    if without_progress:
        remarks.disable_progress_bar()
    try:
        yield
    finally:
        remarks.set_verbosity(level)
        if bars:
            remarks.enable_progress_bar()
