"""Figures of what has to beat its controls: ablations beside random sets, rescaling beside a bias and shuffled scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import Page, styled
from vseam_core.report.head_states import exploratory
from vseam_core.report.summaries import AblationSummary, RescalingSummary, Row, ablation_summaries, rescaling_summaries
from vseam_core.report.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.analysis.heads import HeadScores

MOST_BINS = 24
LEAST_POINTS = 1.0
"""Percentage points that the axis of gains reaches at least, so that nothing does not look like something."""
SERIES: tuple[tuple[str, str, str, str], ...] = (
    ("fitted", "fitted rescaling", drawing.BLUE, "o"),
    ("bias", "yes/no bias", drawing.GREEN, "D"),
    ("published", "published recipe", drawing.ORANGE, "s"),
    ("shuffled", "shuffled within layers (mean, range)", "#777777", "^"),
    ("transfer", "on other categories (mean, range)", drawing.PURPLE, "v"),
)
ABLATION_CAPTION = (
    "Heads selected on the score pool, ablated on test images (line), beside random sets of the same size, matched in layer and in "
    "the norm of what they write and without the selected heads (bars). p = (1 + random sets at least as far right) / (1 + random "
    "sets): the line has to lie right of nearly all bars. Positive heads have to lower accuracy, negative heads to raise pair "
    "accuracy. Exploratory: no head passed the claim, so the highest ranked were taken."
)
RESCALING_CAPTION = (
    "Head outputs multiplied by factors that were chosen on one pool of images, accuracy measured on another: gain over the "
    "unchanged model on the same samples. Bars: 95 % intervals, clustered by image. The fitted gain (blue) has "
    "to beat zero, a mere shift of the yes/no threshold (green), the published recipe (orange) and the same factors dealt to "
    "other heads of their layers (grey); purple: what it does elsewhere. λ and k are the chosen strength and heads per sign; "
    "exploratory: fitted to heads that pass no claim."
)


@styled
def ablation_histograms(
    ablations: pd.DataFrame, tasks: Sequence[Task], model: str, claims: Mapping[str, HeadScores] | None = None
) -> Figure:
    """Random sets' effects as histograms with the selected set as a line: sign and operation × tasks.

    `ablations` is the store's table. Positive heads: drop in accuracy; negative heads: gain in pair accuracy. `claims` are the head
    scores by dataset: sets of heads that pass no claim there are labelled as exploratory.
    """
    summaries = ablation_summaries(ablations, model, tasks)
    kinds = list(dict.fromkeys((found.sign, found.operation) for found in summaries))
    kinds.sort(key=lambda kind: kind[0] != "positive")
    title = f"{model}: ablation of the selected heads against matched random sets"
    page = Page(1.55, 0.95, left=1.0, above=0.45, row_gap=0.76, column_gap=0.25, legend_lines=0)
    figure, panels = drawing.new_page(len(kinds), len(tasks), page, title, ABLATION_CAPTION)
    for (row, column), panel in np.ndenumerate(panels):
        sign, operation = kinds[row]
        of_task = [found for found in summaries if (found.sign, found.operation, found.task) == (sign, operation, tasks[column])]
        if of_task:
            _draw_histogram(panel, of_task[-1], (claims or {}).get(tasks[column].dataset))
        else:
            drawing.bare(panel)
            drawing.say_in_panel(panel, "no heads were selected")
        if column == 0:
            panel.set_ylabel(f"{sign} heads\n{operation.replace('_', ' ')}\n\nrandom sets")
            # As far from every row's axis, however wide its tick labels are.
            panel.yaxis.set_label_coords(-0.38 / (panel.get_position().width * figure.get_figwidth()), 0.5)
    drawing.head_columns(panels, tasks)
    return figure


def _draw_histogram(panel: Axes, found: AblationSummary, scores: HeadScores | None) -> None:
    values, selected = 100 * np.array(found.effect.random), 100 * found.effect.selected
    colour = drawing.BLUE if found.sign == "positive" else drawing.RED
    if len(values):
        panel.hist(values, bins=_bins(np.append(values, selected), 100 / found.n), color="#BDBDBD", edgecolor="white", linewidth=0.4)
    else:
        panel.set_yticks([])
    panel.axvline(0, color="#888888", linewidth=0.7, linestyle=":")
    panel.axvline(selected, color=colour, linewidth=2)
    p_value = found.effect.p_value
    panel.set_title("no random sets" if p_value is None else f"p = {p_value:.3f}", loc="right", fontsize=drawing.font(7.5))
    direction = "drop in" if found.sign == "positive" else "gain in"
    kind = " exploratory" if exploratory(scores, found.heads, found.sign) else ""
    words = f"k = {len(found.heads)}{kind}, {found.split}, n = {found.n}"
    panel.set_xlabel(f"{direction} {found.measure} (% points)\n{words}", fontsize=drawing.font(7))
    panel.margins(y=0.1)


def _bins(values: np.ndarray, step: float) -> list[float]:
    """Bins whose middles lie on multiples of what one sample counts (or of several, where there would be too many bins)."""
    low, high = float(values.min()), float(values.max())
    width = step * max(1, int(np.ceil((high - low) / step / MOST_BINS)))
    first, last = np.floor(low / width), np.ceil(high / width)
    return [float(place) for place in (np.arange(first, last + 2) - 0.5) * width]


@styled
def rescaling_gains(modulations: pd.DataFrame, tasks: Sequence[Task], model: str, claims: Mapping[str, HeadScores] | None = None) -> Figure:
    """Gains in accuracy on the test pool, one panel per split: fitted scales beside every control, per task.

    `modulations` is the store's table; `claims` as in `ablation_histograms`.
    """
    summaries = rescaling_summaries(modulations, model, tasks)
    splits = list(dict.fromkeys(found.split for found in summaries))
    page = Page(max(6.0, 1.45 * len(tasks)), 1.9, above=0.25, below=0.6, row_gap=0.4, legend_lines=2)
    title = f"{model}: what head rescaling gains"
    figure, panels = drawing.new_page(len(splits), 1, page, title, RESCALING_CAPTION, sharex=True, sharey=True)
    for panel, split in zip(panels[:, 0], splits, strict=True):
        panel.axhline(0, color="#888888", linewidth=0.8)
        for place, task in enumerate(tasks):
            of_task = [found for found in summaries if (found.split, found.task) == (split, task)]
            if of_task:
                _draw_gains(panel, place, of_task[-1])
            else:
                panel.text(place, 0, "not rescaled", rotation=90, ha="center", va="center", fontsize=drawing.font(7.5), color="#555555")
        panel.set_title(f"{split} test images", loc="left")
        panel.set_ylabel("gain in accuracy\n(percentage points)")
        panel.set_xlim(-0.5, len(tasks) - 0.5)
        for edge in range(1, len(tasks)):
            panel.axvline(edge - 0.5, color="#E4E4E4", linewidth=0.7, zorder=0)
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(min(low, -LEAST_POINTS), max(high, LEAST_POINTS))
    panels[-1, 0].set_xticks(
        range(len(tasks)), [f"{task.label}\n{_setting(summaries, task, (claims or {}).get(task.dataset))}" for task in tasks]
    )
    _legend(figure, summaries)
    return figure


def _draw_gains(panel: Axes, place: int, found: RescalingSummary) -> None:
    for index, (name, _, colour, marker) in enumerate(SERIES):
        where = place + (index - (len(SERIES) - 1) / 2) * 0.16
        drawn = _spread(found.gains(name)) if name in ("shuffled", "transfer") else _with_error(getattr(found, name))
        if drawn is None:
            continue
        gain, down, up = (100 * value for value in drawn)
        panel.errorbar(
            where,
            gain,
            yerr=[[down], [up]],
            fmt=marker,
            color=colour,
            markersize=5,
            capsize=2.5,
            elinewidth=1.2,
            markeredgewidth=0.8,
        )


def _with_error(row: Row | None) -> tuple[float, float, float] | None:
    if row is None:
        return None
    gain = row["gain"]
    low, high = (gain if row[name] is None else row[name] for name in ("gain_low", "gain_high"))
    return gain, gain - low, high - gain


def _spread(gains: Sequence[float]) -> tuple[float, float, float] | None:
    if not gains:
        return None
    mean = float(np.mean(gains))
    return mean, mean - min(gains), max(gains) - mean


def _setting(summaries: Sequence[RescalingSummary], task: Task, scores: HeadScores | None) -> str:
    """What the choose pool chose for a task, for the axis."""
    row = next((found.fitted for found in summaries if found.task == task and found.fitted), None)
    if row is None:
        return ""
    if not row["scales"]:
        return "chosen: no change"
    clip = "" if row["clip"] is None else f", clip {row['clip']:g}"
    kind = "\nexploratory" if exploratory(scores, row["scales"], "positive", "negative") else ""
    return f"λ = {row['strength']:g}, k = {row['top_k']}{clip}{kind}"


def _legend(figure: Figure, summaries: Sequence[RescalingSummary]) -> None:
    has: dict[str, Callable[[RescalingSummary], bool]] = {
        name: lambda found, name=name: bool(getattr(found, name))  # type: ignore[misc]
        for name, _, _, _ in SERIES
    }
    handles: list[Line2D] = [
        Line2D([], [], color=colour, marker=marker, linestyle="", markersize=5, label=words)
        for name, words, colour, marker in SERIES
        if any(has[name](found) for found in summaries)
    ]
    drawing.add_legend(figure, handles, 3)
