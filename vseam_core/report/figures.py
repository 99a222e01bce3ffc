"""What all figures of the report share: one look whatever the user's settings, titles and captions in words, colours.

Figures are built without pyplot, so nothing is registered anywhere and a figure is gone when its last reference is. Colours are
those of Okabe and Ito, which colour-blind readers can tell apart; maps around zero run from blue to red.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vseam_core.report.tasks import Task

DOTS_PER_INCH = 110
TASKS_PER_PAGE = 7
EMBEDDING = -1

BLUE, ORANGE, GREEN, PURPLE, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#222222"
NULL_COLOUR = "#C4C4C4"
BAND_COLOUR = "#9E9E9E"
LEVEL_WORDS = {"object": "object level", "attribute": "attribute level", "relation": "relation level"}

_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
_TITLE_POINTS, _CAPTION_POINTS = 11.5, 8
_CAPTION_LINE = 0.155
"""Inches per line of caption."""
_CHARACTERS_PER_INCH = 16.0
_CAPTION_MARK = "caption"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def styled(draw: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a drawing function under the report's own settings and puts the user's back."""

    @wraps(draw)
    def inside(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return draw(*arguments, **options)

    return inside


def new_figure(width: float, height: float, title: str, caption: str) -> Figure:
    """A figure of `width` × `height` inches for panels, with room for its title above and its caption below."""
    lines = textwrap.wrap(caption, int(width * _CHARACTERS_PER_INCH))
    below = _CAPTION_LINE * (len(lines) + 1)
    figure = Figure(figsize=(width, height + below + 0.35), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    share = below / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, share, 1, 1 - share), h_pad=0.05, w_pad=0.05)
    figure.suptitle(title, x=0.01, ha="left", fontsize=_TITLE_POINTS, fontweight="bold")
    text = figure.text(
        0.01, 0.06 / figure.get_figheight(), "\n".join(lines), fontsize=_CAPTION_POINTS, color="#444444", va="bottom"
    )
    text.set_gid(_CAPTION_MARK)
    text.set_in_layout(False)
    return figure


def caption_of(figure: Figure) -> str:
    """The caption that `new_figure` wrote, in one line."""
    return next((" ".join(text.get_text().split()) for text in figure.texts if text.get_gid() == _CAPTION_MARK), "")


def title_of(figure: Figure) -> str:
    """The title that `new_figure` wrote."""
    return str(figure.get_suptitle())


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG that depends on the figure alone: no date, no library version. Raises `OSError` where it cannot be written."""
    styled(figure.savefig)(path, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def grid_of_panels(figure: Figure, rows: int, columns: int, **options: Any) -> NDArray[Any]:
    """Axes `[rows, columns]`, also where there is one row or one column."""
    return np.asarray(figure.subplots(rows, columns, squeeze=False, **options))


def page_size(
    tasks: Sequence[Task], panel_width: float, rows: int, panel_height: float, margin: float = 1.3
) -> tuple[float, float]:
    """Width and height in inches of a page with one column of panels per task; never too narrow for a caption."""
    return max(7.0, margin + panel_width * len(tasks)), max(2.2, 0.55 + rows * panel_height)


def pages(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks in portions that fit side by side."""
    return [list(tasks[start : start + TASKS_PER_PAGE]) for start in range(0, len(tasks), TASKS_PER_PAGE)]


def head_column(panel: Axes, task: Task, previous: Task | None, note: str = "") -> None:
    """Title a column with its task; where a level begins, its name stands above, over the first of its columns."""
    level = ""
    if task.level and (previous is None or previous.level != task.level):
        level = LEVEL_WORDS.get(task.level, task.level)
    # A line of its own for the level in every column keeps the panels level with each other.
    panel.set_title("\n".join(filter(None, (level or " ", task.label, note))), loc="left", linespacing=1.25)


def previous_of(tasks: Sequence[Task], index: int) -> Task | None:
    """The task to the left, or None at the start of a page."""
    return tasks[index - 1] if index else None


def layer_ticks(panel: Axes, layers: Sequence[int], places: Sequence[float] | None = None, most: int = 8) -> None:
    """Mark layers on the x axis, thinned out where there are many; layer −1 reads `emb` (before the first layer)."""
    where = list(range(len(layers))) if places is None else list(places)
    regular = [index for index, layer in enumerate(layers) if layer != EMBEDDING]
    step = max(1, -(-len(regular) // most))
    shown = [index for index, layer in enumerate(layers) if layer == EMBEDDING] + regular[::step]
    panel.set_xticks([where[index] for index in shown])
    panel.set_xticklabels(["emb" if layers[index] == EMBEDDING else str(layers[index]) for index in shown])


def diverging_map() -> Colormap:
    """Blue through white to red; cells without a value are grey, which no value is."""
    return matplotlib.colormaps["RdBu_r"].with_extremes(bad=NULL_COLOUR)


def hatch_cells(panel: Axes, where: NDArray[np.bool_], colour: str = "#555555") -> None:
    """Hatch the cells `[rows, columns]` of an image in `panel`."""
    boxes = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in zip(*np.nonzero(where), strict=True)]
    if boxes:
        panel.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, hatch="/////", linewidth=0))


def largest(values: Sequence[NDArray[np.float64]], least: float) -> float:
    """The largest absolute value, NaN aside, and at least `least`: the end of a scale around zero."""
    known = np.concatenate([array[np.isfinite(array)].ravel() for array in values]) if len(values) else np.zeros(0)
    return max(least, float(np.abs(known).max())) if known.size else least


def say_in_panel(panel: Axes, text: str, colour: str = "#555555") -> None:
    """Words in the middle of a panel that has nothing to show, instead of an empty or zero plot."""
    panel.text(0.5, 0.5, textwrap.fill(text, 22), transform=panel.transAxes, ha="center", va="center", fontsize=8, color=colour)


def bare(panel: Axes) -> None:
    """Leave a panel its frame but no ticks."""
    panel.set_xticks([])
    panel.set_yticks([])
