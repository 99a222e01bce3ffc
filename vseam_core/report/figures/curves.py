"""Curves over layers: what patching or cutting groups of positions does, and what is read off a run, beside what they must beat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import Array
from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import Page, styled
from vseam_core.report.tasks import Task, only, present, task_rows
from vseam_core.report.traced import Traced

if TYPE_CHECKING:
    from collections.abc import Iterable

COLOURS = (drawing.BLUE, drawing.ORANGE, drawing.GREEN, drawing.PURPLE, drawing.RED, "#56B4E9", "#8C6D1F")
RUN_COLOURS = {"clean": drawing.BLUE, "corrupt": drawing.ORANGE}
ROOM = 0.5
"""Intervals and bands are drawn as far as this share of the curves' own range beyond them."""


@dataclass(frozen=True)
class Row:
    """One row of panels: a site and a column, with the sites of a single layer that are drawn as level lines in it."""

    site: str
    label: str
    levels: tuple[str, ...] = ()


def curve_rows(found: Traced) -> list[Row]:
    """A row for each column and each site that has several layers; sites of one layer join the first row of their column."""
    layers = {site: present(only(found.rows, site_kind=site), "layer") for site in found.sites}
    long = [site for site in found.sites if len(layers[site]) > 1] or found.sites[:1]
    single = tuple(site for site in found.sites if site not in long)
    rows = []
    for site in long:
        here = set(present(only(found.rows, site_kind=site), "column_label"))
        rows += [Row(site, label, single if site == long[0] else ()) for label in found.columns() if label in here]
    return rows


@styled
def effect_curves(found: Traced, bands: pd.DataFrame, tasks: Sequence[Task]) -> Figure:
    """Effects over layers with intervals: columns (groups, edges) × tasks; in shares of the gap, or in units of the measure.

    `bands` are rows of `random_model_band` with model and dataset, or empty. Beside the range of the random models stands the model's own
    curve on their pairs, dotted: the two are held against each other, the curve over all pairs against none.
    """
    rows, near = curve_rows(found), only(found.bands(bands), direction=found.directions[0])
    models = 0 if near.empty else int(near["models"].max())
    pairs = sorted({int(count) for count in near["pairs"].dropna()}) if models else []
    figure, panels = _new_page(found, rows, tasks, _caption(found, models, pairs), sharey=True)
    cells = only(found.rows, direction=found.directions[0])
    for (place, column), panel in np.ndenumerate(panels):
        row, task = rows[place], tasks[column]
        here = only(task_rows(cells, found.model, task), column_label=row.label)
        band = only(task_rows(near, found.model, task), column_label=row.label, site_kind=row.site)
        _draw_levels(panel, found)
        colour = _colour(found, row.label)
        _draw_band(panel, band, colour)
        drawn = _draw_curve(panel, found, only(here, site_kind=row.site, subset="all"), colour)
        if drawn:
            _draw_flipped(panel, found, only(here, site_kind=row.site, subset="flipped"))
            _draw_single_layers(panel, found, [only(here, site_kind=site, subset="all") for site in row.levels], colour)
        else:
            drawing.say_in_panel(panel, _nothing(found, here))
    panels[0, 0].set_ylim(*_limits(found, only(cells, subset="all"), near))
    drawing.add_legend(figure, _effect_legend(found, rows, models), 5)
    return figure


@styled
def readout_curves(found: Traced, tasks: Sequence[Task]) -> Figure:
    """What is read off the runs at every layer, as it was read: sites (and columns) × tasks, one line for each run."""
    rows = curve_rows(found)
    caption = f"{found.presentation.caption} Lines: means over pairs with 95 % intervals, clustered by image (emb: before the first layer)."
    figure, panels = _new_page(found, rows, tasks, caption.strip(), sharey="row")
    for (place, column), panel in np.ndenumerate(panels):
        row, task = rows[place], tasks[column]
        here = only(found.of_task(task), column_label=row.label, site_kind=row.site, subset="all")
        panel.axhline(0, color="#BBBBBB", linewidth=0.7, zorder=0)
        drawn = [_draw_curve(panel, found, only(here, direction=name), _run_colour(name, found)) for name in found.directions]
        if not any(drawn):
            drawing.say_in_panel(panel, "nothing was read here")
    handles = [
        Line2D([], [], color=_run_colour(name, found), marker="o", markersize=3.4, linewidth=1.5, label=f"{name} image")
        for name in found.directions
    ]
    drawing.add_legend(figure, handles, 4)
    return figure


def _new_page(found: Traced, rows: Sequence[Row], tasks: Sequence[Task], caption: str, **sharing: Any) -> tuple[Figure, np.ndarray]:
    page = Page(1.6, 1.15, left=1.0)
    figure, panels = drawing.new_page(len(rows), len(tasks), page, f"{found.model}: {found.title}", caption, sharex="col", **sharing)
    sites = {row.site for row in rows}
    labels = {row.label for row in rows}
    for row, panel in zip(rows, panels[:, 0], strict=True):
        names = [found.site_words(row.site)] if len(sites) > 1 else []
        names += [found.column_words(row.label)] if len(labels) > 1 or not names else []
        panel.set_ylabel("\n".join([*names, _axis_words(found)]))
    layers = sorted(int(layer) for layer in present(found.rows[found.rows["site_kind"].isin(sites)], "layer"))
    for panel in panels[-1]:
        panel.set_xlabel("layer")
        drawing.layer_ticks(panel, layers, layers)
    cells = only(found.rows, direction=found.directions[0], subset="all")
    drawing.head_columns(panels, tasks, [f"n = {task_rows(cells, found.model, task)['n'].max()} pairs" for task in tasks])
    return figure, panels


def _axis_words(found: Traced) -> str:
    if found.view == "readout":
        return f"({found.unit})"
    return "restored (%)" if found.in_shares and found.directions[0] == "denoising" else f"change ({found.unit})"


def _colour(found: Traced, label: str) -> str:
    """The colour of a column: the same on every page, whatever columns a model lacks."""
    names = [*found.presentation.columns, *(name for name in found.columns() if name not in found.presentation.columns)]
    return COLOURS[names.index(label) % len(COLOURS)]


def _run_colour(direction: str, found: Traced) -> str:
    return RUN_COLOURS.get(direction, COLOURS[found.directions.index(direction) % len(COLOURS)])


def _draw_levels(panel: Axes, found: Traced) -> None:
    for level in (0, 100) if found.in_shares else (0,):
        panel.axhline(level, color="#BBBBBB", linewidth=0.7, zorder=0)


def _draw_band(panel: Axes, chance: pd.DataFrame, colour: str) -> None:
    """The range of the random models, and the model's own values on the same pairs."""
    if chance.empty:
        return
    band = frame_records(chance.sort_values("layer"))
    ends = (_column(band, "band_low", 100), _column(band, "band_high", 100))
    layers = [row["layer"] for row in band]
    panel.fill_between(layers, *ends, color=drawing.BAND_COLOUR, alpha=0.45, linewidth=0, zorder=1, label="random models")
    panel.plot(layers, _column(band, "own", 100), ":", color=colour, linewidth=1.3, zorder=4, label="same pairs")


def _draw_curve(panel: Axes, found: Traced, cells: pd.DataFrame, colour: str) -> bool:
    """One line with its interval, hollow where it is below the noise; whether there was anything to draw."""
    rows = frame_records(cells.sort_values("layer")) if not cells.empty else []
    value, low, high = (_column(rows, name, found.factor) for name in found.quantity)
    if not np.isfinite(value).any():
        return False
    layers = [row["layer"] for row in rows]
    panel.fill_between(layers, low, high, color=colour, alpha=0.3, linewidth=0, zorder=2)
    panel.plot(layers, value, color=colour, linewidth=1.5, zorder=4, label="all pairs")
    noisy = np.array([bool(row["below_noise_floor"]) and found.view != "readout" for row in rows])
    for flag, fill in ((True, "white"), (False, colour)):
        chosen = np.flatnonzero(noisy == flag)
        places = [layers[index] for index in chosen]
        panel.plot(places, value[chosen], "o", color=colour, markerfacecolor=fill, markersize=3.4, zorder=5)
    return True


def _draw_flipped(panel: Axes, found: Traced, cells: pd.DataFrame) -> None:
    rows = frame_records(cells.sort_values("layer")) if not cells.empty else []
    values = _column(rows, found.quantity[0], found.factor)
    panel.plot([row["layer"] for row in rows], values, "--", color=drawing.BLACK, linewidth=0.9, zorder=3)


def _draw_single_layers(panel: Axes, found: Traced, sites: Iterable[pd.DataFrame], colour: str) -> None:
    """A site with one row has no curve: its value is a level line."""
    for cells in sites:
        for value in _column(frame_records(cells), found.quantity[0], found.factor):
            if np.isfinite(value):
                panel.axhline(value, color=colour, linestyle=(0, (5, 2)), linewidth=1.2, zorder=3)


def _nothing(found: Traced, cells: pd.DataFrame) -> str:
    if cells.empty:
        return "no such positions"
    return "no pair with a gap of at least 1 nat" if found.in_shares else "nothing was measured here"


def _column(rows: Sequence[Mapping[str, Any]], name: str, factor: float) -> Array:
    """A column in the unit that is shown; a null is NaN, which leaves a gap in a line."""
    return factor * np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)


def _limits(found: Traced, rows: pd.DataFrame, bands: pd.DataFrame) -> tuple[float, float]:
    """Ends of the y axis: every curve in full, intervals and bands as far as some room beyond."""
    value, lowest, highest = found.quantity
    drawn = rows[rows["column_label"].isin({row.label for row in curve_rows(found)})]
    low, high = _ends(drawn, value, value, found.factor)
    low, high = min(0.0, low), max(100.0 if found.in_shares else 0.0, high)
    room = ROOM * (100.0 if found.in_shares else max(high - low, 1e-6))
    least, most = low, high
    for frame, names in ((drawn, (lowest, highest)), (bands, ("band_low", "band_high")), (bands, ("own", "own"))):
        if len(frame) and (found.in_shares or frame is drawn):
            ends = _ends(frame[frame["column_label"].isin(drawn["column_label"])], *names, found.factor)
            bounds = (-room, 100.0 + room) if found.in_shares else (low - room, high + room)
            least, most = min(least, max(ends[0], bounds[0])), max(most, min(ends[1], bounds[1]))
    margin = 0.06 * (100.0 if found.in_shares else max(most - least, 1e-6))
    return least - margin, most + margin


def _ends(frame: pd.DataFrame, lowest: str, highest: str, factor: float) -> tuple[float, float]:
    """The smallest value of one column and the largest of another; zeros where there is none."""
    if frame.empty:
        return 0.0, 0.0
    low, high = frame[lowest].min(), frame[highest].max()
    return (0.0 if pd.isna(low) else factor * float(low)), (0.0 if pd.isna(high) else factor * float(high))


def _effect_legend(found: Traced, rows: Sequence[Row], models: int) -> list[Patch | Line2D]:
    grey = "#555555"
    handles: list[Patch | Line2D] = [
        Line2D([], [], color=grey, marker="o", markersize=3.4, linewidth=1.5, label="all pairs, with 95 % interval"),
        Line2D([], [], color=drawing.BLACK, linestyle="--", linewidth=0.9, label="flipped pairs"),
        Line2D([], [], color=grey, marker="o", markerfacecolor="white", linestyle="", markersize=3.4, label="below the noise"),
    ]
    for site in dict.fromkeys(site for row in rows for site in row.levels):
        handles.append(Line2D([], [], color=grey, linestyle=(0, (5, 2)), linewidth=1.2, label=found.site_words(site)))
    if models:
        handles.append(Patch(facecolor=drawing.BAND_COLOUR, alpha=0.45, label=f"range of {models} random models"))
        handles.append(Line2D([], [], color=grey, linestyle=":", linewidth=1.3, label="this model on their pairs"))
    return handles


def _caption(found: Traced, models: int, pairs: Sequence[int] = ()) -> str:
    """The tracer's own words, then what was checked and what the curves have to beat."""
    parts = [found.presentation.caption]
    ends = found.everything_restored()
    if ends is not None:
        parts.append(f"Check: all positions patched together restore {100 * ends[0]:.2f} to {100 * ends[1]:.2f} % at every layer.")
    if models:
        few = f"{pairs[0]} to {pairs[-1]}" if len(pairs) > 1 else ", ".join(map(str, pairs))
        parts.append(
            f"The range is held against the dotted line, of this model on the same {few} pairs. One more random model leaves the range of "
            f"{models} in {200 / (models + 1):.0f} % of cells by chance alone, so that a cell outside is no test at 5 %. A band wider than "
            "the axis is cut off."
        )
    elif found.presentation.against_random_models:
        parts.append("No random models were traced here: these curves have nothing to beat yet and are no finding.")
    return " ".join(part for part in parts if part)
