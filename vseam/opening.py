"""What every call from Python begins with: a workspace, given or made for the call, with progress shown as the command line shows it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vseam_core.api.interfaces import VisionLanguageModel
    from vseam_core.runs.progress import Progress
    from vseam_core.runs.workspace import Workspace

IN_MEMORY = ":memory:"


@dataclass(frozen=True)
class Opening:
    """Where a call measures: a `workspace` of the caller's, or one of its own.

    `database` keeps every number in a file (None: in memory, gone with the result's workspace). `progress` False shows none. The other
    fields are those of `open_workspace`. A workspace of the caller's is left open, and keeps its loaded models for the next call.
    """

    workspace: Workspace | None = None
    database: str | Path | None = None
    device: str = "auto"
    seed: int = 0
    memory_budget: int | None = None
    loading: dict[str, Any] | None = None
    progress: bool = True

    @contextlib.contextmanager
    def open(self) -> Iterator[Workspace]:
        """The workspace, as long as the context is entered."""
        from vseam_core.runs.workspace import EDITS, open_workspace

        if self.workspace is not None:
            yield self.workspace
            return
        with contextlib.ExitStack() as stack:
            # Edited images are kept where a database refers to them; else they are gone with the call.
            edits = EDITS if self.database else stack.enter_context(tempfile.TemporaryDirectory(prefix="vseam-"))
            yield stack.enter_context(
                open_workspace(
                    self.database or IN_MEMORY,
                    device=self.device,
                    seed=self.seed,
                    memory_budget=self.memory_budget,
                    loading={"": self.loading or {}},
                    progress=stack.enter_context(shown_progress(self.progress)),
                    edits=edits,
                    thumbnails=True,
                )
            )


@contextlib.contextmanager
def shown_progress(wanted: bool) -> Iterator[Progress]:
    """Progress on stderr: bars on a terminal, now and then a line elsewhere; nothing where it is not wanted."""
    from vseam_cli.output import Output

    with Output(quiet=not wanted).progress() as progress:
        yield progress


def model_name(workspace: Workspace, model: str | Path | VisionLanguageModel) -> str:
    """The name that a model goes by in a workspace: a registered name, a checkpoint folder, a hub id, or a loaded model's own."""
    return str(model) if isinstance(model, (str, Path)) else workspace.give_model(model)
