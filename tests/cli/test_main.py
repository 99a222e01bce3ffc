"""The command line as a whole: exit codes, one-line errors, help, logs."""

from __future__ import annotations

import errno
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from vseam_cli import main as command_line
from vseam_cli import options
from vseam_cli.main import execute
from vseam_core.errors import VseamError
from vseam_core.plugins.records import import_factory

Vseam = Callable[..., Any]


@pytest.fixture
def add_verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Adds a verb `probe` that does what a function does."""

    def add(action: Callable[[], None]) -> None:
        @options.verb("probe", example="vseam probe")
        def probe() -> None:
            """Probe."""
            action()

        real = command_line.VerbGroup.get_command
        monkeypatch.setattr(
            command_line.VerbGroup, "get_command", lambda self, ctx, name: probe if name == "probe" else real(self, ctx, name)
        )

    return add


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (VseamError("no such thing:\nadd it"), 2, "vseam: no such thing: add it"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to resume"),
        (click.BadParameter("too small"), 2, "too small"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "vseam: no space left on the disk; finished work is kept"),
        (PermissionError(errno.EACCES, "Permission denied", "reports"), 2, "vseam: reports: Permission denied"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_an_exit_code(
    vseam: Vseam, add_verb: Callable[..., None], error: BaseException, code: int, line: str
) -> None:
    add_verb(raising(error))
    outcome = vseam("probe")
    assert (outcome.code, outcome.stdout) == (code, "")
    assert line in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0


@pytest.mark.parametrize(("verb", "said"), [("doctor", "stopped\n"), ("eval", "stopped; run the same command again to resume\n")])
def test_only_what_stores_its_work_promises_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, said: str
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vseam_cli.main.vseam.main", stopped)
    assert execute(["-q", verb, "--model", "llava-tiny"]) == 130
    assert capsys.readouterr().err == said


def test_debug_shows_the_traceback(vseam: Vseam, add_verb: Callable[..., None]) -> None:
    add_verb(raising(VseamError("no such thing")))
    outcome = vseam("--debug", "probe")
    assert outcome.code == 2
    assert "Traceback" in outcome.stderr


def test_a_bug_shows_its_traceback_and_has_its_own_exit_code(vseam: Vseam, add_verb: Callable[..., None]) -> None:
    add_verb(raising(ZeroDivisionError("oops")))
    outcome = vseam("probe")
    assert outcome.code == 1
    assert "Traceback" in outcome.stderr
    assert "this is a bug" in outcome.stderr


def test_a_bug_of_a_plugin_names_the_plugin(vseam: Vseam, add_verb: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    its = {"__name__": "vseam_turned.heads"}
    exec("def fail():\n    import json\n    json.loads('{')", its)  # the error itself is raised by a library that the plugin calls
    monkeypatch.setattr("vseam_cli.main._plugin_packages", lambda: {"vseam_turned": "vseam-turned"})
    add_verb(its["fail"])
    assert "the plugin vseam-turned has a bug" in vseam("probe").stderr


def test_a_verb_can_end_with_skips(vseam: Vseam, add_verb: Callable[..., None]) -> None:
    add_verb(lambda: click.get_current_context().exit(3))
    assert vseam("probe").code == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("modles",), "unknown verb 'modles'; did you mean 'models'"),
        (("models", "--jsn"), "--jsn"),
        (("--pluggin", "x", "models"), "--pluggin"),
        (("study", "check"), "Missing argument 'FILE'"),
        (("query",), "Missing argument 'SQL'"),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_code_2(vseam: Vseam, arguments: tuple[str, ...], expected: str) -> None:
    outcome = vseam(*arguments)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert expected in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0


def test_help_and_version_succeed(vseam: Vseam) -> None:
    outcome = vseam("--help")
    assert outcome.code == 0
    assert all(name in outcome.stdout for name in command_line.VERBS)
    assert "zoo" in outcome.stdout, "verbs that plugins add are shown too"
    assert vseam("--version").stdout.startswith("vseam ")


def test_without_a_verb_the_help_is_shown(vseam: Vseam) -> None:
    outcome = vseam()
    assert (outcome.code, outcome.stdout) == (2, "")
    assert "Verbs:" in outcome.stderr


def commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            found += commands(child, (*path, name))
    return found


@pytest.mark.parametrize("verb", sorted(command_line.VERBS))
def test_every_verb_does_what_the_list_of_verbs_says_and_its_help_ends_with_an_example(vseam: Vseam, verb: str) -> None:
    target, summary = command_line.VERBS[verb]
    command = import_factory(target)
    assert isinstance(command, click.Command)
    assert command.get_short_help_str(limit=500).split()[0] == summary.split()[0], "both begin with the same word"
    assert summary.endswith(".")
    for path, _ in commands(command, (verb,)):
        outcome = vseam(*path, "--help")
        assert outcome.code == 0
        tail = outcome.stdout.rpartition("Example:")[2].split("\n")
        assert [line for line in tail if line.strip()][-1].strip().startswith("vseam "), path


def test_the_zoo_verb_of_the_models_plugin_ends_with_an_example(vseam: Vseam) -> None:
    for path, example in ((("zoo",), "train"), (("zoo", "train"), "train"), (("zoo", "teach"), "teach")):
        assert vseam(*path, "--help").stdout.strip().splitlines()[-1].strip().startswith(f"vseam zoo {example} ")


def test_the_zoo_refuses_an_unknown_model(vseam: Vseam) -> None:
    outcome = vseam("zoo", "train", "lava-tiny")
    assert outcome.code == 2
    assert "did you mean 'llava-tiny'" in outcome.stderr


def test_warnings_are_shown_and_the_log_file_has_everything(vseam: Vseam, add_verb: Callable[..., None]) -> None:
    def speak() -> None:
        logging.getLogger("vseam_core.x").info("quiet detail")
        logging.getLogger("vseam_core.x").warning("mind this")
        logging.getLogger("another_library.y").warning("chatter")

    add_verb(speak)
    outcome = vseam("--log-file", "vseam.log", "probe")
    assert outcome.stderr.splitlines() == ["WARNING mind this"]
    logged = Path("vseam.log").read_text()
    assert all(text in logged for text in ("quiet detail", "mind this", "chatter"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(("probe", "-v"), ["INFO detail", "WARNING mind"]), (("-v", "probe"), ["INFO detail", "WARNING mind"]), (("-q", "probe"), [])],
)
def test_verbosity_is_taken_before_and_after_the_verb(
    vseam: Vseam, add_verb: Callable[..., None], arguments: tuple[str, ...], expected: list[str]
) -> None:
    def speak() -> None:
        logging.getLogger("vseam_core.x").info("detail")
        logging.getLogger("vseam_core.x").warning("mind")

    add_verb(speak)
    assert vseam(*arguments).stderr.splitlines() == expected
    assert not [handler for handler in logging.getLogger().handlers if type(handler) is logging.StreamHandler]


def test_a_log_file_that_cannot_be_written_is_the_users_error(vseam: Vseam) -> None:
    outcome = vseam("--log-file", "nowhere/vseam.log", "models")
    assert outcome.code == 2
    assert "vseam: --log-file nowhere/vseam.log: No such file or directory" in outcome.stderr


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -c 'from vseam_cli.main import main; main()' datasets --json"
    pipe = f"{command} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", pipe], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True)
    assert (run.stdout.strip(), run.stderr) == ("0", "")


def test_a_quiet_command_gives_the_root_logger_its_level_back(vseam: Vseam) -> None:
    before = logging.getLogger().level
    assert vseam("editors", "-q").code == 0
    assert logging.getLogger().level == before
