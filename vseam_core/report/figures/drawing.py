"""What all figures of the report share: one look whatever the user's settings, a page laid out in inches, captions in words.

Figures are built without pyplot, so nothing is registered anywhere and a figure is gone when its last reference is. Margins are
given and not searched for, which is fast and always comes out the same. Colours are those of Okabe and Ito, which colour-blind
readers can tell apart; maps around zero run from blue to red.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PatchCollection
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from vseam_core.files import write_atomically
from vseam_core.report.tasks import Task

DOTS_PER_INCH = 110
PRINT_DOTS_PER_INCH = 200
FONT_SIZE = 8.5
"""Points of the labels, unless `lettering` says otherwise; other texts keep their proportion to it."""
TASKS_PER_PAGE = 7
EMBEDDING = -1

BLUE, ORANGE, GREEN, PURPLE, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#222222"
NULL_COLOUR = "#C4C4C4"
BAND_COLOUR = "#9E9E9E"
HATCH, HATCH_COLOUR = "////", "#A8A8A8"
LEVEL_WORDS = {"object": "object level", "attribute": "attribute level", "relation": "relation level"}

_TEXT_SIZES: Any = {
    "font.size": FONT_SIZE, "axes.titlesize": 9, "axes.labelsize": FONT_SIZE, "xtick.labelsize": 8, "ytick.labelsize": 8, 
    "legend.fontsize": 8,
}  # fmt: skip
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "pdf.fonttype": 42,  # letters stay letters, which journals ask for
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
}
_TITLE_POINTS, _CAPTION_POINTS = 11.5, 8
_TITLE_INCHES, _LEGEND_INCHES, _CAPTION_LINE, _EDGE = 0.32, 0.22, 0.155, 0.1
_CHARACTERS_PER_INCH, _TITLE_CHARACTERS_PER_INCH, _TITLE_LINE = 16.5, 10.2, 0.19
_NARROWEST, _WIDEST_PANEL = 7.5, 3.4
_CAPTION_MARK = "caption"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Panels = NDArray[Any]


@dataclass(frozen=True)
class Page:
    """The measures of a page in inches: each panel, the room around all panels, the gaps between them, lines of legend."""

    panel_width: float
    panel_height: float
    left: float = 0.8
    right: float = 0.2
    above: float = 0.6
    below: float = 0.5
    column_gap: float = 0.15
    row_gap: float = 0.2
    legend_lines: int = 1


_SCALE: ContextVar[float] = ContextVar("how much larger than usual all texts are", default=1.0)


@contextmanager
def lettering(points: float) -> Iterator[None]:
    """Figures that are drawn in this context have labels of that size: texts and the room for them grow, panels stay as large."""
    before = _SCALE.set(points / FONT_SIZE)
    try:
        yield
    finally:
        _SCALE.reset(before)


def font(points: float) -> float:
    """The size of a text that has so many points where labels have `FONT_SIZE`."""
    return points * _SCALE.get()


def styled(draw: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Runs a drawing function under the report's own settings and puts the user's back."""

    @wraps(draw)
    def inside(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            matplotlib.rcParams.update({name: font(points) for name, points in _TEXT_SIZES.items()})
            return draw(*arguments, **options)

    return inside


def new_page(rows: int, columns: int, page: Page, title: str, caption: str, **sharing: Any) -> tuple[Figure, Panels]:
    """A figure with its title above, its caption below and `rows` × `columns` panels between; panels `[rows, columns]`.

    Few columns are drawn wider, so that title and caption have room.
    """
    scale = _SCALE.get()
    sides = {name: scale * getattr(page, name) for name in ("left", "right", "above", "below", "column_gap", "row_gap")}
    page, edge, narrowest = replace(page, **sides), _EDGE * scale, _NARROWEST * scale
    gaps = page.column_gap * (columns - 1)
    wanted = (narrowest - page.left - page.right - gaps) / columns
    panel_width = max(page.panel_width, min(_WIDEST_PANEL, wanted))
    width = max(narrowest, page.left + page.right + gaps + columns * panel_width)
    lines = textwrap.wrap(caption, int((width - 2 * edge) * _CHARACTERS_PER_INCH / scale))
    below = page.below + scale * _CAPTION_LINE * len(lines) + 2 * edge
    title_lines = textwrap.wrap(title, int((width - 2 * edge) * _TITLE_CHARACTERS_PER_INCH / scale))
    above = scale * (_TITLE_INCHES + _TITLE_LINE * (len(title_lines) - 1) + page.legend_lines * _LEGEND_INCHES) + page.above
    tall = rows * page.panel_height + page.row_gap * (rows - 1)
    height = above + tall + below
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    places = {
        "left": page.left / width,
        "right": (page.left + columns * panel_width + gaps) / width,
        "bottom": below / height,
        "top": 1 - above / height,
        "wspace": page.column_gap / panel_width,
        "hspace": page.row_gap / page.panel_height,
    }
    panels = np.asarray(figure.subplots(rows, columns, squeeze=False, gridspec_kw=places, **sharing))
    left, top = edge / width, 1 - 0.08 * scale / height
    figure.suptitle("\n".join(title_lines), x=left, y=top, ha="left", va="top", fontsize=font(_TITLE_POINTS), fontweight="bold")
    text = figure.text(left, edge / height, "\n".join(lines), fontsize=font(_CAPTION_POINTS), color="#444444", va="bottom")
    text.set_gid(_CAPTION_MARK)
    return figure, panels


def add_legend(figure: Figure, handles: Sequence[Any], columns: int) -> None:
    """The figure's legend on the lines below its title."""
    width, height = figure.get_size_inches()
    scale = _SCALE.get()
    title_lines = 1 + figure.get_suptitle().count("\n")
    anchor = (scale * _EDGE / width, 1 - scale * (_TITLE_INCHES + _TITLE_LINE * (title_lines - 1)) / height)
    figure.legend(
        handles=list(handles),
        loc="upper left",
        bbox_to_anchor=anchor,
        ncols=columns,
        handlelength=1.8,
        borderaxespad=0,
        borderpad=0.2,
        columnspacing=1.6,
    )


def add_colour_bar(figure: Figure, image: AxesImage, panels: Panels, label: str) -> None:
    """A colour bar to the right of `panels`, as tall as they are (at most 2.6 inches) and for all of them."""
    width, height = figure.get_size_inches()
    boxes = [panel.get_position() for panel in panels.flat]
    right, bottom, top = max(box.x1 for box in boxes), min(box.y0 for box in boxes), max(box.y1 for box in boxes)
    tall = min(top - bottom, 2.6 / height)
    axes = figure.add_axes((right + 0.12 / width, (bottom + top - tall) / 2, 0.12 / width, tall))
    bar = figure.colorbar(image, cax=axes)
    if bar.solids is not None:
        # A faint map's colours mean the same as a plain one's.
        bar.solids.set_alpha(1.0)
    bar.set_label(label)
    axes.spines[:].set_visible(False)


def caption_of(figure: Figure) -> str:
    """The caption that `new_page` wrote, in one line."""
    return next((" ".join(text.get_text().split()) for text in figure.texts if text.get_gid() == _CAPTION_MARK), "")


def title_of(figure: Figure) -> str:
    """The title that `new_page` wrote."""
    return " ".join(figure.get_suptitle().split())


_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None}, "svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}  # fmt: skip


def save_figure(figure: Figure, stem: Path, pdf: bool = False) -> list[Path]:
    """Write a PNG, an SVG and, where it is wanted, a PDF that depend on the figure alone: no date, no library version.

    Raises `OSError` where it cannot be written.
    """
    written = []
    for kind in ("png", "svg", *(("pdf",) if pdf else ())):
        metadata = _METADATA[kind]
        path = stem.with_name(f"{stem.name}.{kind}")
        write_atomically(path, partial(_save, figure, kind, metadata, stem.name))
        written.append(path)
    return written


@styled
def _save(figure: Figure, kind: str, metadata: dict[str, None], salt: str, file: Any) -> None:
    # The names of an SVG's parts are random unless they have a salt.
    matplotlib.rcParams["svg.hashsalt"] = salt
    figure.savefig(file, format=kind, dpi=PRINT_DOTS_PER_INCH, metadata=metadata)


def pages(tasks: Sequence[Task]) -> list[list[Task]]:
    """The tasks in portions that fit side by side."""
    return [list(tasks[start : start + TASKS_PER_PAGE]) for start in range(0, len(tasks), TASKS_PER_PAGE)]


def head_columns(panels: Panels, tasks: Sequence[Task], notes: Sequence[str] = ()) -> None:
    """Title the columns with their tasks; where a level begins, its name stands above the first of its columns."""
    before = None
    for index, task in enumerate(tasks):
        level = LEVEL_WORDS.get(task.level, task.level) if task.level and task.level != before else ""
        lines = [task.label, *notes[index : index + 1]]
        panel = panels[0, index]
        panel.set_title("\n".join(filter(None, lines)), loc="left", linespacing=1.25, pad=4)
        if level:
            above = (0, font(6 + 11.5 * len(lines)))
            style: dict[str, Any] = {"fontsize": font(8.5), "fontstyle": "italic", "color": "#555555"}
            panel.annotate(level, (0, 1), above, xycoords="axes fraction", textcoords="offset points", **style)
        before = task.level


def layer_ticks(panel: Axes, layers: Sequence[int], places: Sequence[float] | None = None) -> None:
    """Mark layers on the x axis, thinned out where there are many; layer −1 reads `emb` (before the first layer)."""
    where = list(range(len(layers))) if places is None else list(places)
    regular = [index for index, layer in enumerate(layers) if layer != EMBEDDING]
    most = 8 if len(regular) <= 10 else 6
    step = max(1, -(-len(regular) // most))
    # In a deep model `emb` would run into layer 0.
    first = regular[::step] if len(regular) == len(layers) or len(regular) <= 10 else regular[step::step]
    shown = [index for index, layer in enumerate(layers) if layer == EMBEDDING] + first
    panel.set_xticks([where[index] for index in shown], ["emb" if layers[i] == EMBEDDING else str(layers[i]) for i in shown])


def diverging_map() -> Colormap:
    """Blue through white to red; cells without a value are grey, which no value is."""
    return matplotlib.colormaps["RdBu_r"].with_extremes(bad=NULL_COLOUR)


def hatch_cells(panel: Axes, where: NDArray[np.bool_], colour: str = HATCH_COLOUR) -> None:
    """Hatch the cells `[rows, columns]` of an image in `panel`."""
    boxes = [Rectangle((column - 0.5, row - 0.5), 1, 1) for row, column in zip(*np.nonzero(where), strict=True)]
    if boxes:
        panel.add_collection(PatchCollection(boxes, facecolor="none", edgecolor=colour, hatch=HATCH, linewidth=0), autolim=False)


def largest(values: Sequence[NDArray[np.float64]], least: float) -> float:
    """The largest absolute value, NaN aside, and at least `least`: the end of a scale around zero."""
    known = np.concatenate([array[np.isfinite(array)].ravel() for array in values]) if len(values) else np.zeros(0)
    return max(least, float(np.abs(known).max())) if known.size else least


def say_in_panel(panel: Axes, text: str, colour: str = "#555555") -> None:
    """Words in the middle of a panel that has nothing to show, instead of an empty or zero plot."""
    ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2.5}
    # Non-breaking: `n = 40` stays together.
    words = textwrap.fill(text.replace(" = ", "\u00a0=\u00a0"), 20)
    panel.text(0.5, 0.5, words, transform=panel.transAxes, ha="center", va="center", fontsize=font(8), color=colour, bbox=ground)


def bare(panel: Axes) -> None:
    """Leave a panel its frame but no ticks."""
    panel.set_xticks([])
    panel.set_yticks([])
