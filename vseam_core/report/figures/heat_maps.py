"""Heat maps of layers × token roles: which words carry the answer at which layer, site by site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.statistics import MINIMUM_CLUSTERS, Array
from vseam_core.analysis.traces import FLOOR_FACTOR, with_band
from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import Page, styled
from vseam_core.report.tasks import Task, in_order, only, present, task_rows
from vseam_core.report.traced import Traced
from vseam_core.report.words import ROLE_WORDS

if TYPE_CHECKING:
    import pandas as pd

DIRECTION_WORDS = {
    "denoising": "clean into corrupt",
    "noising": "corrupt into clean",
    "clean": "on the clean image",
    "corrupt": "on the corrupt image",
}
MOST_LABELLED_LAYERS = 12
LEAST_SCALE = 0.05


@dataclass(frozen=True, eq=False)
class RoleMap:
    """One heat map: values `[roles, layers]` (NaN where there is none), flags of the same shape, and pairs per role."""

    layers: tuple[int, ...]
    roles: tuple[str, ...]
    values: Array
    doubtful: np.ndarray
    outside: np.ndarray
    counts: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether no cell has a value."""
        return not np.isfinite(self.values).any()


def role_map(
    cells: pd.DataFrame, bands: pd.DataFrame, roles: Sequence[str], layers: Sequence[int], quantity: str = "normalised"
) -> RoleMap:
    """The map of a column of `cells` (rows of one site, direction and subset) over the given roles and layers.

    A cell is doubtful below 3 × the noise floor or with fewer than 10 images, and outside where its share leaves the range of
    the random models on the same pairs (`bands`: rows of `beside_own`, which may be empty).
    """
    shape = (len(roles), len(layers))
    values, doubtful, outside = np.full(shape, np.nan), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    counts = dict.fromkeys(roles, 0)
    banded = cells.assign(outside_band=None) if bands.empty or cells.empty else with_band(cells, bands)
    for row in frame_records(banded):
        place = roles.index(row["column_label"]), layers.index(row["layer"])
        counts[row["column_label"]] = max(counts[row["column_label"]], row["n"])
        if row[quantity] is not None:
            values[place] = row[quantity]
            doubtful[place] = bool(row["below_noise_floor"]) or row["clusters"] < MINIMUM_CLUSTERS
            outside[place] = bool(row["outside_band"])
    return RoleMap(
        layers=tuple(layers),
        roles=tuple(roles),
        values=values,
        doubtful=doubtful,
        outside=outside,
        counts=tuple(counts[role] for role in roles),
    )


@styled
def token_heat_page(found: Traced, bands: pd.DataFrame, tasks: Sequence[Task]) -> Figure:
    """All tasks of a model on one page: sites × tasks, each panel token roles × layers, on one colour scale.

    `bands` are rows of `random_model_band` with model and dataset, or empty.
    """
    rows = only(found.rows, direction=found.directions[0], subset="all")
    near = found.bands(bands)
    roles = found.columns()
    maps = {
        (site, task.dataset): _map_of(task_rows(only(rows, site_kind=site), found.model, task), near, roles, found, task)
        for site in found.sites
        for task in tasks
    }
    end = drawing.largest([each.values for each in maps.values()], LEAST_SCALE)
    page = Page(1.5, 0.19 * len(roles), left=1.9, right=0.85, row_gap=0.35)
    caption = _caption(found, _models(near))
    figure, panels = drawing.new_page(len(found.sites), len(tasks), page, f"{found.model}: {found.title}", caption)
    image = None
    for (row, column), panel in np.ndenumerate(panels):
        image = _draw(panel, maps[found.sites[row], tasks[column].dataset], end, found) or image
        if column == 0:
            panel.set_yticks(range(len(roles)), [found.column_words(role) for role in roles])
            panel.set_ylabel(found.site_words(found.sites[row]), fontweight="bold")
        else:
            panel.set_yticks([])
        if row == len(found.sites) - 1:
            panel.set_xlabel("layer")
    counts = [max(maps[found.sites[0], task.dataset].counts, default=0) for task in tasks]
    drawing.head_columns(panels, tasks, [f"n = {count} pairs" for count in counts])
    _finish(figure, panels, image, _scale_words(found), _models(near) > 0)
    return figure


@styled
def token_heat_maps(found: Traced, bands: pd.DataFrame, task: Task) -> Figure:
    """One task of one model in full: sites side by side; every direction for all pairs, the first for flipped pairs too."""
    rows, near = found.of_task(task), found.bands(bands)
    sites, roles = found.sites, in_order(present(found.of_task(task), "column_label"), ROLE_WORDS)
    wanted = [(found.directions[0], "all"), (found.directions[0], "flipped"), *((other, "all") for other in found.directions[1:])]
    views = [view for view in wanted if len(only(rows, direction=view[0], subset=view[1]))]
    # Flipped pairs are other pairs than those of the random models.
    beside = {"all": near, "flipped": near.iloc[:0]}
    maps = [
        [_map_of(only(rows, site_kind=site, direction=direction, subset=subset), beside[subset], roles, found, task) for site in sites]
        for direction, subset in views
    ]
    end = drawing.largest([each.values for line in maps for each in line], LEAST_SCALE)
    caption = _caption(found, _models(near)) + " Flipped pairs: right on the clean image, and the corrupt answer on the corrupt one."
    page = Page(3.2, 0.23 * len(roles), left=2.1, right=0.85, above=0.3, column_gap=0.2, row_gap=0.55)
    title = f"{found.model}, {task.dataset}: {found.title}"
    figure, panels = drawing.new_page(len(views), len(sites), page, title, caption)
    image = None
    for (row, column), panel in np.ndenumerate(panels):
        drawn, (direction, subset) = maps[row][column], views[row]
        image = _draw(panel, drawn, end, found, numbers=True) or image
        words = [f"{found.column_words(role)} ({count})" for role, count in zip(roles, drawn.counts, strict=True)]
        panel.set_yticks(range(len(roles)), words if column == 0 else [])
        pairs = f"{DIRECTION_WORDS[direction]}, {subset} pairs"
        panel.set_title(f"{found.site_words(sites[column])} · {pairs}", loc="left")
        if row == len(views) - 1:
            panel.set_xlabel("layer")
    head = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "bottom", "color": "#555555"}
    panels[0, 0].annotate("token role (pairs that have it)", (0, 1), (-6, 2), **head)
    _finish(figure, panels, image, _scale_words(found), _models(task_rows(near, found.model, task)) > 0)
    return figure


def _map_of(rows: pd.DataFrame, bands: pd.DataFrame, roles: Sequence[str], found: Traced, task: Task) -> RoleMap:
    layers = sorted(int(layer) for layer in present(rows, "layer"))
    chosen = rows[rows["column_label"].isin(roles)] if len(rows) else rows
    near = task_rows(bands, found.model, task) if found.in_shares else bands.iloc[:0]
    return role_map(chosen, near, roles, layers, found.quantity[0])


def _scale_words(found: Traced) -> str:
    return "share of the gap (%)" if found.in_shares else f"change in {found.unit}"


def _draw(panel: Axes, drawn: RoleMap, end: float, found: Traced, numbers: bool = False) -> AxesImage | None:
    if drawn.empty:
        drawing.bare(panel)
        drawing.say_in_panel(panel, "no pair with a gap of at least 1 nat" if found.in_shares else "nothing was measured here")
        return None
    values, end = found.factor * drawn.values, found.factor * end
    image = panel.imshow(
        np.ma.masked_invalid(values), cmap=drawing.diverging_map(), vmin=-end, vmax=end, aspect="auto", interpolation="nearest"
    )
    drawing.hatch_cells(panel, drawn.doubtful)
    drawing.layer_ticks(panel, drawn.layers)
    panel.spines[:].set_visible(False)
    labelled = numbers and len(drawn.layers) <= MOST_LABELLED_LAYERS
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        if labelled and not drawn.doubtful[row, column]:
            colour = "white" if abs(values[row, column]) > 0.65 * end else drawing.BLACK
            words = _whole(values[row, column]) if found.in_shares else f"{values[row, column]:.2g}".replace("-", "−")
            panel.text(column, row, words, ha="center", va="center", fontsize=drawing.font(7), color=colour)
    rows, columns = np.nonzero(drawn.outside & ~drawn.doubtful)
    shift = 0.33 if labelled else 0.0
    panel.plot(columns + shift, rows - shift * 0.8, ".", color=drawing.BLACK, markersize=3, clip_on=False)
    return image


def _whole(value: float) -> str:
    """A number without decimals, without a sign before zero, and with a minus that is one."""
    return f"{round(value):d}".replace("-", "−")


def _finish(figure: Figure, panels: np.ndarray, image: AxesImage | None, label: str, banded: bool) -> None:
    """The colour bar and the legend of what cells without a plain colour mean."""
    if image is not None:
        drawing.add_colour_bar(figure, image, panels, label)
    handles: list[Patch | Line2D] = [
        Patch(
            facecolor="white",
            edgecolor=drawing.HATCH_COLOUR,
            hatch=drawing.HATCH,
            linewidth=0,
            label="below the noise, or too few images",
        ),
        Patch(facecolor=drawing.NULL_COLOUR, label="no such token, or no value"),
    ]
    if banded:
        dot = Line2D([], [], marker=".", linestyle="", color=drawing.BLACK, label="outside the range of random models")
        handles.append(dot)
    drawing.add_legend(figure, handles, len(handles))


def _models(bands: pd.DataFrame) -> int:
    """How many random models a band rests on; 0 without any."""
    return 0 if bands.empty else int(bands["models"].max())


def _caption(found: Traced, models: int) -> str:
    control = (
        f"dots mark cells where the model, on the pairs that {models} randomly initialised models of its shape were traced on, is outside "
        "their range."
        if models
        else "no random models were traced this way, so a cell is held against the noise alone."
    )
    return (
        f"{found.presentation.caption} Hatched cells are below {FLOOR_FACTOR:g} × the effect of an identity patch or rest on fewer than "
        f"{MINIMUM_CLUSTERS} images; {control}"
    ).strip()
