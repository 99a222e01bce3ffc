"""The table of a screening: one row per kind of answer, with what was measured and nothing made up."""

from __future__ import annotations

import dataclasses

import numpy as np

from vseam_core.analysis.frames import nullable_frame
from vseam_core.analysis.heads import HEAD_COLUMNS
from vseam_core.analysis.screening import SCREENING_COLUMNS
from vseam_core.report.figures.head_maps import head_maps
from vseam_core.report.tables.closing import closing_tables
from vseam_core.report.tables.screening import screening_table
from vseam_core.report.tasks import study_tasks

CORRECT = {
    **{"subset": "correct", "n": 40, "heads": 24, "top": 8, "random": 3, "rank_correlation": 0.8, "rank_top": 0.5, "rank_random": 1.0},
    **{"scale": 0.4, "strongest": 2, "threshold": 1.5, "recall": 1.0, "recall_low": 0.2, "recall_high": 1.0},
    **{"vanished": "L1H2", "reason": "saturation: gradients vanish for 1 of 4 heads that matter, layer 1"},
}
WRONG = {**CORRECT, "subset": "wrong", "n": 3, "rank_correlation": None, "vanished": "", "reason": ""}


def screened(material, rows):
    frame = nullable_frame(rows, SCREENING_COLUMNS).assign(operation="resample", integrated_steps=4)
    labels = {"model": material.models[0], "dataset": material.datasets[0], "category": "color", "level": "attribute"}
    return dataclasses.replace(material, screenings=frame.assign(**labels))


def test_every_kind_of_answer_has_a_row_and_saturation_is_said_with_its_heads(material):
    table = screening_table(screened(material, [CORRECT, WRONG]))
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    assert [(row["answers"], row["n"], row["rank"], row["recall"], row["low"]) for row in rows] == [
        ("correct", 40, 0.8, 1.0, 0.2),
        ("wrong", 3, None, 1.0, 0.2),
    ]
    assert rows[0]["remark"] == "saturation: gradients vanish for 1 of 4 heads that matter, layer 1 (L1H2)"
    assert not rows[1]["remark"]
    assert "by = resample, steps = 4, heads = 24, top = 8, random = 3, strongest = 2" in table.notes[0]


def test_a_study_without_screening_has_no_such_table(material):
    assert screening_table(material) is None
    titles = [table.title for table in closing_tables(screened(material, [CORRECT]))]
    assert sum(title.startswith("Screening of heads") for title in titles) == 1
    assert not any(table.title.startswith("Screening") for table in closing_tables(material))


def test_a_map_with_heads_that_were_not_run_says_what_a_blank_is(material):
    scan = next(scan for scan in material.heads if scan.operation == "resample")
    frame = scan.claims.frame.copy()
    measured = [name for name in HEAD_COLUMNS if name.startswith(("mean_", "support", "q_", "p_"))]
    frame.loc[0, measured] = None
    partial = dataclasses.replace(scan, claims=dataclasses.replace(scan.claims, frame=frame))
    assert np.isnan(partial.claims.map("support")).sum() == 1
    said = []
    for each in (scan, partial):
        figure = head_maps([each], study_tasks(material), scan.model)
        said.append(" ".join(text.get_text().replace("\n", " ") for text in figure.texts))
    assert "Blank heads were not replaced" in said[1]
    assert "Blank heads" not in said[0]
