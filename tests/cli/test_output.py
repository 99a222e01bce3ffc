"""What is printed where: tables and envelopes to stdout, progress and notes to stderr."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vseam_cli.column_widths import column_parts, column_widths
from vseam_cli.main import execute
from vseam_cli.options import given
from vseam_cli.output import LineProgress, Output, Table, cell, plain, visible


def test_a_result_is_a_table_without_json_and_an_envelope_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("head", "score"), [("L1H2", 0.12345), ("L10H2", None)], title="Heads")
    Output().result("heads/1", {"heads": [1]}, [table], "done")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "Heads"
    assert shown[1].split() == ["head", "score"]
    assert shown[3].split() == ["L1H2", "0.1235"]
    assert shown[4].split() == ["L10H2", "–"]
    assert shown[5] == "done"
    Output(json=True).result("heads/1", {"heads": [1]}, [table], "done")
    assert json.loads(capsys.readouterr().out) == {"schema": "vseam.heads/1", "heads": [1]}


def test_a_wide_table_is_not_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result("x/1", {}, [Table(("text",), [("word " * 200,)])])
    assert capsys.readouterr().out.count("word") == 200


def test_on_a_narrow_terminal_text_is_folded_between_words_and_numbers_never() -> None:
    numbers = ("score", "0.004785", "-12.5")
    words = ("what it does", "replaces the head by another image's activation")
    assert column_widths([numbers, words], 30) == [8, 19]
    assert column_widths([numbers, words], 100) == [8, 47]
    # "activation" and "0.004785" don't fit beside each other: lines are longer than the terminal, and cells are whole words.
    assert column_widths([numbers, words], 15) == [8, 26]
    assert column_widths([("path", "a" * 60)], 30) == [30]


def test_columns_without_room_stand_below_with_the_words_that_rows_begin_with() -> None:
    names, numbers = ("model", "llava-tiny"), ("score", "0.004785")
    assert column_parts([names, numbers, numbers, numbers], 1, 32) == [[0, 1, 2], [0, 3]]
    assert column_parts([names, numbers, numbers, numbers], 1, 80) == [[0, 1, 2, 3]]
    # One column beside the words stands there however narrow the room.
    assert column_parts([names, numbers, numbers], 1, 5) == [[0, 1], [0, 2]]


def test_no_line_of_a_wide_table_is_wider_than_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("model", "category", *(f"figure_{place}" for place in range(14)))
    rows = [("llava-tiny", name, *(1.2345 + place for place in range(14))) for name in ("animal", "color")]
    Output().result("x/1", {}, [Table(columns, rows, "Figures\nwhat they are", ["where they are from"])])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(len(re.findall(rf"\bfigure_{place}\b", shown)) == 1 for place in range(14))
    assert sum(line.split()[:2] == ["llava-tiny", "color"] for line in lines) == shown.count("model") > 1
    assert lines[-1] == "where they are from"


def test_a_person_reads_another_table_than_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("value", "low", "high"), [(1.0, 0.5, 1.5)], read=Table(("value", "95 %"), [(1.0, "0.5 to 1.5")]))
    Output().result("x/1", {}, [table])
    assert "0.5 to 1.5" in capsys.readouterr().out
    Output(form="csv").result("x/1", {}, [table])
    assert capsys.readouterr().out.splitlines() == ["value,low,high", "1.0,0.5,1.5"]


def test_a_command_in_a_cell_of_a_notebook_shows_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    with Output().progress() as progress:
        assert isinstance(progress, LineProgress)
    monkeypatch.delenv("JPY_PARENT_PID")
    with Output().progress() as progress:
        assert not isinstance(progress, LineProgress)


def test_markup_and_control_characters_in_data_are_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    Output().result("x/1", {}, [Table(("[bold]text",), [("[red]a[/red] \x1b[31mb\x07",)])])
    shown = capsys.readouterr().out
    assert "[bold]text" in shown
    assert "[red]a[/red]" in shown
    assert "\x1b" not in shown
    assert "\x07" not in shown


def test_json_holds_no_nan_and_no_numpy() -> None:
    data = {"a": np.float32(0.5), "b": np.array([1.0, np.nan]), "c": float("inf"), "d": Path("x"), "e": (1, True, None), "f": b"ab"}
    assert plain(data) == {"a": 0.5, "b": [1.0, None], "c": None, "d": "x", "e": [1, True, None], "f": "<2 bytes>"}


@pytest.mark.parametrize(
    ("value", "text"), [(True, "yes"), (3, "3"), (0.000123456, "0.0001235"), (float("nan"), "–"), (b"ab", "<2 bytes>")]
)
def test_a_cell_is_readable(value: object, text: str) -> None:
    assert cell(value) == text


def test_notes_go_to_stderr_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Output().note("12 samples skipped")
    Output(quiet=True).note("nothing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "12 samples skipped\n")


def test_progress_without_a_terminal_is_a_line_now_and_then_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    times: Iterator[float] = iter([0.0, 1.0, 9.0, 20.0, 21.0])
    with LineProgress(clock=lambda: next(times)).task("scanning", 100) as advance:
        for _ in range(4):
            advance(10)
    assert capsys.readouterr().err == "scanning: 30 of 100, 1:10 left\n"


def test_quiet_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(quiet=True).progress() as progress, progress.task("x", 2) as advance:
        advance(2)
        progress.note("nothing")
    assert capsys.readouterr().err == ""


def test_options_that_nobody_set_leave_the_study_as_it_is() -> None:
    assert given(models=(), datasets=[], seed=0, limit=None, editor="scenes") == {"seed": 0, "editor": "scenes"}


HOSTILE = "a\x1b[31mb\x07\x9bc\u202ed\u2066e\x7ff"


def test_no_output_holds_characters_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    output = Output(log_file=tmp_path / "log")
    output.start_logging()
    output.result("x/1", {}, [Table((HOSTILE,), [(HOSTILE,)], HOSTILE)], HOSTILE)
    output.note(HOSTILE)
    logging.getLogger("vseam_core").warning("%s", HOSTILE)
    output.stop_logging()
    execute([HOSTILE])
    execute(["datasets", "check", HOSTILE])
    shown = capsys.readouterr()
    assert visible(HOSTILE) == "a[31mbcdef"
    for text in (shown.out, shown.err, (tmp_path / "log").read_text()):
        assert "a[31mb" in text
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\x7f"} & set(text)


def test_json_keeps_such_characters_as_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    Output(json=True).result("x/1", {"text": HOSTILE})
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\x7f"} & set(shown)
    assert json.loads(shown)["text"] == HOSTILE


def test_there_is_one_place_that_prints() -> None:
    room = Path(str(importlib.import_module("vseam_cli").__file__)).parent
    printing = [file.name for file in room.glob("*.py") if re.search(r"click\.s?echo\(|(?<![\w.])print\(|print_exc", file.read_text())]
    assert printing == ["output.py"]
