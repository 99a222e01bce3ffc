"""Heat maps of token-wise patching: which words carry the answer at which layer, in attention and in MLP outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from vseam_core.analysis.traces import CELL_COLUMNS, FLOOR_FACTOR, compare_with_band
from vseam_core.report.figures import figures
from vseam_core.report.figures.figures import Page, styled
from vseam_core.report.tasks import Task, in_order, model_rows, only, present, task_rows
from vseam_core.report.words import ROLE_WORDS, SITE_WORDS, trace_rows

if TYPE_CHECKING:
    import pandas as pd

TRACER = "tokenwise"
VIEWS = (
    ("denoising", "all", "clean into corrupt, all pairs"),
    ("denoising", "flipped", "clean into corrupt, flipped pairs"),
    ("noising", "all", "corrupt into clean, all pairs"),
)
MOST_LABELLED_LAYERS = 12
LEAST_SCALE = 0.05


@dataclass(frozen=True, eq=False)
class RoleMap:
    """One heat map: shares `[roles, layers]` (NaN where there is no value), flags of the same shape, and pairs per role."""

    layers: tuple[int, ...]
    roles: tuple[str, ...]
    shares: Array
    doubtful: np.ndarray
    outside: np.ndarray
    counts: tuple[int, ...]

    @property
    def empty(self) -> bool:
        """Whether no cell has a value."""
        return not np.isfinite(self.shares).any()


def role_map(cells: pd.DataFrame, bands: pd.DataFrame, roles: Sequence[str], layers: Sequence[int]) -> RoleMap:
    """The map of `cells` (rows of one site, direction and subset) over the given roles and layers.

    A cell is doubtful below 3 × the noise floor or with fewer than 10 images, and outside where its share leaves the range of
    the random models in `bands` (which may be empty).
    """
    shape = (len(roles), len(layers))
    shares, doubtful, outside = np.full(shape, np.nan), np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    counts = dict.fromkeys(roles, 0)
    banded = cells.assign(outside_band=None) if bands.empty or cells.empty else _with_band(cells, bands)
    for row in frame_records(banded):
        place = roles.index(row["column_label"]), layers.index(row["layer"])
        counts[row["column_label"]] = max(counts[row["column_label"]], row["n"])
        if row["normalised"] is not None:
            shares[place] = row["normalised"]
            doubtful[place] = bool(row["below_noise_floor"]) or row["clusters"] < MINIMUM_CLUSTERS
            outside[place] = bool(row["outside_band"])
    return RoleMap(tuple(layers), tuple(roles), shares, doubtful, outside, tuple(counts[role] for role in roles))


def _with_band(cells: pd.DataFrame, bands: pd.DataFrame) -> pd.DataFrame:
    return compare_with_band(cells, bands[[*CELL_COLUMNS, "band_low", "band_high", "models"]])


@styled
def token_heat_page(traces: pd.DataFrame, bands: pd.DataFrame, tasks: Sequence[Task], model: str) -> Figure:
    """All tasks of a model on one page: sites × tasks, each panel token roles × layers, on one colour scale.

    `traces` are rows of `TRACE_COLUMNS`, `bands` those of `random_model_band` (or empty), both with model and dataset.
    """
    rows = only(trace_rows(model_rows(traces, model), TRACER), direction="denoising", subset="all")
    sites = in_order(present(rows, "site_kind"), SITE_WORDS)
    roles = in_order(present(rows, "column_label"), ROLE_WORDS)
    maps = {
        (site, task.dataset): _map_of(task_rows(only(rows, site_kind=site), model, task), task_rows(bands, model, task), roles)
        for site in sites
        for task in tasks
    }
    end = figures.largest([found.shares for found in maps.values()], LEAST_SCALE)
    title = f"{model}: share of the answer that one token's clean activation restores"
    page = Page(1.5, 0.19 * len(roles), left=1.9, right=0.85, row_gap=0.35)
    figure, panels = figures.new_page(len(sites), len(tasks), page, title, _caption(_models(bands, model)))
    image = None
    for (row, column), panel in np.ndenumerate(panels):
        found = maps[sites[row], tasks[column].dataset]
        image = _draw(panel, found, end) or image
        if column == 0:
            panel.set_yticks(range(len(roles)), [ROLE_WORDS.get(role, role) for role in roles])
            panel.set_ylabel(SITE_WORDS.get(sites[row], sites[row]), fontweight="bold")
        else:
            panel.set_yticks([])
        if row == len(sites) - 1:
            panel.set_xlabel("layer")
    counts = [max(maps[sites[0], task.dataset].counts, default=0) for task in tasks]
    figures.head_columns(panels, tasks, [f"n = {count} pairs" for count in counts])
    _finish(figure, panels, image, "restored share of the gap (%)", _models(bands, model) > 0)
    return figure


@styled
def token_heat_maps(traces: pd.DataFrame, bands: pd.DataFrame, task: Task, model: str) -> Figure:
    """One task of one model in full: sites side by side; patched clean into corrupt for all and for flipped pairs, and back."""
    rows = trace_rows(task_rows(traces, model, task), TRACER)
    found_bands = task_rows(bands, model, task)
    sites = in_order(present(rows, "site_kind"), SITE_WORDS)
    roles = in_order(present(rows, "column_label"), ROLE_WORDS)
    views = [view for view in VIEWS if len(only(rows, direction=view[0], subset=view[1]))]
    maps = [
        [_map_of(only(rows, site_kind=site, direction=view[0], subset=view[1]), found_bands, roles) for site in sites] for view in views
    ]
    end = figures.largest([found.shares for line in maps for found in line], LEAST_SCALE)
    title = f"{model}, {task.dataset}: share of the answer that one token's activation carries"
    caption = _caption(_models(bands, model)) + " Flipped pairs: right on the clean image, and the corrupt answer on the corrupt one."
    page = Page(3.2, 0.23 * len(roles), left=2.1, right=0.85, above=0.3, column_gap=0.2, row_gap=0.55)
    figure, panels = figures.new_page(len(views), len(sites), page, title, caption)
    image = None
    for (row, column), panel in np.ndenumerate(panels):
        found = maps[row][column]
        image = _draw(panel, found, end, numbers=True) or image
        words = [f"{ROLE_WORDS.get(role, role)} ({count})" for role, count in zip(roles, found.counts, strict=True)]
        panel.set_yticks(range(len(roles)), words if column == 0 else [])
        panel.set_title(f"{SITE_WORDS.get(sites[column], sites[column])} · {views[row][2]}", loc="left")
        if row == len(views) - 1:
            panel.set_xlabel("layer")
    panels[0, 0].set_ylabel("token role (pairs that have it)")
    _finish(figure, panels, image, "share of the gap (%)", _models(found_bands, model) > 0)
    return figure


def _map_of(rows: pd.DataFrame, bands: pd.DataFrame, roles: Sequence[str]) -> RoleMap:
    return role_map(rows, bands, roles, sorted(int(layer) for layer in present(rows, "layer")))


def _draw(panel: Axes, found: RoleMap, end: float, numbers: bool = False) -> AxesImage | None:
    if found.empty:
        figures.bare(panel)
        figures.say_in_panel(panel, "no pair with a gap of at least 1 nat")
        return None
    percent = 100 * found.shares
    image = panel.imshow(
        np.ma.masked_invalid(percent),
        cmap=figures.diverging_map(),
        vmin=-100 * end,
        vmax=100 * end,
        aspect="auto",
        interpolation="nearest",
    )
    figures.hatch_cells(panel, found.doubtful)
    figures.layer_ticks(panel, found.layers)
    panel.spines[:].set_visible(False)
    labelled = numbers and len(found.layers) <= MOST_LABELLED_LAYERS
    for row, column in zip(*np.nonzero(np.isfinite(percent)), strict=True):
        if labelled and not found.doubtful[row, column]:
            dark = abs(percent[row, column]) > 65 * end
            colour = "white" if dark else figures.BLACK
            panel.text(column, row, _whole(percent[row, column]), ha="center", va="center", fontsize=7, color=colour)
    rows, columns = np.nonzero(found.outside & ~found.doubtful)
    shift = 0.33 if labelled else 0.0
    panel.plot(columns + shift, rows - shift * 0.8, ".", color=figures.BLACK, markersize=3, clip_on=False)
    return image


def _whole(value: float) -> str:
    """A number without decimals, without a sign before zero, and with a minus that is one."""
    return f"{round(value):d}".replace("-", "−")


def _finish(figure: Figure, panels: np.ndarray, image: AxesImage | None, label: str, banded: bool) -> None:
    """The colour bar and the legend of what cells without a plain colour mean."""
    if image is not None:
        figures.add_colour_bar(figure, image, panels, label)
    handles: list[Patch | Line2D] = [
        Patch(
            facecolor="white",
            edgecolor=figures.HATCH_COLOUR,
            hatch=figures.HATCH,
            linewidth=0,
            label="below the noise, or too few images",
        ),
        Patch(facecolor=figures.NULL_COLOUR, label="no such token, or no value"),
    ]
    if banded:
        dot = Line2D([], [], marker=".", linestyle="", color=figures.BLACK, label="outside the range of random models")
        handles.append(dot)
    figures.add_legend(figure, handles, len(handles))


def _models(bands: pd.DataFrame, model: str) -> int:
    """How many random models the token-wise bands of a model rest on; 0 without any."""
    rows = only(model_rows(bands, model), tracer=TRACER)
    return 0 if rows.empty else int(rows["models"].max())


def _caption(models: int) -> str:
    control = (
        f"dots mark cells outside the range of {models} randomly initialised models of the same shape."
        if models
        else "no random models were traced token by token, so a cell is held against the noise alone."
    )
    return (
        "Activation patching of one site at one token: Σ (patched − base) / Σ (donor − base) of the logit difference over pairs, "
        "averaged over all tokens of a role. 100 % is the whole way to the donor image's answer. Hatched cells are below "
        f"{FLOOR_FACTOR:g} × the effect of an identity patch or rest on fewer than {MINIMUM_CLUSTERS} images; {control} "
        "What comes before the image is the same in both runs and cannot carry anything."
    )


def heat_map_tasks(traces: pd.DataFrame, model: str, tasks: Iterable[Task]) -> list[Task]:
    """The tasks that were traced token by token in a measure that has shares."""
    return [task for task in tasks if len(trace_rows(task_rows(traces, model, task), TRACER))]
