"""The folders of reports: each report in one of its own, complete when it appears, listed in one page; none takes another's place."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vseam_core.errors import VseamError
from vseam_core.files import parse_json, write_atomically
from vseam_core.report.page import index_page

PAGE = "index.html"
ABOUT = "report.json"
"""What a report's folder says about itself, for the list of all reports."""


def add_folder(reports: Path, title: str, about: dict[str, Any], write: Callable[[Path], list[Path]]) -> list[Path]:
    """What `write` wrote into a folder, moved to a free name `TITLE-NUMBER` below `reports` and listed there with what is said `about` it.

    The folder appears when it is complete, and no report ever takes the place of another. Raises `VseamError` where something cannot be
    written.
    """
    name = file_name(title)
    with told_in_one_line(reports):
        reports.mkdir(parents=True, exist_ok=True)
        draft = reports / f".{name}.{platform.node()}.{os.getpid()}.part"
        _remove_left_drafts(reports)
        try:
            draft.mkdir(exist_ok=True)
            written = write(draft)
            about |= {"figures": sum(path.suffix == ".png" for path in written), "made": datetime.now(UTC).isoformat(timespec="seconds")}
            write_atomically(draft / ABOUT, json.dumps(about, ensure_ascii=False, indent=1) + "\n")
            folder = _moved_to_a_free_name(draft, reports, name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        write_atomically(reports / PAGE, index_page(_listed(reports)))
    return [folder / path.name for path in written]


def _remove_left_drafts(reports: Path) -> None:
    """Remove what processes of this machine were writing when they were killed."""
    for draft in reports.glob(f".*.{glob.escape(platform.node())}.*.part"):
        process = draft.name.split(".")[-2]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(draft, ignore_errors=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def file_name(*words: str) -> str:
    """Words joined to a file name without separators or anything else a file system could mind."""
    safe = (re.sub(r"[^A-Za-z0-9.@-]+", "-", word).strip("-.") or "unnamed" for word in words)
    return "_".join(safe)


@contextmanager
def told_in_one_line(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VseamError(
            f"report: cannot write {error.filename or directory}: {error.strerror or error}; name another folder or make room"
        ) from error


def _moved_to_a_free_name(draft: Path, reports: Path, name: str) -> Path:
    """Move a complete report to the first number after all that are there; another process may be faster, then it is the next one."""
    pattern = re.compile(rf"{re.escape(name)}-(\d{{1,9}})")
    taken = [int(match.group(1)) for entry in reports.iterdir() if (match := pattern.fullmatch(entry.name))]
    number = max(taken, default=0) + 1
    while True:
        folder = reports / f"{name}-{number}"
        if not folder.exists():
            try:
                return draft.rename(folder)
            except FileExistsError:
                pass
            except OSError:
                if not folder.exists():
                    raise
        number += 1


def _listed(reports: Path) -> list[dict[str, Any]]:
    """What the folders say about themselves, the latest report first; a folder that says nothing is no report."""
    found = []
    for file in reports.glob(f"*/{ABOUT}"):
        try:
            about = parse_json(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(about, dict):
            found.append({**about, "folder": file.parent.name})
    return sorted(found, key=lambda about: (str(about.get("made")), about["folder"]), reverse=True)
