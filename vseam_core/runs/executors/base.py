"""What an executor is: workers that each hold a loaded model and do one task after another, on this machine or on many.

A task is a module-level function that is given a workspace. All numbers go to the store as they are made, under keys that say what they
are, so that a task can be done again anywhere: what is finished is found, and only the rest is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vseam_core.runs.workspace import Opening, Portion

Work = Callable[..., Any]
"""A module-level function of a workspace and the task's arguments."""

Results = Mapping[str, list[Any]]
"""What the tasks of each finished group returned, in the order of the tasks."""


@dataclass(frozen=True)
class Task:
    """A piece of a study: `work(workspace, *arguments)`, once every group in `after` is complete.

    Tasks of one `group` differ in their `portion` of the group's samples and are shown as one; a task without a portion is shown by what it
    does. `prepare` makes further arguments of the results of other groups, in the process that starts the tasks. `model` is the model that
    a worker has to hold, so that the next task of the same model goes to the same worker.
    """

    group: str
    work: Work
    arguments: tuple[Any, ...]
    model: str = ""
    after: tuple[str, ...] = ()
    portion: Portion | None = None
    prepare: Callable[[Results], tuple[Any, ...]] | None = None


@dataclass(frozen=True)
class Call:
    """A task as it is sent to a worker. `given_up` are the keys of units that nobody tries any more, with the reason."""

    work: Work
    arguments: tuple[Any, ...]
    model: str = ""
    portion: Portion | None = None
    given_up: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """A worker finished its call; `given_up` are units that it gave up, by key."""

    worker: int
    result: Any
    given_up: Mapping[str, str]


@dataclass(frozen=True)
class Lost:
    """A worker ended in the middle of its call, or ran out of memory: somebody else may try."""

    worker: int
    reason: str


@dataclass(frozen=True)
class Failed:
    """A worker's call raised what would be raised anywhere else too."""

    worker: int
    error: Exception


@dataclass(frozen=True)
class Said:
    """What a worker shows: `start`, `advance` and `end` of something with a name and a number, or a `note`."""

    worker: int
    kind: str
    text: str
    number: int = 0


Event = Done | Lost | Failed | Said


class Executor(Protocol):
    """Workers that are numbered from 0. It is opened once, closed once, and used by one thread."""

    def count(self) -> int:
        """How many workers there are going to be."""
        ...

    def open(self, opening: Opening) -> None:
        """Be ready for calls on workspaces that are opened like this. Raises `VseamError` where that cannot work."""
        ...

    def ready(self) -> Sequence[int]:
        """The workers that can be given something to do now."""
        ...

    def submit(self, worker: int, call: Call) -> None:
        """Let one of those that are ready do something."""
        ...

    def wait(self) -> Sequence[Event]:
        """What has happened, at least one event after some time; an empty sequence where nothing has."""
        ...

    def close(self) -> None:
        """End all workers, whatever they do."""
        ...
