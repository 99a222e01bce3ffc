"""`--csv`, `--markdown` and `--latex`: every table of a result for other programs, with the same values."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from vseam_cli.main import execute
from vseam_cli.output import Table, cell
from vseam_cli.table_formats import FORMATS, written
from vseam_core.store import open_store

VALUES = Table(("head", "nats", "n"), [("L4H5", 1 / 3, 20), ("50 % & more_", None, 7)], "Heads\nof one task")


def test_csv_holds_every_number_at_full_precision() -> None:
    lines = written([VALUES], "csv", cell).splitlines()
    assert lines[:2] == ["# Heads", "# of one task"]
    rows = list(csv.reader(io.StringIO("\n".join(lines[2:]))))
    assert rows == [["head", "nats", "n"], ["L4H5", repr(1 / 3), "20"], ["50 % & more_", "", "7"]]
    assert float(rows[1][1]) == 1 / 3


def test_markdown_has_a_rule_and_aligns_numbers_to_the_right() -> None:
    lines = written([VALUES], "markdown", cell).splitlines()
    assert lines[0] == "**Heads**"
    heading, rule, first, second = lines[-4:]
    assert [line.count("|") for line in (heading, rule, first, second)] == [4, 4, 4, 4]
    assert [part[-1] for part in rule.split("|")[1:-1]] == ["-", ":", ":"]
    assert "0.3333" in first
    assert "–" in second


def test_latex_is_a_booktabs_table_with_its_signs_escaped() -> None:
    text = written([VALUES], "latex", cell)
    assert text.startswith("% Heads\n% of one task\n\\begin{tabular}")
    assert r"50 \% \& more\_" in text
    assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1


def test_several_tables_are_parted_by_an_empty_line() -> None:
    assert written([VALUES, VALUES], "csv", cell).count("\n\n# Heads") == 1


@pytest.mark.parametrize("form", FORMATS)
def test_a_query_prints_its_rows_in_each_form(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = tmp_path / "results.db"
    open_store(database).close()
    assert execute(["query", "SELECT 0.1 + 0.2 AS total, NULL AS unknown", "--db", str(database), f"--{form}"]) == 0
    printed = capsys.readouterr().out
    assert "total" in printed
    assert ("0.30000000000000004" if form == "csv" else "0.3") in printed
    assert {"csv": "total,unknown", "markdown": "|--", "latex": r"\toprule"}[form] in printed
