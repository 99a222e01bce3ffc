"""The errors that a user reads: one clear line each, and the exit code that belongs to it.

Everything that a user can cause (a wrong name, a broken file, a locked database) is a `VseamError`. The command line prints its
message without a traceback (`--debug` shows it) and exits with `exit_code`. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_DONE = 0
EXIT_USER_ERROR = 2
EXIT_DONE_WITH_SKIPS = 3
EXIT_INTERRUPTED = 130


class VseamError(Exception):
    """Something the user can mend; its text says what, where, what was expected and what to do."""

    exit_code = EXIT_USER_ERROR


class UnknownNameError(VseamError):
    """A model, dataset, editor, tracer or option that nobody registered."""


class NameClashError(VseamError):
    """Two packages, or a package and a user's registry file, claim one name."""


class PluginError(VseamError):
    """A plugin that cannot be used: broken import, wrong API number, missing optional package."""


class InvalidFileError(VseamError):
    """A file that cannot be understood: registry.yaml, a study file, a question file."""


class StoreError(VseamError):
    """A results database that cannot be used: locked, older, newer, damaged, or the disk is full."""


class QueryError(VseamError):
    """A query that is not a plain, bounded SELECT."""


class UnsupportedError(VseamError):
    """A method that has no meaning for this model family, with the reason."""


class SampleError(VseamError):
    """One sample that cannot be used; it is skipped, counted and listed, and the run goes on."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an unknown-name message: the closest known names, then all of them.

    Returns text such as `did you mean 'llava-tiny'? Known: instructblip-tiny, llava-tiny`.
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    guess = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    return f"{guess}Known: {', '.join(names) if names else 'none'}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, for what a user reads: `1 pair`, `2 pairs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
