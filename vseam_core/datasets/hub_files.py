"""Question files of the Hugging Face hub by name, `hub:OWNER/NAME`: from its local cache, and from the hub where that is allowed."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

from vseam_core.config.loading import HUB_PREFIX
from vseam_core.errors import InvalidFileError, VseamError

DOWNLOAD_VARIABLE = "VSEAM_DOWNLOAD_DATASETS"
"""Set to 1, it allows that datasets are fetched. A variable of the environment, so that no file of a working directory can."""

FORM = "hub:OWNER/NAME[/PATH][@REVISION]"
_NAME = re.compile(r"hub:(?P<repository>[\w.-]+/[\w.-]+)(?:/(?P<path>[^@]+))?(?:@(?P<revision>.+))?")
# What is read of a whole dataset: tables, and the lists that `save_to_disk` writes.
_TABLES = ("*.parquet", "*.arrow", "*state.json", "*dataset_dict.json")


def is_hub_name(name: object) -> TypeGuard[str]:
    """Whether a name means a dataset of the hub."""
    return isinstance(name, str) and name.startswith(HUB_PREFIX)


def hub_path(dataset: str, name: str) -> Path:
    """The folder or file on this machine that a name of the form `FORM` stands for; PATH is a folder or a file of the dataset.

    Raises `VseamError` kinds: another form, no such dataset, not in the cache while nothing may be downloaded.
    """
    found = _NAME.fullmatch(name)
    if found is None or ".." in (found["path"] or "").split("/"):
        raise VseamError(f"dataset {dataset!r}: expected {FORM}, got {name!r:.80}")
    inside = (found["path"] or "").strip("/")
    allowed = os.environ.get(DOWNLOAD_VARIABLE, "") not in ("", "0")
    patterns = (inside, *(f"{inside}/{pattern}" for pattern in _TABLES)) if inside else _TABLES
    folder = _snapshot(dataset, found["repository"], found["revision"], patterns=patterns, allowed=allowed)
    path = folder / inside
    if not path.exists():
        hint = "" if allowed else f"; nothing is downloaded unless {DOWNLOAD_VARIABLE}=1"
        raise InvalidFileError(f"dataset {dataset!r}: {found['repository']} has no {inside!r} in {folder}{hint}")
    return path


@lru_cache(maxsize=64)
def _snapshot(dataset: str, repository: str, revision: str | None, *, patterns: tuple[str, ...], allowed: bool) -> Path:
    """The folder of a revision in the hub's local cache, filled from the hub where that is allowed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=list(patterns), local_files_only=not allowed
        )
    except HFValidationError as error:
        raise VseamError(f"dataset {dataset!r}: {' '.join(str(error).split())[:160]}") from None
    except GatedRepoError:
        raise VseamError(f"dataset {dataset!r}: {repository} is gated; accept its licence on the hub and log in (hf auth login)") from None
    except RevisionNotFoundError:
        raise VseamError(f"dataset {dataset!r}: the hub's {repository} has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise VseamError(f"dataset {dataset!r}: the hub shows you no dataset {repository!r}") from None
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached" if allowed else f"nothing is downloaded unless {DOWNLOAD_VARIABLE}=1 says so"
        raise VseamError(f"dataset {dataset!r}: {repository} is not in the hub's cache on this machine, and {reason}") from None
    except (HfHubHTTPError, OSError) as error:
        raise VseamError(f"dataset {dataset!r}: {repository} cannot be fetched: {' '.join(str(error).split())[:160]}") from None
    return Path(found)
