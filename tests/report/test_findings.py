"""Findings in sentences: each number is one of the tables', and what is not resolved says how much would resolve it."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.head_claims import FOUND_IN, smallest_effect
from vseam_core.analysis.heads import score_heads
from vseam_core.analysis.shared import OTHER_FORMS, LevelTest
from vseam_core.report.findings import study_findings
from vseam_core.report.findings.sample_sizes import images_for_strongest, samples_for_reliability
from vseam_core.report.findings.wording import number, percent, probability


def test_the_strongest_head_is_named_with_its_effect_interval_and_n(material):
    row = material.heads[0].claims.frame.query("layer == 2 and head == 5").iloc[0]
    text = next(finding.text for finding in study_findings(material) if "costs most" in finding.text)
    assert "L2H5" in text
    assert f"{number(row['support'])} nats [{number(row['low_support'])}, {number(row['high_support'])}]" in text
    assert f"n = {row['n_sampled']}" in text


def test_the_head_that_comes_next_is_named_so_that_a_narrow_lead_is_seen(material):
    frame = material.heads[0].claims.frame
    scan = material.heads[0]
    first, second = frame[frame["claim_positive"]].nlargest(2, "support").to_dict("records")
    text = next(finding.text for finding in study_findings(material) if "costs most" in finding.text)
    assert f"L{first['layer']}H{first['head']} by {scan.replaced_by}" in text
    assert f"; next L{second['layer']}H{second['head']}: {number(second['support'])})" in text


def test_there_are_at_most_ten_and_what_is_open_is_among_them(build_study):
    many = build_study(("instructblip-tiny", "llava-tiny"), ("animal", "indoor", "color", "action"), noise_only=("color", "action"))
    findings = study_findings(many)
    assert len(findings) <= 10
    assert any(finding.kind == "open" for finding in findings)
    assert all(finding.link.startswith("#") for finding in findings)


def test_noise_is_never_found(build_study):
    noise = build_study(("llava-tiny",), ("animal", "color"), noise_only=("animal", "color"))
    noise = dataclasses.replace(noise, traces=pd.DataFrame(), strongest=pd.DataFrame(), ablations=pd.DataFrame(), level_tests=[])
    findings = study_findings(noise)
    assert [finding.kind for finding in findings] == ["open"] * len(findings)
    assert findings
    assert "not resolved" in findings[0].text.lower() or "no head passes" in findings[0].text
    assert any("on 2 of 2 maps (n = 3 wrong answers, fewer than the 10 that it takes)" in finding.text for finding in findings)


def test_what_was_never_tested_is_not_said_to_have_failed_a_test(material):
    effects, gold = np.random.default_rng(0).normal(1, 0.1, size=(12, 6, 8)) * np.arange(48).reshape(6, 8), np.arange(12) < 6
    short = score_heads(effects, np.ones(12), np.arange(12) % 2, gold, np.arange(12), measure="logit_diff", seed=0)
    assert short.resolved_support
    heads = [dataclasses.replace(scan, claims=short) if scan.category == "indoor" else scan for scan in material.heads]
    text = " ".join(finding.text for finding in study_findings(dataclasses.replace(material, heads=heads)))
    assert "no head passes on" not in text
    lacks = "needs 10 images of each, has 6 with gold yes and 6 with gold no"
    assert f"Heads could not be tested, so that none passes, on instructblip-tiny indoor (n = 12; {lacks})." in text


def test_nothing_measured_is_nothing_found(material):
    names = ("accuracy", "traces", "bands", "strongest", "ablations", "modulations", "shared", "skips")
    nothing = dataclasses.replace(material, heads=[], level_tests=[], **dict.fromkeys(names, pd.DataFrame()))
    assert study_findings(nothing) == []


def test_a_token_sentence_gives_the_cell_of_the_other_half_of_images(material):
    cells = material.strongest.query("tracer == 'tokenwise' and direction == 'denoising' and measure == 'logit_diff' and rank == 1")
    text = next(finding.text for finding in study_findings(material) if "at one token" in finding.text)
    shares = [int(share) for share in re.findall(r"(\d+) % \[", text)]
    stored = {round(100 * value) for value in cells["normalised"].dropna()}
    assert shares
    assert set(shares) <= stored


def test_sharing_is_told_by_levels_first_with_the_form_of_the_question_and_what_every_task_shares(material):
    tests = [("instructblip-tiny", "positive", LevelTest(2.5, 1.0, 1.5, 0.01, 105, True, 7))]
    rows = material.shared.assign(q_value=[0.01, 0.01, 0.9][: len(material.shared)] + [None] * max(0, len(material.shared) - 3))
    rows["p_importance"] = [0.6, 0.01, 0.9][: len(rows)] + [None] * max(0, len(rows) - 3)
    rows["sign"] = "positive"

    def told(level_tests):
        findings = study_findings(dataclasses.replace(material, shared=rows, level_tests=level_tests))
        return next(finding for finding in findings if "tasks of one level" in finding.text)

    finding = told(tests)
    assert finding.text.startswith("instructblip-tiny: tasks of one level share more heads: 2.50 of their 2 strongest")
    assert "it can be the form that is shared" in finding.text
    # Two pairs beat heads permuted within layers; one of them only because of heads that matter in every task.
    assert re.search(r"\. 2 of \d+ pairs share more than heads permuted within layers do \(q < 0\.05\), 1 of them also", finding.text)
    across = dataclasses.replace(tests[0][2], reason=OTHER_FORMS)
    assert "only pairs that are asked in different forms count" in told([(*tests[0][:2], across)]).text
    assert "it can be the form" not in told([(*tests[0][:2], across)]).text
    alike = dataclasses.replace(tests[0][2], p_value=0.6)
    rows["p_importance"] = 0.6
    assert told([(*tests[0][:2], alike)]).kind == "open", "pairs that only share what all tasks share are no finding"


@pytest.mark.parametrize(("n", "reliability"), [(20, 0.5), (40, 0.62), (24, 0.2)])
def test_the_samples_that_a_reliability_needs_are_those_whose_simulated_maps_reach_it(n, reliability):
    needed = samples_for_reliability(n, reliability)
    assert needed is not None
    # One sample's map is true + noise; the reliability of a mean over n of them is var / (var + noise / n).
    noise = n * (1 - reliability) / reliability
    assert 1 / (1 + noise / needed) >= 0.7 > 1 / (1 + noise / (needed - 1))


def test_no_number_of_samples_mends_a_map_without_any_signal():
    assert samples_for_reliability(20, 0.0) is None
    assert samples_for_reliability(20, None) is None
    assert samples_for_reliability(20, 0.9) == 20


def test_the_images_that_the_strongest_head_needs_are_the_fewest_that_find_it(material):
    scores = material.heads[0].claims
    rows = scores.frame
    effect = np.nanmax(np.minimum(rows["support_yes"], rows["support_no"]) / (rows["se_support"] * np.sqrt(scores.n_sampled)))
    weak = dataclasses.replace(scores, frame=rows.assign(support_yes=rows["support_yes"] / 10, support_no=rows["support_no"] / 10))
    needed = images_for_strongest(weak, "positive")
    assert needed is not None
    found, one_less = (smallest_effect((count, count), 48) for count in (needed, needed - 1))
    assert found <= effect / 10 < one_less
    assert 0 < FOUND_IN < 1


def test_numbers_are_written_as_readers_read_them():
    assert (number(5.2345), number(-12.34), number(123.4)) == ("5.23", "−12.3", "123")
    assert percent(0.987, 0.9, 1.02) == "99 % [90, 102]"
    assert (probability("p", 0.0004), probability("q", 0.031)) == ("p < 0.001", "q = 0.031")
