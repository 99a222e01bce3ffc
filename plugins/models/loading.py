"""Opens a checkpoint folder or a hub repository: configuration, processor and weights, every failure one clear line.

Only safetensors are read, never pickles. A folder is opened without touching the network. Remote code runs only where the caller
says `trust_remote_code=True`.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vseam_core.engine.formats import cast_weights
from vseam_core.errors import InvalidFileError, UnknownNameError, UnsupportedError, VseamError, did_you_mean
from vseam_core.types import ModelInfo
from vseam_plugins.models.fingerprints import processor_hash, weights_hash

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "float64": torch.float64}
HUB_TIMEOUT_SECONDS = 10
# Parameters that the library starts with (nearly) equal values, and what they are redrawn with: see `initialise`.
DEGENERATE_STD = 1e-6
REDRAWN_STD = 0.02
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class LoadRequest:
    """What to open and how: `source` is a folder or a hub id, `random_seed` asks for fresh weights in the same architecture."""

    name: str
    source: str
    device: torch.device
    dtype: torch.dtype
    attention: str | None = None
    revision: str | None = None
    random_seed: int | None = None
    trust_remote_code: bool = False

    @property
    def is_folder(self) -> bool:
        return Path(self.source).expanduser().is_dir()


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """An opened model: the module in eval mode on its device, its processor, and what identifies it."""

    module: Any
    processor: Any
    info: ModelInfo


def open_checkpoint(request: LoadRequest, model_types: Collection[str] = ()) -> Checkpoint:
    """Open what `request` names; `model_types` limits the accepted architectures (empty: any image-text-to-text model).

    Raises `InvalidFileError` for missing or damaged files, `UnsupportedError` for models of another kind, `VseamError` where the
    hub cannot be reached.
    """
    arguments = _locate(request)
    with quietly(request.is_folder):
        config = _read_config(request, arguments)
        _require_kind(request, config, model_types)
        processor = _read_processor(request, arguments)
        if request.random_seed is None:
            module = _read_weights(request, arguments, config)
        else:
            with _explained(request, "architecture", "build"):
                module = initialise(config, request.random_seed, request.attention, request.trust_remote_code)
                cast_weights(module, request.dtype)
    with _explained(request, "weights", f"move to {request.device}"):
        module.to(device=request.device)
    module.eval().requires_grad_(False)
    return Checkpoint(module, processor, _describe(request, module, processor))


def parse_device(text: str) -> torch.device:
    """The device a user names: `auto` is the first GPU where there is one, else the CPU. Raises `VseamError`."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise UnknownNameError(f"unknown device {text!r}; expected auto, cpu, cuda, cuda:0, mps …") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise VseamError(f"device {text!r} was asked for, but this torch sees no GPU; use --device cpu")
    return device


def parse_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """The number format to compute in: float32 unless said otherwise, on every device, so that results do not depend on it."""
    if dtype is None:
        return torch.float32
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UnknownNameError(f"unknown dtype {dtype!r}; {did_you_mean(dtype, DTYPES)}")
    return DTYPES[dtype]


def initialise(config: Any, seed: int, attention: str | None = None, trust_remote_code: bool = False) -> Any:
    """A float32 model of the same architecture with fresh weights drawn from `seed` alone; the global generators stay untouched.

    Weights follow the library's own initialisation. Parameters that it leaves (nearly) constant, such as the query tokens of a
    Q-Former, are redrawn with standard deviation 0.02: otherwise all image positions of the random model would be identical and
    a control made of such models would be too easy to beat.
    """
    from transformers import AutoModelForImageTextToText

    extra: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
    if attention is not None:
        extra["attn_implementation"] = attention
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        module = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, **extra)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            is_norm = "norm" in name.lower()
            if parameter.ndim >= 2 and not is_norm and parameter.numel() > 1 and parameter.std() < DEGENERATE_STD:
                parameter.normal_(0.0, REDRAWN_STD, generator=generator)
    return module.float()


def _locate(request: LoadRequest) -> dict[str, Any]:
    """Check that the source has the files of a checkpoint; returns the arguments that every library call shares."""
    shared: dict[str, Any] = {"trust_remote_code": request.trust_remote_code}
    if request.is_folder:
        folder = Path(request.source).expanduser()
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        _require_files(request, str(folder), files)
        _require_shards(request, folder)
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True, **shared}
    if not _HUB_ID.fullmatch(request.source):
        raise InvalidFileError(
            f"model {request.name!r}: no folder at {request.source}; expected a checkpoint folder written by save_pretrained, "
            "or a hub id such as llava-hf/llava-1.5-7b-hf"
        )
    revision, offline = _ask_hub(request)
    found = {"pretrained_model_name_or_path": request.source, "local_files_only": offline, **shared}
    return found if revision is None else {**found, "revision": revision}


def _ask_hub(request: LoadRequest) -> tuple[str | None, bool]:
    """The commit to read and whether only the local cache can be used. One short question instead of the library's retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = HfApi().model_info(request.source, revision=request.revision, timeout=HUB_TIMEOUT_SECONDS)
    except RevisionNotFoundError:
        raise VseamError(f"model {request.name!r}: the hub's {request.source} has no revision {request.revision!r}") from None
    except RepositoryNotFoundError:
        raise VseamError(
            f"model {request.name!r}: {request.source!r} is neither a folder nor a model that the hub shows you; "
            "check the spelling, or log in (hf auth login) if it is private"
        ) from None
    except (HTTPError, OSError):  # whatever library the hub's client speaks through; offline mode is an OSError too
        return request.revision, True  # no connection: the cache may still have it, and says so if not
    _require_files(request, f"the hub's {request.source}", {entry.rfilename for entry in found.siblings or ()})
    return found.sha, False


def _require_files(request: LoadRequest, where: str, files: Collection[str]) -> None:
    """Name the first part of a checkpoint that is missing. Raises `InvalidFileError`."""
    parts = [
        ("its configuration", {"config.json"}),
        ("a tokenizer", {"tokenizer.json", "tokenizer_config.json", "tokenizer.model"}),
        ("an image processor", {"processor_config.json", "preprocessor_config.json"}),
    ]
    for what, names in parts:
        if not names & set(files):
            raise InvalidFileError(f"model {request.name!r}: {where} lacks {what}; expected {' or '.join(sorted(names))}")
    if request.random_seed is not None or any(name.endswith(".safetensors") for name in files):
        return
    pickled = sorted(name for name in files if name.endswith((".bin", ".pt", ".pth")))
    hint = f" (only {pickled[0]}: pickles are not read, save it again with safetensors)" if pickled else ""
    raise InvalidFileError(f"model {request.name!r}: {where} lacks weights; expected model.safetensors{hint}")


def _require_shards(request: LoadRequest, folder: Path) -> None:
    """Check that every file a sharded checkpoint's index names is there. Raises `InvalidFileError`."""
    index = folder / "model.safetensors.index.json"
    if request.random_seed is not None or not index.is_file():
        return
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidFileError(f"model {request.name!r}: {index} is not an index of safetensors files ({error})") from None
    for shard in sorted(shards):
        if not (folder / shard).is_file():
            raise InvalidFileError(f"model {request.name!r}: {folder} lacks {shard}, which its index names; copy it again")


def _read_config(request: LoadRequest, arguments: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    with _explained(request, "configuration"):
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


def _read_processor(request: LoadRequest, arguments: dict[str, Any]) -> Any:
    """The processor with the Pillow image processor: an installed torchvision would otherwise change the pixels."""
    from transformers import AutoImageProcessor, AutoProcessor

    with _explained(request, "processor"):
        processor = AutoProcessor.from_pretrained(**arguments)
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise InvalidFileError(f"model {request.name!r}: {request.source} has no processor for images and text together")
        processor.image_processor = AutoImageProcessor.from_pretrained(backend="pil", **arguments)
    if not getattr(processor.tokenizer, "is_fast", False):
        raise UnsupportedError(f"model {request.name!r}: its tokenizer gives no character offsets (no tokenizer.json)")
    return processor


def _read_weights(request: LoadRequest, arguments: dict[str, Any], config: Any) -> Any:
    """The trained module. Weights that the files lack are an error: the library would fill them with random numbers."""
    from transformers import AutoModelForImageTextToText

    loader: Any = AutoModelForImageTextToText
    extra = {} if request.attention is None else {"attn_implementation": request.attention}
    with _explained(request, "weights"):
        module, report = loader.from_pretrained(
            config=config, dtype=request.dtype, use_safetensors=True, output_loading_info=True, **arguments, **extra
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise InvalidFileError(
            f"model {request.name!r}: the weights of {request.source} lack {len(missing)} tensors that config.json asks for, "
            f"such as {missing[0]}"
        )
    return module


def _shown_name(request: LoadRequest) -> str:
    """The model's name; one with random weights says so, whether it was asked for by name or by option."""
    suffix = "" if request.random_seed is None else f"@random-{request.random_seed}"
    return request.name if request.name.endswith(suffix) else request.name + suffix


def _describe(request: LoadRequest, module: Any, processor: Any) -> ModelInfo:
    text = module.config.get_text_config(decoder=True)
    heads = text.num_attention_heads
    return ModelInfo(
        name=_shown_name(request),
        family=module.config.model_type,
        source=request.source,
        weights_hash=weights_hash(module),
        dtype=str(request.dtype).removeprefix("torch."),
        attention=str(text._attn_implementation),
        device=str(request.device),
        layers=text.num_hidden_layers,
        heads=heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        processor_hash=processor_hash(processor),
    )


@contextlib.contextmanager
def _explained(request: LoadRequest, what: str, verb: str = "read") -> Iterator[None]:
    """Turn whatever a library raises into one line that says which part of which model could not be read."""
    try:
        yield
    except VseamError:
        raise
    except Exception as error:
        message = f"model {request.name!r}: cannot {verb} the {what} of {request.source}: {_reason(error)}"
        kind = InvalidFileError if request.is_folder else VseamError
        raise kind(message) from error


def _reason(error: Exception) -> str:
    """The cause in one line, with what to do where it is a known one."""
    text = " ".join(str(error).split())
    if "gated" in text.lower():
        return "it is gated; accept its licence on the hub and log in (hf auth login)"
    if "couldn't connect" in text or "outgoing traffic has been disabled" in text:
        return "the hub cannot be reached and the local cache lacks it; check the connection, or give a checkpoint folder"
    if isinstance(error, torch.OutOfMemoryError):
        return "not enough GPU memory; give the model `options: {dtype: bfloat16}` in registry.yaml, or use a smaller one"
    if isinstance(error, ImportError):
        return f"{text.split('. ')[0].rstrip('.')}; install it"
    return f"{type(error).__name__}: {text[:240]}"


@contextlib.contextmanager
def quietly(without_progress: bool) -> Iterator[None]:
    """Keep the library's remarks off the screen while loading or saving; a download keeps its progress bar. Settings are restored."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if without_progress:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
