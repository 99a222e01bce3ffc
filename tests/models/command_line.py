"""`eval`, `trace` and `heads scan` on a checkpoint folder, as users give them: what tests and the page of families run."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.models.checkpoints import RECIPES
from tests.models.own_recipes import OWN, OWN_BY_TORCHVISION
from tests.models.recipes import BY_TORCHVISION, FURTHER, PIXTRAL
from vseam_cli.main import execute
from vseam_core.errors import EXIT_DONE, EXIT_DONE_WITH_SKIPS

FAMILIES = (*RECIPES, *FURTHER, *OWN, *BY_TORCHVISION, *OWN_BY_TORCHVISION)
# Packages that a family's processor needs.
NEEDED = {"smolvlm": "num2words", **dict.fromkeys((*PIXTRAL, *BY_TORCHVISION, *OWN_BY_TORCHVISION), "torchvision")}
VERBS: dict[str, tuple[str, ...]] = {
    "eval": ("eval", "--limit", "2", "--pool", "test", "--max-new-tokens", "2"),
    "trace": ("trace", "--tracer", "groups", "--tracer", "tokenwise", "--limit", "1"),
    "heads scan": ("heads", "scan", "--operation", "zero", "--limit", "1"),
}
DATABASE = "results.db"


def missing_package(family: str) -> str:
    """The package that a family's processor needs and that is not here; "" where nothing is missing."""
    needed = NEEDED.get(family, "")
    return needed if needed and importlib.util.find_spec(needed) is None else ""


def tried(folder: Path, place: Path, verbs: tuple[str, ...] = tuple(VERBS)) -> dict[str, str]:
    """What each verb says in `place`: "" where it did its work, else the one line that it was refused with.

    Raises `AssertionError` for a traceback, or an exit code that is neither done nor the user's input.
    """
    said = {}
    for verb in verbs:
        with _in_folder(place), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as written:
            asked = ("--model", str(folder), "--dataset", "scenes/color", "--db", DATABASE, "--device", "cpu", "-q")
            code = execute([*VERBS[verb], *asked])
        text = written.getvalue()
        assert "Traceback" not in text, text
        assert code in (EXIT_DONE, EXIT_DONE_WITH_SKIPS, 2), text
        said[verb] = "" if code != 2 else " ".join(text.split()).removeprefix("Error: ")
    return said


@contextlib.contextmanager
def _in_folder(place: Path) -> Iterator[None]:
    # Drawing has its own tests.
    with contextlib.chdir(place), patch("vseam_core.report.writer.write_report", lambda *_, **__: []):
        yield
