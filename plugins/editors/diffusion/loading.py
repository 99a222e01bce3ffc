"""Opens diffusers checkpoints: every part with all of its weights, or one line that says what is wrong.

diffusers fills weights that a file lacks with random numbers and only logs it; here that is an error. Safetensors are preferred; pickles
are read as plain tensors only (`weights_only=True`). No remote code is run.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from vseam_core.config.loading import HUB_TIMEOUT_SECONDS
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError, did_you_mean
from vseam_core.files import parse_json, read_bytes

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}
# Buffers that older releases stored and newer ones compute.
_COMPUTED = ("position_ids",)
_BLOCK = 1 << 22


def locate(painter: str, source: str, revision: str | None, patterns: Iterable[str] | None, where_to_get: str) -> Path:
    """The folder of a source: as it is, or downloaded from the hub at one commit (which names the folder).

    Raises `InvalidFileError` for what is neither, `VseamError` where the hub cannot be reached; both say where to get the weights.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise InvalidFileError(f"editor {painter!r}: no folder at {source}; {where_to_get}")
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    allowed = None if patterns is None else list(patterns)
    try:
        commit = HfApi().model_info(source, revision=revision, timeout=HUB_TIMEOUT_SECONDS).sha
        if allowed is None:
            return Path(diffusers.DiffusionPipeline.download(source, revision=commit))
        return Path(snapshot_download(source, revision=commit, allow_patterns=allowed))
    except (RepositoryNotFoundError, RevisionNotFoundError):
        shown = source if revision is None else f"{source} at {revision}"
        raise VseamError(f"editor {painter!r}: {shown} is no folder and no repository that the hub shows you; {where_to_get}") from None
    except (HTTPError, OSError):  # no connection: the cache may still have it
        try:
            return Path(snapshot_download(source, revision=revision, allow_patterns=allowed, local_files_only=True))
        except (OSError, ValueError):
            raise VseamError(f"editor {painter!r}: the hub cannot be reached and the local cache lacks {source}; {where_to_get}") from None


def read_index(painter: str, folder: Path, where_to_get: str) -> dict[str, Any]:
    """The `model_index.json` of a pipeline folder. Raises `InvalidFileError`."""
    path = folder / "model_index.json"
    if not path.is_file():
        raise InvalidFileError(f"editor {painter!r}: {folder} lacks model_index.json, so it is no diffusers pipeline; {where_to_get}")
    try:
        index = parse_json(read_bytes(path))
        if isinstance(index, dict) and isinstance(index.get("_class_name"), str):
            return index
    except ValueError:
        pass
    raise InvalidFileError(f"editor {painter!r}: {path} is not the index of a diffusers pipeline; copy it again")


def load_parts(painter: str, folder: Path, index: Mapping[str, Any], dtype: torch.dtype, skip: Iterable[str] = ()) -> dict[str, Any]:
    """The models of a pipeline folder by name, each with all of its weights. Raises `InvalidFileError`.

    Tokenizers, schedulers and parts that the index leaves empty are not among them: the pipeline reads them itself.
    """
    parts = {}
    for name, entry in sorted(index.items()):
        if name in skip or not isinstance(entry, list) or len(entry) != 2 or entry[0] not in _LIBRARIES:
            continue
        kind = getattr(_LIBRARIES[entry[0]], str(entry[1]), None)
        if isinstance(kind, type) and issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel)):
            parts[name] = load_model(painter, kind, folder, name, dtype)
    return parts


def load_model(painter: str, kind: Any, folder: Path, part: str, dtype: torch.dtype) -> torch.nn.Module:
    """One model of a pipeline folder. Raises `InvalidFileError` where any weight is missing or has another shape."""
    path = folder / part
    if not any(path.glob("*.json")) or not any(file.suffix in WEIGHT_SUFFIXES for file in path.glob("*")):
        raise InvalidFileError(f"editor {painter!r}: {folder} lacks the weights or config.json of {part}; copy the folder again")
    with explained(painter, f"{part} of {folder}"), quietly():
        model, report = kind.from_pretrained(str(folder), subfolder=part, dtype=dtype, output_loading_info=True, local_files_only=True)
    wrong = [*report["missing_keys"], *(str(entry) for entry in report["mismatched_keys"])]
    raise_for_weights(painter, path, missing=sorted(key for key in wrong if not str(key).endswith(_COMPUTED)))
    return model.eval().requires_grad_(False)


def load_strictly(painter: str, module: torch.nn.Module, state: Mapping[str, torch.Tensor], path: Path, assign: bool = False) -> None:
    """Load exactly the weights of `module`: one that is missing, not known or of another shape is an `InvalidFileError`.

    `assign` makes the given tensors its own (for a module on the meta device).
    """
    own = module.state_dict()
    given = {key: value for key, value in state.items() if key in own or not key.endswith(_COMPUTED)}
    missing = sorted(key for key in own if key not in given and not key.endswith(_COMPUTED))
    unexpected = sorted(key for key in given if key not in own)
    shapes = {key: (tuple(given[key].shape), tuple(own[key].shape)) for key in given if key in own}
    mismatched = [f"{key} ({found} for {wanted})" for key, (found, wanted) in sorted(shapes.items()) if found != wanted]
    raise_for_weights(painter, path, missing, unexpected, mismatched)
    module.load_state_dict(given, strict=False, assign=assign)


def raise_for_weights(
    painter: str, path: Path, missing: list[str], unexpected: list[str] | None = None, mismatched: list[str] | None = None
) -> None:
    """Raise `InvalidFileError` with counts and one example of each kind, unless all lists are empty."""
    kinds = (("missing", missing), ("not expected", unexpected or []), ("of another shape", mismatched or []))
    wrong = [f"{len(keys)} {kind}, such as {keys[0]}" for kind, keys in kinds if keys]
    if wrong:
        raise InvalidFileError(f"editor {painter!r}: the weights in {path} do not fit the model: {'; '.join(wrong)}")


def read_tensors(painter: str, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name; a pickle is read as plain tensors only. Raises `InvalidFileError`."""
    with explained(painter, str(path)):
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        if not all(isinstance(value, torch.Tensor) for value in state.values()):
            raise InvalidFileError(f"editor {painter!r}: {path} holds more than tensors; expected the weights of a model")
        return dict(state)


def scheduler_of(painter: str, name: str, config: Mapping[str, Any]) -> Any:
    """A scheduler of that class with the settings of the checkpoint's own. Raises `UnknownNameError`."""
    kind = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or kind is None:
        known = [entry for entry in dir(diffusers) if entry.endswith("Scheduler") and not entry.startswith("Flax")]
        raise UnknownNameError(f"editor {painter!r}: diffusers has no scheduler {name!r}; {did_you_mean(name, known)}")
    with explained(painter, f"the settings of {name}"), quietly():
        return kind.from_config(config)


def files_hash(folder: Path, parts: Iterable[str]) -> str:
    """A sha256 over names and contents of the files in those sub-folders (or files) that make a pipeline.

    Of several forms of the same weights in one folder the pickled ones are left out, as they are not read.
    """
    digest = hashlib.sha256()
    for part in sorted(set(parts)):
        for path in _files(folder / part):
            digest.update(f"{path.relative_to(folder).as_posix()}|".encode())
            with path.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    if any(file.suffix == ".safetensors" for file in files):
        files = [file for file in files if file.suffix not in WEIGHT_SUFFIXES or file.suffix == ".safetensors"]
    return files


@contextlib.contextmanager
def explained(painter: str, what: str) -> Iterator[None]:
    """Turn whatever a library raises while reading into one line."""
    try:
        yield
    except VseamError:
        raise
    except torch.OutOfMemoryError as error:
        raise VseamError(f"editor {painter!r}: not enough GPU memory for {what}; use the option offload=model or sequential") from error
    except Exception as error:
        text = " ".join(str(error).split())[:240]
        raise InvalidFileError(f"editor {painter!r}: cannot read {what}: {type(error).__name__}: {text}") from error


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep the libraries' remarks and bars off the screen; what matters in them is an error here. Settings are restored."""
    from diffusers.utils import logging as own
    from transformers.utils import logging as other

    before = own.get_verbosity(), other.get_verbosity()
    bars = [library for library in (own, other) if library.is_progress_bar_enabled()]
    own.set_verbosity_error()
    other.set_verbosity_error()
    own.disable_progress_bar()
    other.disable_progress_bar()
    try:
        yield
    finally:
        own.set_verbosity(before[0])
        other.set_verbosity(before[1])
        for library in bars:
            library.enable_progress_bar()
