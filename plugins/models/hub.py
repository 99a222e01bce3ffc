"""Where a checkpoint's files are: a folder, the hub, or the hub's local cache; what is missing there is named before anything is read."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch

from vseam_core.config.loading import HUB_TIMEOUT_SECONDS
from vseam_core.errors import InvalidFileError, VseamError
from vseam_core.files import parse_json, read_bytes
from vseam_plugins.models.load_options import LoadRequest

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_PICKLES = (".bin", ".pt", ".pth")
_POINTER = b"version https://git-lfs"
_UNGATE = "accept its licence on the hub and log in (hf auth login)"


def locate(request: LoadRequest) -> dict[str, Any]:
    """Check that the source has the files of a checkpoint; returns the arguments that every library call shares."""
    shared: dict[str, Any] = {"trust_remote_code": request.trust_remote_code}
    if request.is_folder:
        folder = Path(request.source).expanduser()
        if request.revision is not None:
            raise VseamError(f"model {request.name!r}: a revision is a commit, branch or tag of the hub; {folder} is a folder")
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        _require_files(request, str(folder), files)
        _require_shards(request, folder)
        _require_contents(request, folder)
        return {"pretrained_model_name_or_path": str(folder), "local_files_only": True, **shared}
    if not _HUB_ID.fullmatch(request.source):
        raise InvalidFileError(
            f"model {request.name!r}: no folder at {request.source}; expected a checkpoint folder written by save_pretrained, "
            "or a hub id such as llava-hf/llava-1.5-7b-hf"
        )
    revision, offline = (request.revision, True) if request.local_files_only else _ask_hub(request)
    found = {"pretrained_model_name_or_path": request.source, "local_files_only": offline, **shared}
    return found if revision is None else {**found, "revision": revision}


def commit_of(request: LoadRequest, arguments: dict[str, Any]) -> str:
    """The hub's commit that files are read from, "" for a folder."""
    from huggingface_hub import try_to_load_from_cache

    if request.is_folder:
        return ""
    revision = arguments.get("revision")
    found = try_to_load_from_cache(request.source, "config.json", revision=revision)
    # …/snapshots/COMMIT/config.json
    return Path(found).parent.name if isinstance(found, str) else revision or ""


def _ask_hub(request: LoadRequest) -> tuple[str | None, bool]:
    """The commit to read and whether only the local cache can be used. One short question instead of the library's retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HTTPError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        found = HfApi().model_info(request.source, revision=request.revision, timeout=HUB_TIMEOUT_SECONDS)
    except RevisionNotFoundError:
        raise VseamError(f"model {request.name!r}: the hub's {request.source} has no revision {request.revision!r}") from None
    except GatedRepoError:
        raise VseamError(f"model {request.name!r}: {request.source} is gated; {_UNGATE}") from None
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
    _refuse_adapters(request, where, files)
    if request.random_seed is not None or any(name.endswith(".safetensors") for name in files):
        return
    pickled = sorted(name for name in files if name.endswith(_PICKLES))
    if pickled and request.allow_pickle:
        return
    hint = f" (only {pickled[0]}: pickles are not read unless --model-option allow_pickle=true says so)" if pickled else ""
    raise InvalidFileError(f"model {request.name!r}: {where} lacks weights; expected model.safetensors{hint}")


def _require_shards(request: LoadRequest, folder: Path) -> None:
    """Check that every file a sharded checkpoint's index names is there. Raises `InvalidFileError`."""
    index = folder / "model.safetensors.index.json"
    if request.random_seed is not None or not index.is_file():
        return
    try:
        shards = set(parse_json(read_bytes(index))["weight_map"].values())
        if not all(isinstance(shard, str) and "\0" not in shard for shard in shards):
            raise ValueError("a tensor lies in what is no name of a file")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidFileError(f"model {request.name!r}: {index} is not an index of safetensors files ({error})") from None
    for shard in sorted(shards):
        if not (folder / shard).is_file():
            raise InvalidFileError(f"model {request.name!r}: {folder} lacks {shard}, which its index names; copy it again")


def _refuse_adapters(request: LoadRequest, where: str, files: Collection[str]) -> None:
    """A PEFT adapter would be left out without a word. Raises `InvalidFileError`."""
    if "adapter_config.json" not in files or request.random_seed is not None:
        return
    whole = any(name.startswith(("model", "pytorch_model")) and "/" not in name for name in files)
    what = "a PEFT adapter beside full weights" if whole else "a PEFT adapter alone"
    advice = "merge it into the weights (merge_and_unload, save_pretrained)" + (", or move adapter_config.json away" if whole else "")
    raise InvalidFileError(f"model {request.name!r}: {where} holds {what}, which is not applied here; {advice}")


def _require_contents(request: LoadRequest, folder: Path) -> None:
    """Refuse files that are not what their names say: git-lfs pointers, safetensors with an impossible header."""
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.iterdir()):
        if not path.is_file() or path.suffix not in (".safetensors", ".bin", ".json", ".model", ".txt"):
            continue
        with path.open("rb") as file:
            if file.read(len(_POINTER)) == _POINTER:
                raise InvalidFileError(f"model {request.name!r}: {path} is a git-lfs pointer, not the file; fetch it: git lfs pull")
        if path.suffix == ".safetensors" and request.random_seed is None:
            try:
                with safe_open(path, "numpy"):
                    pass
            except (OSError, SafetensorError) as error:
                reason = " ".join(str(error).split())[:160]
                raise InvalidFileError(f"model {request.name!r}: cannot read the weights in {path}: {reason}") from None


@contextlib.contextmanager
def explained(request: LoadRequest, what: str, verb: str = "read") -> Iterator[None]:
    """Turn whatever a library raises into one line that says which part of which model could not be read."""
    try:
        yield
    except VseamError:
        raise
    except Exception as error:
        message = f"model {request.name!r}: cannot {verb} the {what} of {request.source}: {_reason(request, error)}"
        kind = InvalidFileError if request.is_folder else VseamError
        raise kind(message) from error


def _reason(request: LoadRequest, error: Exception) -> str:
    """The cause in one line, with what to do where it is a known one."""
    text = " ".join(str(error).split())
    if "gated" in text.lower():
        return f"it is gated; {_UNGATE}"
    if request.local_files_only and isinstance(error, OSError):
        return "the local cache lacks it, and local_files_only forbids to ask the hub"
    if "couldn't connect" in text or "outgoing traffic has been disabled" in text:
        return "the hub cannot be reached and the local cache lacks it; check the connection, or give a checkpoint folder"
    if isinstance(error, torch.OutOfMemoryError):
        return "not enough GPU memory; use --dtype bfloat16, --model-option device_map=auto or quantisation=4bit, or a smaller model"
    if isinstance(error, ImportError) and "num2words" in text:
        return "its processor needs num2words: pip install 'vseam[smolvlm]'"
    lacks = isinstance(error, ImportError) or (isinstance(error, ValueError) and "could be imported" in text)
    if lacks and "torchvision" in text.lower():
        return "its processor needs torchvision (the one that fits the installed torch): pip install torchvision"
    if isinstance(error, ImportError):
        return f"{text.split('. ')[0].rstrip('.')}; install it"
    return f"{type(error).__name__}: {text[:240]}"
