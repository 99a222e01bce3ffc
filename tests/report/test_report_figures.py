"""Figures of the report: what is drawn is what the tables hold, and what is not known is not drawn as zero."""

from __future__ import annotations

import dataclasses

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import FillBetweenPolyCollection, PatchCollection
from matplotlib.figure import Figure

from vseam_core.report.figures.controls import ablation_histograms, rescaling_gains
from vseam_core.report.figures.curves import effect_curves, readout_curves
from vseam_core.report.figures.drawing import caption_of, pages, save_figure, title_of
from vseam_core.report.figures.head_maps import head_maps, published_head_maps
from vseam_core.report.figures.heat_maps import role_map, token_heat_maps, token_heat_page
from vseam_core.report.figures.overlap import overlap_matrices
from vseam_core.report.tasks import Task, study_tasks
from vseam_core.report.traced import Traced, traced

MODEL = "instructblip-tiny"
NO_BANDS = pd.DataFrame()


@pytest.fixture(scope="module")
def tasks(material) -> list[Task]:
    return study_tasks(material)


def effects_of(material, tracer: str, traces: pd.DataFrame | None = None) -> Traced:
    """What the report shows of one tracer."""
    found = traced(material.traces if traces is None else traces, material.presentations, MODEL)
    return next(each for each in found if each.tracer == tracer)


def panels_of(figure: Figure) -> list:
    """The axes that are not colour bars, row by row."""
    return [axes for axes in figure.axes if axes.get_subplotspec() is not None]


def words_in(axes) -> str:
    texts = [axes.get_title(loc="left"), axes.get_title(loc="right"), axes.get_xlabel(), axes.get_ylabel()]
    return " ".join(" ".join([*texts, *(text.get_text() for text in axes.texts)]).split())


def assert_not_blank(figure: Figure) -> None:
    """Every panel holds more than its background."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    height = pixels.shape[0]
    for axes in figure.axes:
        if axes.get_visible():
            box = axes.get_window_extent()
            part = pixels[int(height - box.y1) : int(height - box.y0), int(box.x0) : int(box.x1)]
            assert part.std() > 1, axes.get_title(loc="left")


def cells(material, dataset: str, **values) -> pd.DataFrame:
    frame = material.traces.query("dataset == @dataset")
    for name, value in {"tracer": "tokenwise", "direction": "denoising", "subset": "all", **values}.items():
        frame = frame[frame[name] == value]
    return frame


def test_the_page_of_heat_maps_has_sites_by_tasks_with_levels_and_units(material, tasks):
    figure = token_heat_page(effects_of(material, "tokenwise"), material.bands, tasks)
    panels = panels_of(figure)
    assert len(panels) == 2 * 3
    assert [panel.get_title(loc="left").split("\n")[0] for panel in panels[:3]] == ["animal", "indoor", "color"]
    assert "object level" in words_in(panels[0])
    assert "attribute level" in words_in(panels[2])
    assert "n = 30 pairs" in words_in(panels[0])
    assert panels[0].get_ylabel() == "attention output"
    assert panels[3].get_ylabel() == "MLP output"
    assert panels[3].get_xlabel() == "layer"
    assert any("(%)" in axes.get_ylabel() for axes in figure.axes if axes not in panels)
    assert_not_blank(figure)


def test_a_heat_map_shows_the_tables_shares_on_a_scale_centred_at_zero(material, tasks):
    figure = token_heat_page(effects_of(material, "tokenwise"), material.bands, tasks)
    image = panels_of(figure)[0].images[0]
    row = cells(material, "scenes/animal", site_kind="attention_output", column_label="object", layer=2).iloc[0]
    labels = [label.get_text() for label in panels_of(figure)[0].get_yticklabels()]
    assert image.get_array()[labels.index("object word"), 2] == pytest.approx(100 * row["normalised"])
    low, high = image.get_clim()
    assert low == -high
    assert high >= 100 * row["normalised"]


def test_an_unknown_share_is_masked_and_not_zero(material, tasks):
    traces = material.traces.copy()
    unknown = (traces["dataset"] == "scenes/animal") & (traces["column_label"] == "object")
    traces.loc[unknown, "normalised"] = pd.NA
    missing = (traces["dataset"] == "scenes/indoor") & (traces["column_label"] == "attribute") & (traces["tracer"] == "tokenwise")
    figure = token_heat_page(effects_of(material, "tokenwise", traces[~missing]), NO_BANDS, tasks)
    first, second = panels_of(figure)[:2]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert first.images[0].get_array().mask[labels.index("object word")].all()
    assert second.images[0].get_array().mask[labels.index("attribute word")].all()
    assert not first.images[0].get_array().mask[labels.index("last position")].any()


def test_cells_below_the_noise_or_of_few_images_are_hatched(material, tasks):
    rows = cells(material, "scenes/animal", site_kind="attention_output")
    roles, layers = rows["column_label"].drop_duplicates().tolist(), list(range(6))
    found = role_map(rows, NO_BANDS, roles, layers)
    assert found.doubtful[roles.index("structural_before")].all()
    assert not found.doubtful[roles.index("object"), 2]
    assert role_map(rows.assign(clusters=9), NO_BANDS, roles, layers).doubtful.all()
    panel = panels_of(token_heat_maps(effects_of(material, "tokenwise"), NO_BANDS, tasks[0]))[0]
    hatched = [part for part in panel.collections if isinstance(part, PatchCollection) and part.get_hatch()]
    assert len(hatched[0].get_paths()) == found.doubtful.sum()


def test_cells_that_leave_the_range_of_random_models_are_dotted(material, tasks):
    rows = cells(material, "scenes/animal", site_kind="attention_output").assign(subset="random_pairs")
    bands = rows.assign(band_low=-0.3, band_high=0.3, models=5)
    traces = pd.concat([material.traces, rows])
    figure = token_heat_page(effects_of(material, "tokenwise", traces), bands, tasks)
    dots = panels_of(figure)[0].lines[0]
    labels = [label.get_text() for label in panels_of(figure)[0].get_yticklabels()]
    assert list(zip(dots.get_xdata(), dots.get_ydata(), strict=True)) == [(2, labels.index("object word"))]
    assert "5 randomly initialised models" in caption_of(figure)


def test_the_map_of_one_task_shows_flipped_pairs_and_noising_too_with_counts(material, tasks):
    figure = token_heat_maps(effects_of(material, "tokenwise"), material.bands, tasks[0])
    panels = panels_of(figure)
    assert len(panels) == 3 * 2
    assert "flipped pairs" in words_in(panels[2])
    assert "corrupt into clean" in words_in(panels[4])
    assert "object word (30)" in [label.get_text() for label in panels[0].get_yticklabels()]
    assert "object word (24)" in [label.get_text() for label in panels[2].get_yticklabels()]
    assert "60" in [text.get_text() for text in panels[0].texts] or "59" in [text.get_text() for text in panels[0].texts]
    assert "-0" not in [text.get_text() for panel in panels for text in panel.texts]
    assert_not_blank(figure)


def test_group_curves_start_at_the_embeddings_and_lie_over_the_band_of_random_models(material, tasks):
    figure = effect_curves(effects_of(material, "groups"), material.bands, tasks)
    panels = panels_of(figure)
    assert len(panels) == 4 * 3
    panel = panels[0]
    assert panel.get_ylabel() == "image\nrestored (%)"
    assert panels[-1].get_xticklabels()[0].get_text() == "emb"
    rows = cells(material, "scenes/animal", tracer="groups", measure="logit_diff", column_label="image").sort_values("layer")
    curve = next(line for line in panel.lines if line.get_label() == "all pairs")
    np.testing.assert_allclose(curve.get_ydata(), 100 * rows["normalised"].to_numpy(dtype=float))
    assert list(curve.get_xdata()) == [-1, 0, 1, 2, 3, 4, 5]
    band = next(part for part in panel.collections if part.get_label() == "random models")
    limits = material.bands.query("dataset == 'scenes/animal' and column_label == 'image' and measure == 'logit_diff'")
    corners = [tuple(corner) for corner in band.get_paths()[0].vertices.round(6)]
    for row in limits.itertuples():
        assert (row.layer, round(100 * row.band_low, 6)) in corners
        assert (row.layer, round(100 * row.band_high, 6)) in corners
    # Beside the range stands the model itself on the same ten pairs, and not only on all thirty.
    own = material.traces.query("dataset == 'scenes/animal' and column_label == 'image' and subset == 'random_pairs'")
    own = own[(own["measure"] == "logit_diff") & (own["direction"] == "denoising")].sort_values("layer")
    dotted = next(line for line in panel.lines if line.get_label() == "same pairs")
    np.testing.assert_allclose(dotted.get_ydata(), 100 * own["normalised"].to_numpy(dtype=float))
    assert set(own["n"]) == {10}
    assert "on the same 10 pairs" in caption_of(figure)
    assert "whatever its weights" in caption_of(figure)
    assert "100.00 to 100.00 %" in caption_of(figure)
    assert_not_blank(figure)


def test_curves_without_random_models_say_that_they_have_nothing_to_beat(material, tasks):
    figure = effect_curves(effects_of(material, "groups"), NO_BANDS, tasks[:1])
    assert "nothing to beat" in caption_of(figure)
    fills = [part for part in panels_of(figure)[0].collections if isinstance(part, FillBetweenPolyCollection)]
    assert len(fills) == 1


def test_a_layer_without_a_share_is_a_gap_in_the_curve(material, tasks):
    traces = material.traces.copy()
    traces.loc[(traces["layer"] == 2) & (traces["tracer"] == "groups"), ["normalised", "normalised_low", "normalised_high"]] = pd.NA
    figure = effect_curves(effects_of(material, "groups", traces), material.bands, tasks[:1])
    curve = next(line for line in panels_of(figure)[0].lines if line.get_label() == "all pairs")
    assert np.isnan(curve.get_ydata()[3])
    assert np.isfinite(curve.get_ydata()[[0, 1, 2, 4, 5, 6]]).all()


def test_a_group_that_one_prompt_lacks_says_so(material, tasks):
    traces = material.traces
    missing = (traces["dataset"] == "scenes/color") & (traces["column_label"] == "template") & (traces["tracer"] == "groups")
    panels = panels_of(effect_curves(effects_of(material, "groups", traces[~missing]), material.bands, tasks[1:]))
    assert "no such positions" in words_in(panels[2 * 2 + 1])


def test_region_curves_show_the_edited_region_beside_the_rest_and_a_random_one(material, tasks):
    figure = effect_curves(effects_of(material, "regions"), material.bands, tasks)
    panels = panels_of(figure)
    assert [panel.get_ylabel().split("\n")[0] for panel in panels[::3]] == ["edited region", "rest of the image", "random region"]
    assert "random region of the same size" in caption_of(figure)
    assert_not_blank(figure)


def test_cut_edges_are_curves_in_nats_with_the_cut_in_all_layers_as_a_level_line(material, tasks):
    figure = effect_curves(effects_of(material, "knockout"), NO_BANDS, tasks)
    panels = panels_of(figure)
    assert [panel.get_ylabel() for panel in panels[::3]] == ["last ← image\nchange (nats)", "last ← question\nchange (nats)"]
    rows = cells(material, "scenes/animal", tracer="knockout", direction="clean", column_label="last<-image")
    curve = next(line for line in panels[0].lines if line.get_label() == "all pairs")
    each = rows[rows["site_kind"] == "attention"].sort_values("layer")
    np.testing.assert_allclose(curve.get_ydata(), each["mean"].to_numpy(dtype=float))
    everywhere = rows[rows["site_kind"] == "attention_all_layers"]["mean"].iloc[0]
    assert any(list(line.get_ydata()) == [everywhere, everywhere] for line in panels[0].lines)
    assert [label.get_text() for label in panels[-1].get_xticklabels()] == ["0", "1", "2", "3", "4", "5"]
    low, high = panels[0].get_ylim()
    assert low < rows["mean"].min()
    assert high > 0
    assert_not_blank(figure)


def test_readings_are_drawn_as_they_were_read_a_line_for_each_run(material, tasks):
    figure = readout_curves(effects_of(material, "lens"), tasks)
    panels = panels_of(figure)
    assert [panel.get_ylabel() for panel in panels[::3]] == ["added by attention\n(nats)", "residual stream\n(nats)"]
    curves = [line for line in panels[3].lines if line.get_label() == "all pairs"]
    for curve, run in zip(curves, ("clean", "corrupt"), strict=True):
        rows = cells(material, "scenes/animal", tracer="lens", direction=run, site_kind="residual_after", measure="logit_diff")
        np.testing.assert_allclose(curve.get_ydata(), rows.sort_values("layer")["mean"].to_numpy(dtype=float))
    assert panels[-1].get_xticklabels()[0].get_text() == "emb"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["clean image", "corrupt image"]
    assert_not_blank(figure)


def test_a_tracer_that_declares_nothing_is_drawn_by_its_columns_under_its_own_name(material, tasks):
    unknown = dataclasses.replace(material, presentations={})
    assert {found.tracer: found.view for found in traced(unknown.traces, {}, MODEL)} == {
        "tokenwise": "map",
        "groups": "curve",
        "regions": "curve",
        "knockout": "curve",
        "lens": "map",
    }
    figure = effect_curves(effects_of(unknown, "regions"), NO_BANDS, tasks)
    assert title_of(figure) == f"{MODEL}: what regions finds"
    assert [panel.get_ylabel().split("\n")[0] for panel in panels_of(figure)[::3]] == ["region", "complement", "random"]
    assert "change in nats" in [axes.get_ylabel() for axes in token_heat_page(effects_of(unknown, "lens"), NO_BANDS, tasks).axes]


def test_effects_without_a_measure_in_nats_are_shown_as_they_were_measured(material, tasks):
    traces = material.traces[material.traces["measure"] == "prob_sum"]
    figure = effect_curves(effects_of(material, "groups", traces), NO_BANDS, tasks)
    assert panels_of(figure)[0].get_ylabel() == "image\nchange (probability)"
    curve = next(line for line in panels_of(figure)[0].lines if line.get_label() == "all pairs")
    rows = cells(material, "scenes/animal", tracer="groups", measure="prob_sum", column_label="image").sort_values("layer")
    np.testing.assert_allclose(curve.get_ydata(), rows["mean"].to_numpy(dtype=float))


def test_head_maps_ring_the_heads_that_pass_and_label_what_is_not_resolved(material, tasks):
    maps = [scan for scan in material.heads if scan.operation == "resample"]
    figure = head_maps(maps, tasks, MODEL)
    panels = panels_of(figure)
    assert len(panels) == 2 * 3
    rings = panels[0].lines[0]
    claims = maps[0].claims
    passing = claims.frame[claims.frame["claim_positive"]]
    assert sorted(zip(rings.get_xdata(), rings.get_ydata(), strict=True)) == list(zip(passing["layer"], passing["head"], strict=True))
    assert (2, 5) in list(zip(rings.get_xdata(), rings.get_ydata(), strict=True))
    np.testing.assert_allclose(panels[0].images[0].get_array(), claims.map("support").T)
    assert "not resolved at n = 90" in words_in(panels[2])
    assert len(panels[2].lines[0].get_xdata()) == 0
    assert "too few wrong answers (3 < 10)" in words_in(panels[5])
    assert not panels[5].images
    assert [axes.get_ylabel() for axes in figure.axes if axes not in panels] == ["base − replaced (nats)"] * 2
    assert_not_blank(figure)


def test_a_claim_on_a_map_that_is_not_resolved_gets_no_ring(material, tasks):
    scan = material.heads[0]
    shaky = dataclasses.replace(scan, claims=dataclasses.replace(scan.claims, resolved_support=False))
    panel = panels_of(head_maps([shaky], tasks[:1], MODEL))[0]
    assert len(panel.lines[0].get_xdata()) == 0
    assert "not resolved at n = 90" in words_in(panel)


def test_a_map_with_too_few_images_of_one_gold_answer_says_that_it_is_not_tested(material, tasks):
    scan = material.heads[0]
    frame = scan.claims.frame.assign(claim_positive=False)
    frame["p_positive"] = pd.array([None] * len(frame), dtype="Float64")
    untested = dataclasses.replace(scan, claims=dataclasses.replace(scan.claims, frame=frame))
    assert "n = 90, not tested" in words_in(panels_of(head_maps([untested], tasks[:1], MODEL))[0])


def test_published_scores_are_shown_without_any_claim(material, tasks):
    maps = [scan for scan in material.heads if scan.published is not None]
    figure = published_head_maps(maps, tasks, MODEL)
    panels = panels_of(figure)
    assert all(not panel.lines for panel in panels)
    np.testing.assert_allclose(panels[0].images[0].get_array(), maps[0].published.map("positive").T)
    assert "no significance" in caption_of(figure)
    assert "too few wrong answers" in words_in(panels[5])


def test_the_overlap_matrix_holds_the_tables_overlaps_and_leaves_nulls_grey(material, tasks):
    figure = overlap_matrices(material.shared, tasks, MODEL)
    positive, negative = panels_of(figure)
    row = material.shared.query("first == 'scenes/animal' and second == 'scenes/indoor' and sign == 'positive'").iloc[0]
    shares = positive.images[0].get_array()
    assert shares[0, 1] == shares[1, 0] == row["overlap"] / 2
    assert shares[0, 0] == pytest.approx(row["ceiling_first"] / 2)
    assert shares.mask[0, 2]
    assert negative.images[0].get_array().mask[2].all()
    assert f"{row['overlap']} of 2" in words_in(positive)
    assert f"chance {row['expected_overlap']:.2g}" in words_in(positive)
    assert "color: too few wrong answers (3 < 10)" in caption_of(figure)
    assert "cannot settle" in caption_of(figure)
    assert_not_blank(figure)


def test_ablation_histograms_hold_every_random_set_and_the_selected_one_as_a_line(material, tasks):
    claims = {scan.dataset: scan.claims for scan in material.heads if scan.operation == "resample"}
    figure = ablation_histograms(material.ablations, tasks, MODEL, claims)
    panels = panels_of(figure)
    assert len(panels) == 3 * 3
    assert sum(bar.get_height() for bar in panels[0].patches) == 99
    assert panels[0].lines[-1].get_xdata()[0] == pytest.approx(25)
    assert "p = 0.010" in words_in(panels[0])
    assert "no random sets" in words_in(panels[3])
    assert "gain in pair accuracy (% points)" in words_in(panels[6])
    assert panels[6].lines[-1].get_xdata()[0] == pytest.approx(7.5)
    assert "exploratory" in words_in(panels[2])
    assert_not_blank(figure)


def test_a_task_without_selected_heads_says_so(material, tasks):
    some = material.ablations[material.ablations["dataset"] != "scenes/color"]
    assert "no heads were selected" in words_in(panels_of(ablation_histograms(some, tasks, MODEL))[2])


def test_rescaling_shows_gain_error_and_controls_per_split(material, tasks):
    figure = rescaling_gains(material.modulations, tasks, MODEL)
    plain, hard = panels_of(figure)
    assert (plain.get_title(loc="left"), hard.get_title(loc="left")) == ("plain test images", "hard test images")
    assert len(hard.containers) == 5 * 3
    line, _, bars = hard.containers[0]
    assert line.get_ydata()[0] == pytest.approx(4)
    ends = bars[0].get_segments()[0][:, 1]
    assert list(ends) == pytest.approx([4 - 2 * 1.5, 4 + 3 * 1.5])
    assert hard.get_xticklabels()[0].get_text() == "animal\nλ = 0.5, k = 2"
    assert "percentage points" in hard.get_ylabel()
    assert_not_blank(figure)


def test_gains_of_nothing_do_not_fill_the_axis(material, tasks):
    nothing = material.modulations.assign(gain=0.0, gain_low=0.0, gain_high=0.0)
    low, high = panels_of(rescaling_gains(nothing, tasks, MODEL))[0].get_ylim()
    assert low <= -1 < 1 <= high


def test_a_control_that_was_not_measured_is_not_drawn(material, tasks):
    partial = material.modulations[material.modulations["role"] != "bias"]
    figure = rescaling_gains(partial, tasks, MODEL)
    assert len(panels_of(figure)[0].containers) == 4 * 3
    assert "yes/no bias" not in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_figure_is_the_same_file_each_time_whatever_the_users_settings(material, tasks, tmp_path):
    before = dict(matplotlib.rcParams)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    save_figure(overlap_matrices(material.shared, tasks, MODEL), one / "overlap")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "savefig.dpi": 20}):
        save_figure(overlap_matrices(material.shared, tasks, MODEL), two / "overlap")
    for name in ("overlap.png", "overlap.svg"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert dict(matplotlib.rcParams) == before


def test_no_title_legend_or_caption_leaves_the_figure(material, tasks):
    figures = [
        token_heat_maps(effects_of(material, "tokenwise"), material.bands, tasks[0]),
        rescaling_gains(material.modulations, tasks[:1], MODEL),
        overlap_matrices(material.shared, tasks, MODEL),
    ]
    for figure in figures:
        figure.canvas.draw()
        width, height = figure.canvas.get_width_height()
        for text in [figure._suptitle, *figure.texts, *figure.legends]:
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width, title_of(figure)
            assert 0 <= box.y0 < box.y1 <= height, title_of(figure)


def test_more_tasks_than_fit_side_by_side_take_several_pages():
    tasks = [Task(f"set/{index}", str(index), "object", str(index)) for index in range(9)]
    assert [len(part) for part in pages(tasks)] == [7, 2]
