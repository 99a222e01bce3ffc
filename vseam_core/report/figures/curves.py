"""Curves over layers: how much of the answer a group of positions carries, beside what models with random weights show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import Array
from vseam_core.report.figures import figures
from vseam_core.report.figures.figures import Page, styled
from vseam_core.report.tasks import Task, model_rows, only, present, task_rows
from vseam_core.report.words import trace_rows

GROUPS = {"image": "image", "question": "question", "template": "template", "last": "last position"}
REGIONS = {"region": "edited region", "complement": "rest of the image", "random": "random region"}
COLOURS = (figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE)
EVERYTHING = "all"


@styled
def group_curves(traces: pd.DataFrame, bands: pd.DataFrame, tasks: Sequence[Task], model: str) -> Figure:
    """Restored share over layers when the residual of a whole group of positions is patched: groups × tasks.

    `traces` are rows of `TRACE_COLUMNS`, `bands` those of `random_model_band` (or empty), both with model and dataset.
    """
    return _curves(traces, bands, tasks, model, "groups", GROUPS, f"{model}: share of the answer that a group of positions restores")


@styled
def region_curves(traces: pd.DataFrame, bands: pd.DataFrame, tasks: Sequence[Task], model: str) -> Figure:
    """Restored share over layers for the edited region of the image, the rest of it, and a random region of equal size."""
    title = f"{model}: share of the answer that a part of the image restores"
    return _curves(traces, bands, tasks, model, "regions", REGIONS, title)


def curve_tasks(traces: pd.DataFrame, model: str, tasks: Sequence[Task], tracer: str) -> list[Task]:
    """The tasks that a tracer of groups has rows about."""
    return [task for task in tasks if len(trace_rows(task_rows(traces, model, task), tracer))]


def everything_restored(traces: pd.DataFrame, model: str) -> tuple[float, float] | None:
    """The smallest and largest share restored by patching all positions at once, which must be 1; None where not traced."""
    rows = only(trace_rows(model_rows(traces, model), "groups"), direction="denoising", subset="all", column_label=EVERYTHING)
    shares = [] if rows.empty else rows["normalised"].dropna().tolist()
    return (min(shares), max(shares)) if shares else None


def _curves(
    traces: pd.DataFrame, bands: pd.DataFrame, tasks: Sequence[Task], model: str, tracer: str, words: Mapping[str, str], title: str
) -> Figure:
    rows = only(trace_rows(model_rows(traces, model), tracer), direction="denoising")
    labels = [label for label in words if label in present(rows, "column_label")]
    chance = only(trace_rows(model_rows(bands, model), tracer), direction="denoising", subset="all")
    models = _models(chance)
    caption = _caption(traces, model, tracer, models)
    figure, panels = figures.new_page(len(labels), len(tasks), Page(1.6, 1.15), title, caption, sharex="col", sharey=True)
    for (row, column), panel in np.ndenumerate(panels):
        label, task = labels[row], tasks[column]
        cells = only(task_rows(rows, model, task), column_label=label)
        band = only(task_rows(chance, model, task), column_label=label)
        _draw(panel, cells, band, COLOURS[list(words).index(label)])
        if column == 0:
            panel.set_ylabel(f"{words[label]}\nrestored (%)")
        if row == len(labels) - 1:
            panel.set_xlabel("layer")
    counts = [task_rows(rows, model, task)["n"].max() for task in tasks]
    figures.head_columns(panels, tasks, [f"n = {count} pairs" for count in counts])
    drawn = (frame[frame["column_label"].isin(labels)] if len(frame) else frame for frame in (only(rows, subset="all"), chance))
    panels[0, 0].set_ylim(*_limits(*drawn))
    figures.add_legend(figure, _legend(models), 4)
    return figure


def _draw(panel: Axes, cells: pd.DataFrame, chance: pd.DataFrame, colour: str) -> None:
    for level in (0, 100):
        panel.axhline(level, color="#BBBBBB", linewidth=0.7, zorder=0)
    if not chance.empty:
        band = frame_records(chance.sort_values("layer"))
        ends = (_column(band, "band_low"), _column(band, "band_high"))
        layers = [row["layer"] for row in band]
        panel.fill_between(layers, *ends, color=figures.BAND_COLOUR, alpha=0.45, linewidth=0, zorder=1, label="random models")
    rows = frame_records(only(cells, subset="all").sort_values("layer")) if not cells.empty else []
    shares = _column(rows, "normalised")
    if not np.isfinite(shares).any():
        figures.say_in_panel(panel, "no such positions" if not rows else "no pair with a gap of at least 1 nat")
        return
    layers = [row["layer"] for row in rows]
    ends = (_column(rows, "normalised_low"), _column(rows, "normalised_high"))
    panel.fill_between(layers, *ends, color=colour, alpha=0.3, linewidth=0, zorder=2)
    panel.plot(layers, shares, color=colour, linewidth=1.5, zorder=4, label="all pairs")
    noisy = np.array([bool(row["below_noise_floor"]) for row in rows])
    for flag, fill in ((True, "white"), (False, colour)):
        chosen = np.flatnonzero(noisy == flag)
        places = [layers[index] for index in chosen]
        panel.plot(places, shares[chosen], "o", color=colour, markerfacecolor=fill, markersize=3.4, zorder=5)
    flipped = frame_records(only(cells, subset="flipped").sort_values("layer"))
    panel.plot([row["layer"] for row in flipped], _column(flipped, "normalised"), "--", color=figures.BLACK, linewidth=0.9, zorder=3)
    figures.layer_ticks(panel, layers, layers)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> Array:
    """A column in percent; a null is NaN, which leaves a gap in a line."""
    return 100 * np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _limits(rows: pd.DataFrame, bands: pd.DataFrame) -> tuple[float, float]:
    """Ends of the y axis: every curve in full, intervals and bands as far as half a gap beyond."""
    low, high = _ends(rows, "normalised", "normalised")
    low, high = min(0.0, low), max(100.0, high)
    room = 50.0
    for frame, names in ((rows, ("normalised_low", "normalised_high")), (bands, ("band_low", "band_high"))):
        ends = _ends(frame, *names)
        low, high = min(low, max(ends[0], -room)), max(high, min(ends[1], 100 + room))
    return low - 6, high + 6


def _ends(frame: pd.DataFrame, lowest: str, highest: str) -> tuple[float, float]:
    """The smallest value of one column and the largest of another, in percent; 0 and 100 where there is none."""
    if frame.empty:
        return 0.0, 100.0
    low, high = frame[lowest].min(), frame[highest].max()
    return (0.0 if pd.isna(low) else 100 * float(low)), (100.0 if pd.isna(high) else 100 * float(high))


def _models(bands: pd.DataFrame) -> int:
    return 0 if bands.empty else int(bands["models"].max())


def _legend(models: int) -> list[Patch | Line2D]:
    handles: list[Patch | Line2D] = [
        Line2D([], [], color="#555555", marker="o", markersize=3.4, linewidth=1.5, label="all pairs, with 95 % interval"),
        Line2D([], [], color=figures.BLACK, linestyle="--", linewidth=0.9, label="flipped pairs"),
        Line2D([], [], color="#555555", marker="o", markerfacecolor="white", linestyle="", markersize=3.4, label="below the noise"),
    ]
    if models:
        handles.append(Patch(facecolor=figures.BAND_COLOUR, alpha=0.45, label=f"range of {models} random models"))
    return handles


def _caption(traces: pd.DataFrame, model: str, tracer: str, models: int) -> str:
    if tracer == "regions":
        beat = (
            "The edited region has to restore more than a random region of the same size; vision towers attend globally, so the "
            "rest of the image carries some of the edit too."
        )
    else:
        beat = (
            "That image effects end at 0 and text effects at 100 % is true of any causal decoder, whatever its weights: what "
            "stays within the range of random models says nothing about training."
        )
        ends = everything_restored(traces, model)
        if ends is not None:
            beat += f" Check: all positions patched together restore {100 * ends[0]:.2f} to {100 * ends[1]:.2f} % at every layer."
        if models:
            beat += (
                f" One more random model leaves the range of {models} in {200 / (models + 1):.0f} % of cells by chance alone, so that a "
                "cell outside is no test at 5 %. A band wider than the axis is cut off."
            )
        else:
            beat += " No random models were traced here: these curves have nothing to beat yet and are no finding."
    return (
        "The residual stream of the clean run is put into the corrupt run at all positions of a group, at one layer (emb: before "
        f"the first). Share = Σ (patched − corrupt) / Σ (clean − corrupt) of the logit difference. {beat}"
    )
