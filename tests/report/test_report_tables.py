"""Closing tables: their values are the study's own, and what is not known is said."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from vseam_cli.output import cell
from vseam_core.analysis.ablation_tests import AgainstRandom
from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.shared import OTHER_FORMS, LevelTest
from vseam_core.evaluation.summary import summarise
from vseam_core.report.summaries import reasons_by_task
from vseam_core.report.tables.closing import closing_tables
from vseam_core.report.tables.table import ReportTable, table_of
from vseam_core.report.tasks import study_tasks

MODEL = "instructblip-tiny"


def table(material, start: str) -> ReportTable:
    found = [table for table in closing_tables(material) if table.title.startswith(start)]
    assert len(found) == 1, start
    return found[0]


def record(found: ReportTable, **values) -> dict:
    rows = [row for row in found.records() if all(row[name] == value for name, value in values.items())]
    assert rows, values
    return rows[0]


def test_a_whole_study_closes_with_every_table_in_reading_order(material):
    titles = [table.title for table in closing_tables(material)]
    starts = ["Accuracy", *STRONGEST, "Readings of lens", "Positive", "Negative", "Suppressors"]
    starts += ["Ablation of positive", "Ablation of negative", "Do tasks of one level", "Heads that tasks share"]
    starts += ["Head rescaling", "Highest head scores", "Skipped"]
    assert [title.startswith(start) for title, start in zip(titles, starts, strict=True)] == [True] * len(starts)
    shared_first = [table.title for table in closing_tables(material, "shared")]
    of_sharing = [title for title in titles if title.startswith(("Do tasks", "Heads that tasks"))]
    assert shared_first == of_sharing + [title for title in titles if title not in of_sharing]


def test_accuracy_of_every_category_and_split_is_the_summary_own(material):
    found = table(material, "Accuracy")
    assert [row["category"] for row in found.records()] == ["animal", "indoor", "color"]
    frame = material.accuracy.set_index(["category", "split"])
    row = record(found, category="indoor")
    assert (row["plain"], row["hard"]) == (frame.loc[("indoor", "plain"), "accuracy"], frame.loc[("indoor", "hard"), "accuracy"])
    low, high = frame.loc[("indoor", "hard"), ["low", "high"]]
    assert row["95 % hard"] == f"{low:.2f}–{high:.2f}"
    assert (row["pair"], row["pair hard"]) == tuple(frame.loc[("indoor", split), "pair_accuracy"] for split in ("plain", "hard"))
    assert row["yes"] == frame.loc[("indoor", "plain"), "yes_ratio"]
    assert row["majority"] == frame.loc[("indoor", "plain"), "majority_baseline"]


def test_where_all_answers_are_right_the_exact_binomial_interval_stands_in_the_table(material):
    frame = material.accuracy.copy()
    right = summarise(pd.DataFrame(_right_answers(20)), by=("model", "category", "split")).iloc[0]
    chosen = (frame["category"] == "indoor") & (frame["split"] == "plain")
    for name in ("accuracy", "standard_error", "low", "high", "reason"):
        frame.loc[chosen, name] = right[name]
    row = record(table(dataclasses.replace(material, accuracy=frame), "Accuracy"), category="indoor")
    # Clopper and Pearson's lower end where 20 of 20 are right.
    assert (row["plain"], row["95 % plain"]) == (1.0, f"{0.025 ** (1 / 20):.2f}–1.00")


def _right_answers(count: int) -> list[dict]:
    same = {"model": MODEL, "category": "indoor", "split": "plain", "form": "yes_no", "pair_role": "", "clean_identifier": None}
    same |= {"answer": "yes", "predicted": "yes", "score": 1.0, "correct": True}
    return [{**same, "identifier": str(index), "image_id": str(index)} for index in range(count)]


def test_the_strongest_cell_is_the_planted_one_with_the_estimate_of_the_other_half(material):
    row = record(table(material, "Strongest cells of tokenwise"), category="color", site="attention")
    assert (row["layer"], row["where"], row["n"]) == (2, "object word", 15)
    frame = material.strongest.query("dataset == 'scenes/color' and site_kind == 'attention_output' and rank == 1")
    expected = frame[(frame["direction"] == "denoising") & (frame["tracer"] == "tokenwise")].iloc[0]
    assert (row["nats"], row["low"], row["share"]) == (expected["mean"], expected["low"], expected["normalised"])
    assert row["share"] == pytest.approx(0.6, abs=0.03)


def test_cut_attention_has_a_table_in_nats_and_a_cut_in_all_layers_names_no_layer(material):
    found = table(material, "Strongest cells of knockout: what cutting attention")
    assert "share" not in found.columns
    each = record(found, category="color", site="attention cut in one window")
    frame = material.strongest.query("dataset == 'scenes/color' and site_kind == 'attention' and rank == 1").iloc[0]
    assert (each["layer"], each["where"]) == (1, frame["column_label"].replace("<-", " ← "))
    assert (each["nats"], each["low"], each["high"], each["n"]) == (frame["mean"], frame["low"], frame["high"], 15)
    everywhere = record(found, category="color", site="attention cut in all layers")
    assert everywhere["layer"] is None
    assert everywhere["nats"] == pytest.approx(-4, abs=0.1)


def test_readings_say_from_which_layer_on_the_two_images_are_apart(material):
    row = record(table(material, "Readings of lens"), category="animal", site="residual stream")
    cells = material.traces.query(
        "dataset == 'scenes/animal' and tracer == 'lens' and site_kind == 'residual_after' and subset == 'all'"
    ).set_index(["direction", "layer"])
    apart = [cells.loc[("clean", layer), "low"] > cells.loc[("corrupt", layer), "high"] for layer in range(-1, 6)]
    assert row["apart from"] == max(layer for layer in range(-1, 6) if not apart[layer + 1]) + 1 == 3
    gaps = {layer: cells.loc[("clean", layer), "mean"] - cells.loc[("corrupt", layer), "mean"] for layer in range(-1, 6)}
    assert row["layer"] == max(gaps, key=gaps.get) == 5
    assert (row["clean nats"], row["corrupt nats"]) == (cells.loc[("clean", 5), "mean"], cells.loc[("corrupt", 5), "mean"])
    assert row["n"] == 30


def test_readings_that_touch_at_the_last_layer_are_nowhere_apart(material):
    wide = material.traces.copy()
    wide.loc[(wide["tracer"] == "lens") & (wide["layer"] == 5), "low"] = -99.0
    rows = table(dataclasses.replace(material, traces=wide), "Readings of lens").records()
    assert all(row.get("apart from") is None for row in rows)


def test_all_positions_together_are_a_check_and_never_a_strongest_cell(material):
    first = material.strongest.copy()
    first.loc[first["column_label"] == "all", "rank"] = 0
    rows = table(dataclasses.replace(material, strongest=first), "Strongest cells of groups").records()
    assert [row["where"] for row in rows]
    assert {row["where"] for row in rows} <= {"image", "question", "template", "last position"}


def test_what_cannot_be_tested_at_this_size_is_said_once_with_what_it_needs_and_has_no_row(material):
    effects, gold = np.random.default_rng(0).normal(size=(30, 6, 8)), np.arange(30) < 24
    short = score_heads(effects, np.ones(30), np.arange(30) % 2, gold, np.arange(30), measure="logit_diff", seed=0)
    heads = [dataclasses.replace(scan, claims=short) if scan.category in ("indoor", "color") else scan for scan in material.heads]
    found = table(dataclasses.replace(material, heads=heads), "Positive heads")
    assert {row["category"] for row in found.records()} == {"animal"}
    lacks = "needs 10 images of each, has 24 with gold yes and 6 with gold no"
    said = [note for note in found.notes if "annot be tested" in note]
    assert said == [f"Cannot be tested at this size: {MODEL} indoor ({lacks}); {MODEL} color ({lacks})."]


def test_a_cell_of_skewed_effects_is_flagged(material):
    skewed = dataclasses.replace(material, strongest=material.strongest.assign(irregular=True, below_noise_floor=False))
    remark = record(table(skewed, "Strongest cells of tokenwise"), category="color", site="attention")["remark"]
    assert remark == "skewed: the interval may be too narrow"


def test_a_cell_below_the_noise_floor_is_never_passed_off_as_a_finding(material):
    quiet = material.strongest.assign(below_noise_floor=True)
    assert {row["remark"] for row in table(dataclasses.replace(material, strongest=quiet), "Strongest cells of tokenwise").records()} == {
        "below 3 × noise floor"
    }


def test_pairs_too_few_for_two_halves_still_have_a_table_that_calls_nothing_a_finding(material):
    few = dataclasses.replace(material, strongest=material.strongest.iloc[:0])
    row = record(table(few, "Strongest cells of tokenwise"), category="color", site="attention")
    cells = material.traces.query(
        "dataset == 'scenes/color' and tracer == 'tokenwise' and site_kind == 'attention_output' and direction == 'denoising'"
        " and measure == 'logit_diff' and subset == 'all'"
    )
    largest = cells.loc[cells["mean"].abs().idxmax()]
    assert (row["layer"], row["nats"], row["n"]) == (largest["layer"], largest["mean"], 30)
    assert row["remark"] == "too few images to choose on others: no finding"


def test_a_selected_cell_that_the_other_half_lacks_has_no_value_and_says_so(material):
    lost = material.strongest.copy()
    lost.loc[:, "n"] = 0
    lost.loc[:, ["mean", "low", "high", "normalised"]] = pd.NA
    rows = table(dataclasses.replace(material, strongest=lost), "Strongest cells of tokenwise").records()
    assert {row["remark"] for row in rows} == {"not in the other half of the images"}
    assert "nats" not in rows[0]


def test_the_planted_head_leads_with_interval_and_q_of_the_scores(material):
    row = record(table(material, "Positive"), category="animal")
    frame = material.heads[0].claims.frame.query("layer == 2 and head == 5").iloc[0]
    assert row["head"] == "L2H5"
    assert (row["nats"], row["low"], row["high"], row["q"]) == tuple(
        frame[name] for name in ("support", "low_support", "high_support", "q_positive")
    )
    assert row["remark"] == "2 heads pass"


def test_a_map_of_noise_names_no_head_but_says_that_it_is_not_resolved(material):
    row = record(table(material, "Positive"), category="color")
    assert row["head"] is None
    assert row["nats"] is None
    assert row["remark"].startswith("answers not resolved at n = 90")
    assert "no head passes: 45 + 45 images find an effect of 0.52 SD in 80 % of cases" in row["remark"]


def test_three_wrong_answers_are_too_few_for_negative_heads(material):
    row = record(table(material, "Negative"), category="color")
    assert (row["head"], row["n"], row["remark"]) == (None, 3, "too few wrong answers (3 < 10)")


def test_a_negative_head_is_named_with_its_rise_on_wrong_answers(material):
    row = record(table(material, "Negative"), category="animal")
    assert row["head"] == "L4H1"
    assert row["nats"] == pytest.approx(-1.0, abs=0.3)


def test_the_p_of_an_ablation_counts_random_sets_that_do_at_least_as_much():
    assert AgainstRandom(0.2, (0.1, 0.2, 0.3, 0.0) * 5).p_value == pytest.approx((1 + 10) / (1 + 20))
    assert AgainstRandom(0.2, (0.1,) * 18).p_value is None
    assert AgainstRandom(0.2, (0.1, 0.2, 0.3, 0.0)).mean_random == pytest.approx(0.15)
    assert AgainstRandom(0.2, ()).p_value is None


def test_ablating_positive_heads_shows_the_drop_beside_that_of_random_sets(material):
    row = record(table(material, "Ablation of positive"), category="animal", by="resample")
    frame = material.ablations.query("dataset == 'scenes/animal' and sign == 'positive' and operation == 'resample'")
    random = frame.loc[frame["condition"] == "random", "drop"]
    assert row["drop"] == frame.loc[frame["condition"] == "selected", "drop"].iloc[0] == 0.25
    assert row["±"] == 0.06, "the error over images stands beside the drop"
    assert row["random"] == pytest.approx(random.mean())
    assert row["p"] == pytest.approx(1 / 100)


def test_ablation_without_random_sets_has_no_p(material):
    row = record(table(material, "Ablation of positive"), category="animal", by="zero")
    assert (row["random"], row["p"]) == (None, None)


def test_ablating_negative_heads_is_judged_by_the_gain_in_pair_accuracy(material):
    found = table(material, "Ablation of negative")
    row = record(found, category="animal")
    frame = material.ablations.query("dataset == 'scenes/animal' and sign == 'negative'").set_index("condition")
    assert row["gain"] == pytest.approx(frame.loc["selected", "pair_accuracy"] - frame.loc["base", "pair_accuracy"])
    assert row["gain"] > 0
    assert "pair accuracy rises" in " ".join(found.notes)


def test_heads_that_pass_no_claim_are_ablated_as_exploration(material):
    assert record(table(material, "Ablation of positive"), category="color")["remark"] == "exploratory"


def test_heads_that_pass_their_claim_are_not_called_exploratory(material):
    claimed = material.ablations.copy()
    claimed["heads"] = [["L2H5"] if row.condition == "selected" else row.heads for row in claimed.itertuples()]
    row = record(table(dataclasses.replace(material, ablations=claimed), "Ablation of positive"), category="animal")
    assert row["remark"] == ""


def test_shared_heads_stand_beside_chance_and_ceiling_and_null_pairs_have_a_reason(material):
    found = table(material, "Heads that tasks share")
    expected = material.shared.query("first == 'scenes/animal' and second == 'scenes/indoor' and sign == 'positive'").iloc[0]
    row = record(found, first="animal", second="indoor", sign="positive")
    assert (row["overlap"], row["chance"], row["ceiling"]) == tuple(expected[name] for name in ("overlap", "expected_overlap", "ceiling"))
    assert (row["p"], row["q"]) == (expected["p_value"], expected["q_value"])
    assert record(found, first=None, sign="negative")["remark"] == "2 of 3 pairs null"
    assert f"Null: {MODEL}, negative: color: too few wrong answers (3 < 10)." in found.notes


def test_reasons_of_null_pairs_are_told_once_with_the_tasks_they_are_about():
    rows = [
        {"first": "a", "second": "b", "reason": "a: 1 of 2 heads pass; not resolved; b: too few"},
        {"first": "a", "second": "c", "reason": "c: too few"},
        {"first": "b", "second": "c", "reason": "k = 9 is more than a tenth of 48 heads"},
    ]
    assert reasons_by_task(rows) == {
        "1 of 2 heads pass; not resolved": ["a"],
        "too few": ["b", "c"],
        "k = 9 is more than a tenth of 48 heads": [],
    }


def test_the_level_test_is_reported_or_says_why_there_is_none(material):
    found = table(material, "Do tasks of one level")
    for row, (_, sign, test) in zip(found.records(), material.level_tests, strict=True):
        assert row["sign"] == sign
        assert row.get("difference") == test.difference
        assert row["remark"] == test.reason


def test_a_level_test_says_whether_the_form_of_the_question_is_told_apart(material):
    test = LevelTest(2.5, 1.0, 1.5, 0.01, 105, True, 7)
    for reason, said, unsaid in (
        ("", "can be due to the form", "is not the form"),
        (OTHER_FORMS, "is not the form", "can be due to the form"),
    ):
        tests = [("instructblip-tiny", "positive", dataclasses.replace(test, reason=reason))]
        notes = " ".join(table(dataclasses.replace(material, level_tests=tests), "Do tasks of one level").notes)
        assert said in notes
        assert unsaid not in notes


def test_the_gain_of_rescaling_stands_beside_every_control(material):
    found = table(material, "Head rescaling")
    row = record(found, category="indoor", split="hard")
    frame = material.modulations.query("dataset == 'scenes/indoor' and evaluated_on == 'scenes/indoor/test/hard'").set_index("role")
    fitted = frame.loc["fitted"]
    assert (row["gain"], row["p"], row["base"]) == tuple(fitted[name] for name in ("gain", "p_value", "base_accuracy"))
    assert row["±"] == fitted["gain_high"] - fitted["gain"]
    assert (row["bias"], row["published"]) == (frame.loc["bias", "gain"], frame.loc["published", "gain"])
    shuffled = [frame.loc[f"shuffled {index}", "gain"] for index in range(3)]
    assert row["shuffled"] == pytest.approx(np.mean(shuffled))
    assert row["transfer"] == -0.01
    assert any(note.startswith("Exploratory") and f"{MODEL} color" in note for note in found.notes)


def test_a_loss_by_rescaling_keeps_its_sign(material):
    losing = material.modulations.copy()
    losing.loc[losing["role"] == "fitted", "gain"] = -0.07
    assert {row["gain"] for row in table(dataclasses.replace(material, modulations=losing), "Head rescaling").records()} == {-0.07}


def test_a_control_that_was_not_measured_is_unknown_and_not_zero(material):
    kept = material.modulations[~material.modulations["role"].isin(["bias"])]
    partial = pd.concat([kept, material.modulations.query("role == 'bias' and dataset == 'scenes/animal'")], ignore_index=True)
    found = table(dataclasses.replace(material, modulations=partial), "Head rescaling")
    assert record(found, category="indoor")["bias"] is None
    assert record(found, category="animal")["bias"] is not None


def test_published_scores_rank_the_planted_head_and_claim_nothing(material):
    found = table(material, "Highest head scores")
    row = record(found, category="animal")
    published = material.heads[1].published
    assert row["positive"] == "L2H5"
    assert row["positive score"] == pytest.approx(published.map("positive")[2, 5])
    assert record(found, category="color")["negative"] is None
    assert not {"q", "p", "low"} & set(found.columns)


def test_skips_are_counted_by_reason_each_sample_once(material):
    row = record(table(material, "Skipped"), reason="the image cannot be read")
    assert (row["samples"], row["times"], row["first"]) == (2, 4, "scenes/animal/score/plain/7")


def test_every_cell_is_a_plain_value_and_unknown_ones_are_none(material):
    for found in closing_tables(material):
        for row in found.rows:
            assert all(value is None or type(value) in (str, int, float, bool) for value in row), found.title
        json.dumps(found.records(), allow_nan=False)


def test_tables_fit_a_terminal_of_120_columns_but_for_remarks(material):
    for found in closing_tables(material):
        widths = [
            max(len(name), *(len(cell(row[index])) for row in found.rows))
            for index, name in enumerate(found.columns)
            if name not in ("remark", "reason", "first") or found.title.startswith("Heads that")
        ]
        assert sum(widths) + 3 * (len(widths) - 1) <= 120, found.title


STRONGEST = [f"Strongest cells of {name}" for name in ("tokenwise", "groups", "regions", "knockout")]
STAGES = {
    "accuracy": ["accuracy"],
    "traces": ["traces", "bands", "strongest"],
    "heads": ["heads"],
    "ablations": ["ablations"],
    "shared": ["shared", "level_tests"],
    "modulations": ["modulations"],
    "skips": ["skips"],
}


@pytest.mark.parametrize(("stage", "count"), [("accuracy", 1), ("traces", 5), ("heads", 4), ("ablations", 2), ("shared", 2)])
def test_a_study_of_one_stage_closes_with_that_stage_alone(material, stage, count):
    changes = {name: [] if name in ("heads", "level_tests") else pd.DataFrame() for names in STAGES.values() for name in names}
    for name in STAGES[stage]:
        del changes[name]
    assert len(closing_tables(dataclasses.replace(material, **changes))) == count


def test_two_datasets_of_one_category_are_named_apart(material):
    scan = dataclasses.replace(material.heads[0], dataset="skewed/animal")
    both = dataclasses.replace(material, datasets=(*material.datasets, "skewed/animal"), heads=[*material.heads, scan])
    assert [task.label for task in study_tasks(both)] == ["scenes/animal", "indoor", "skewed/animal", "color"]


def test_a_column_that_says_the_same_everywhere_becomes_a_note():
    made = table_of("t", ("a", "k", "empty"), [{"a": 1, "k": 2}, {"a": 3, "k": 2}], "read it", "", folded=("k",))
    assert made == ReportTable("t", ("a",), ((1,), (3,)), ("In every row: k = 2.", "read it"))


def test_tables_need_no_matplotlib():
    code = "import sys, vseam_core.report.tables.closing; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
