"""Maps of attention heads, layers × heads: what replacing each head does, and which heads pass a claim."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from vseam_core.analysis.head_claims import MINIMUM_RELIABILITY, SIGNIFICANCE
from vseam_core.analysis.heads import HeadScores, Sign
from vseam_core.analysis.statistics import Array
from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import Page, styled
from vseam_core.report.head_states import map_state, passing_heads
from vseam_core.report.tasks import Task
from vseam_core.results.study_results import HeadMap

SIGNS: tuple[Sign, ...] = ("positive", "negative")
ROW_WORDS: dict[Sign, str] = {"positive": "positive heads:\nall sampled", "negative": "negative heads:\nwrong answers"}
LEAST_NATS = 1e-3
LEAST_PROBABILITY = 1e-5
PUBLISHED_CAPTION = (
    "Positive: mean over correctly answered samples of max(0, base − replaced) of the answer's probability; negative: mean over "
    "wrongly answered ones of max(0, replaced − base). Shown for parity with the published scripts only: the maximum rewards "
    "variance, so that effects without any direction score above 0 too, and no significance is claimed."
)


@styled
def head_maps(maps: Sequence[HeadMap], tasks: Sequence[Task], model: str) -> Figure:
    """The claims of one model and operation: positive and negative heads × tasks, each panel heads × layers, in nats.

    `maps` are those of one operation. Claims are ringed; a map that is not resolved is faint and says so, one with too few answers
    is not shown.
    """
    of_task = {scan.dataset: scan for scan in maps}
    values = {
        (sign, task.dataset): _claim_values(of_task[task.dataset].claims, sign)
        for sign in SIGNS
        for task in tasks
        if task.dataset in of_task
    }
    title = f"{model}: what replacing one attention head does to the logit difference"
    caption = _claims_caption(maps[0]) + _blank_heads([found for found in values.values() if found is not None])
    figure, panels = _page(title, caption, tasks, maps[0].claims.shape)
    for row, sign in enumerate(SIGNS):
        end = drawing.largest([found for (key, _), found in values.items() if key == sign and found is not None], LEAST_NATS)
        image = None
        for column, task in enumerate(tasks):
            scan = of_task.get(task.dataset)
            panel = panels[row, column]
            if scan is None:
                drawing.bare(panel)
                drawing.say_in_panel(panel, "not scanned")
                continue
            image = _draw_claims(panel, scan.claims, sign, values[sign, task.dataset], end) or image
        _label_row(figure, panels[row], image, ROW_WORDS[sign], "base − replaced (nats)")
    _label_columns(panels, tasks)
    ring = Line2D([], [], marker="o", markerfacecolor="none", color=drawing.BLACK, linestyle="", markersize=6, label="passes the claim")
    drawing.add_legend(figure, [ring], 1)
    return figure


@styled
def published_head_maps(maps: Sequence[HeadMap], tasks: Sequence[Task], model: str) -> Figure:
    """The published scores of one model and operation, in probability: no claim, no significance."""
    of_task = {scan.dataset: scan.published for scan in maps if scan.published is not None}
    shape = maps[0].claims.shape
    title = f"{model}: head scores by the published formulas (replaced by {maps[0].replaced_by})"
    drawn = [values for scores in of_task.values() for sign in SIGNS if (values := scores.map(sign)) is not None]
    figure, panels = _page(title, PUBLISHED_CAPTION + _blank_heads(drawn), tasks, shape, legend_lines=0)
    for row, sign in enumerate(SIGNS):
        found = {dataset: scores.map(sign) for dataset, scores in of_task.items() if map_state(scores, sign).shown}
        end = drawing.largest([values for values in found.values() if values is not None], LEAST_PROBABILITY)
        image = None
        for column, task in enumerate(tasks):
            panel, scores = panels[row, column], of_task.get(task.dataset)
            values = found.get(task.dataset)
            if values is None or scores is None:
                drawing.bare(panel)
                drawing.say_in_panel(panel, map_state(scores, sign).words if scores else "not scanned", drawing.RED)
                continue
            image = _image(panel, values, end, "viridis", 0.0)
            panel.set_xlabel(f"n = {scores.n_correct if sign == 'positive' else scores.n_wrong}", fontsize=drawing.font(7.5))
        _label_row(figure, panels[row], image, f"{sign} score", "probability")
    _label_columns(panels, tasks)
    return figure


def _claim_values(scores: HeadScores, sign: Sign) -> Array | None:
    """The signed means of a map `[layers, heads]`, or None where it is not shown."""
    if not map_state(scores, sign).shown:
        return None
    return scores.map("support" if sign == "positive" else "mean_wrong")


def _draw_claims(panel: Axes, scores: HeadScores, sign: Sign, values: Array | None, end: float) -> AxesImage | None:
    state = map_state(scores, sign)
    if values is None:
        drawing.bare(panel)
        drawing.say_in_panel(panel, state.words, drawing.RED)
        return None
    image = _image(panel, values, end, "RdBu_r", -end)
    if not state.resolved:
        image.set_alpha(0.3)
        drawing.hatch_cells(panel, np.ones(values.T.shape, dtype=bool))
        drawing.say_in_panel(panel, state.words, drawing.RED)
    else:
        panel.set_xlabel(state.words, fontsize=drawing.font(7.5))
    layers, heads = np.nonzero(passing_heads(scores, sign))
    size = 6.0 if max(values.shape) <= 16 else 3.0
    rings = panel.plot(layers, heads, "o", markerfacecolor="none", color=drawing.BLACK, markersize=size, markeredgewidth=1.0)
    rings[0].set_path_effects([withStroke(linewidth=2.2, foreground="white")])
    return image


def _image(panel: Axes, values: Array, end: float, colours: str, start: float) -> AxesImage:
    """A map with layers from left to right and heads upwards, as in all figures of the report."""
    image = panel.imshow(
        np.ma.masked_invalid(values.T), cmap=colours, vmin=start, vmax=end, aspect="auto", origin="lower", interpolation="nearest"
    )
    drawing.layer_ticks(panel, range(values.shape[0]))
    step = max(1, values.shape[1] // 8)
    panel.set_yticks(range(0, values.shape[1], step))
    panel.spines[:].set_visible(False)
    return image


def _page(title: str, caption: str, tasks: Sequence[Task], shape: tuple[int, int], legend_lines: int = 1) -> tuple[Figure, np.ndarray]:
    side = 1.5 if max(shape) <= 16 else 2.0
    page = Page(1.5, side, left=0.95, right=0.95, above=0.45, below=0.6, row_gap=0.55, legend_lines=legend_lines)
    return drawing.new_page(len(SIGNS), len(tasks), page, title, caption)


def _label_row(figure: Figure, panels: np.ndarray, image: AxesImage | None, words: str, unit: str) -> None:
    panels[0].set_ylabel(f"{words}\n\nhead", linespacing=1.15)
    for panel in panels[1:]:
        panel.set_yticklabels([])
    if image is not None:
        drawing.add_colour_bar(figure, image, panels, unit)


def _label_columns(panels: np.ndarray, tasks: Sequence[Task]) -> None:
    drawing.head_columns(panels, tasks)
    for panel in panels[-1]:
        panel.annotate("layer", (0.5, 0), (0, -33), xycoords="axes fraction", textcoords="offset points", ha="center", va="top")


def _blank_heads(drawn: Sequence[Array]) -> str:
    """What a blank cell means, where a scan was a screening."""
    if not any(np.isnan(values).any() for values in drawn):
        return ""
    return " Blank heads were not replaced: only those with the largest gradient estimates were, and some at random."


def _claims_caption(scan: HeadMap) -> str:
    parity = " This operation is for parity with the published scripts: findings rest on the others." if scan.replacement.parity else ""
    return (
        f"Each head is replaced by {scan.replaced_by}; colour: mean over samples of the logit difference "
        "before minus after. Red: the head supports the right answer; blue: it works against it. A ring marks heads whose effect "
        f"holds for gold yes and gold no alike (false discovery rate q < {SIGNIFICANCE:g} over all heads), of negative ones those "
        "without which accuracy rose on test images too (the others are candidates at most). Faint and "
        f"hatched: not resolved, the split-half reliability over images is below {MINIMUM_RELIABILITY:g}, so the pattern is not a "
        f"finding. Not tested: too few images with gold yes or gold no.{parity}"
    )
