"""Matrices of shared heads: how many of their strongest heads two tasks have in common, beside chance and a task's own ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.head_claims import SIGNIFICANCE
from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import Page, styled
from vseam_core.report.summaries import reasons_by_task
from vseam_core.report.tasks import Task, label_of, model_rows, only, present
from vseam_core.report.words import CONFOUND

if TYPE_CHECKING:
    import pandas as pd

CELL_INCHES, NARROWEST_INCHES = 0.6, 2.4


@styled
def overlap_matrices(shared: pd.DataFrame, tasks: Sequence[Task], model: str) -> Figure:
    """Overlap / k of every pair of tasks, one matrix per sign (and k); `shared` are rows of `SHARED_COLUMNS` with their model.

    Pairs without an overlap are grey and their reasons stand in the caption. The diagonal holds the ceiling: the overlap of a task
    with itself on other images.
    """
    rows = model_rows(shared, model)
    groups = [(sign, k) for sign in present(rows, "sign") for k in present(only(rows, sign=sign), "k")]
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    heads = int(rows["heads"].max())
    side = max(NARROWEST_INCHES, CELL_INCHES * len({*present(rows, "first"), *present(rows, "second")}))
    page = Page(side, side, right=0.85, above=0.3, below=0.6, column_gap=0.9, row_gap=1.1, legend_lines=0)
    figure, panels = drawing.new_page(lines, columns, page, f"{model}: heads that tasks share", _caption(rows, heads, tasks))
    image = None
    for panel, (sign, k) in zip(panels.flat, groups, strict=False):
        image = _draw(panel, frame_records(only(rows, sign=sign, k=k)), tasks, int(k))
        panel.set_title(f"{sign} heads, the {k} strongest of {heads}", loc="left")
    for panel in panels.flat[len(groups) :]:
        panel.set_visible(False)
    if image is not None:
        drawing.add_colour_bar(figure, image, panels, "shared heads / k")
    return figure


def _draw(panel: Axes, rows: Sequence[Mapping[str, Any]], tasks: Sequence[Task], k: int) -> AxesImage:
    names = [name for row in rows for name in (row["first"], row["second"])]
    shown = [task for task in tasks if task.dataset in names or task.label in names]
    index = {name: place for place, task in enumerate(shown) for name in (task.dataset, task.label)}
    size = len(shown)
    shares = np.full((size, size), np.nan)
    words = np.full((size, size), "", dtype=object)
    small = np.full((size, size), "", dtype=object)
    strong = np.zeros((size, size), dtype=bool)
    for row in rows:
        one, two = index[row["first"]], index[row["second"]]
        for name, ceiling in ((one, row["ceiling_first"]), (two, row["ceiling_second"])):
            if ceiling is not None:
                shares[name, name], words[name, name], small[name, name] = ceiling / k, f"{ceiling:.1f}", "ceiling"
        if row["overlap"] is None:
            continue
        for place in ((one, two), (two, one)):
            shares[place], words[place] = row["overlap"] / k, f"{row['overlap']} of {k}"
            small[place] = f"chance {row['expected_overlap']:.2g}"
            strong[place] = row["q_value"] is not None and row["q_value"] < SIGNIFICANCE
    image = panel.imshow(
        np.ma.masked_invalid(shares), cmap=matplotlib.colormaps["viridis"].with_extremes(bad=drawing.NULL_COLOUR), vmin=0, vmax=1
    )
    _write_cells(panel, shares, words, small, strong)
    _draw_levels(panel, shown)
    labels = [label_of(tasks, task.dataset) for task in shown]
    panel.set_xticks(range(size), labels, rotation=40, ha="right", rotation_mode="anchor")
    panel.set_yticks(range(size), labels)
    panel.tick_params(length=0)
    return image


def _write_cells(panel: Axes, shares: np.ndarray, words: np.ndarray, small: np.ndarray, strong: np.ndarray) -> None:
    points, fewer = (drawing.font(size) for size in ((8.0, 6.0) if len(shares) <= 8 else (6.5, 4.5)))
    for (row, column), share in np.ndenumerate(shares):
        if not np.isfinite(share):
            panel.text(column, row, "–", ha="center", va="center", fontsize=points, color="#666666")
            continue
        colour = drawing.BLACK if share > 0.55 else "white"
        weight = "bold" if strong[row, column] else "normal"
        star = "*" if strong[row, column] else ""
        style = "italic" if row == column else "normal"
        text: dict[str, Any] = {"ha": "center", "color": colour, "style": style}
        panel.text(column, row - 0.05, f"{words[row, column]}{star}", va="bottom", fontsize=points, fontweight=weight, **text)
        panel.text(column, row + 0.08, str(small[row, column]), va="top", fontsize=fewer, **text)


def _draw_levels(panel: Axes, shown: Sequence[Task]) -> None:
    """A frame around the pairs of tasks of one level."""
    start = 0
    while start < len(shown):
        end = start
        while end < len(shown) and shown[end].level == shown[start].level:
            end += 1
        side = end - start
        frame = Rectangle((start - 0.5, start - 0.5), side, side, fill=False, edgecolor=drawing.RED, linewidth=1.6, clip_on=False)
        panel.add_patch(frame)
        start = end
    panel.spines[:].set_visible(False)


def _caption(rows: pd.DataFrame, heads: int, tasks: Sequence[Task]) -> str:
    text = (
        "Only heads that pass the claim count. An overlap has to beat chance (heads permuted within their layers, exact; * and "
        f"bold: Benjamini–Hochberg q < {SIGNIFICANCE:g}) and cannot be expected above the ceilings on the diagonal (one task, two "
        f"halves of its images). Red frames: tasks of one level, which should share more than others if the level claim holds. {CONFOUND} "
        "An overlap can also be due to heads that matter in every task: the table of shared heads gives each pair's p beside these (p "
        "importance)."
    )
    if heads <= 100:
        text += f" {heads} heads of a small model cannot settle that claim."
    nulls = reasons_by_task(frame_records(rows[rows["overlap"].isna()]))
    if nulls:
        said = []
        for reason, names in nulls.items():
            labels = ", ".join(label_of(tasks, name) for name in names)
            said.append(f"{labels}: {reason}" if labels else reason)
        text += f" Grey, no overlap to speak of: {'; '.join(said)}."
    return text
