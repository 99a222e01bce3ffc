"""`vseam heads scan --method screen`, end to end on the embedded model."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Vseam

SCAN = ("heads", "scan", "--model", "llava-tiny", "--dataset", "scenes/color", "--limit", "12", "--operation", "resample")


@pytest.mark.timeout(120)
def test_a_screening_shows_its_agreement_in_the_table_and_in_json(vseam: Vseam) -> None:
    options = ("--method", "screen", "--screen-top", "5", "--integrated-steps", "1")
    shown = vseam(*SCAN, *options)
    assert shown.code == 0, shown.stderr
    assert "Screening of heads" in shown.stdout
    assert "steps = 1" in shown.stdout
    again = vseam(*SCAN, *options, "--json")
    tables = {table["title"]: table for table in json.loads(again.stdout)["tables"]}
    table = tables["Screening of heads: gradient estimates against exact runs"]
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert (row["answers"], row["n"]) == ("correct", 12)
    assert 0 <= row["low"] <= row["recall"] <= row["high"] <= 1
    assert -1 <= row["rank"] <= 1


def test_options_of_a_screening_are_refused_without_it(vseam: Vseam) -> None:
    outcome = vseam(*SCAN, "--screen-top", "5")
    assert outcome.code != 0
    assert "belong to method: screen" in outcome.stderr


def test_the_help_names_both_methods_with_an_example(vseam: Vseam) -> None:
    shown = vseam("heads", "scan", "--help").stdout
    assert "--method [exact|screen]" in shown
    assert "--method screen --screen-top 8" in shown
