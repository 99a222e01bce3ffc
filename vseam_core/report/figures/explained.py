"""One explained answer as a figure: both images, where the last position looks, which words carry the answer at which layer, the heads."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vseam_core.api.types import TraceEffect
from vseam_core.report.figures import drawing
from vseam_core.report.figures.drawing import styled
from vseam_core.report.tables.explained import patched_cells
from vseam_core.report.words import SITE_WORDS
from vseam_core.results.explanation import Explanation

_CAPTION = "n = 1: one image, one question. Blue to red: nats of the logit difference; nothing here is tested."


@styled
def explained_figure(found: Explanation) -> Figure:
    """Images above, below them the traced words and the heads of the first operation."""
    cells = patched_cells(found)
    figure = Figure(figsize=(11, 4.2 + 2.1 * len(cells)), dpi=drawing.DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.2, 1 + 2.1 * max(1, len(cells))))[:, 0]
    panels = above.subplots(1, 3)
    _draw_image(panels[0], found, clean=True)
    _draw_image(panels[1], found, clean=False)
    _draw_attention(panels[2], found)
    left, right = below.subfigures(1, 2, squeeze=False, width_ratios=(2.4, 1))[0]
    for panel, effect in zip(np.atleast_1d(left.subplots(max(1, len(cells)), 1, sharex=True)), cells, strict=False):
        _draw_cells(panel, found, effect)
    _draw_heads(right.subplots(), found)
    figure.suptitle(f"{found.model}: {found.question}", fontweight="bold")
    figure.supxlabel(_CAPTION, fontsize=drawing.font(8), color="#444444")
    return figure


def _draw_image(panel: Axes, found: Explanation, clean: bool) -> None:
    answered = found.clean if clean else found.edited
    panel.imshow(np.asarray(answered.image))
    drawing.bare(panel)
    panel.set_title(f"{'image' if clean else 'edited'}: {answered.text!r} ({answered.logit_diff:+.2f} nats)")
    for x0, y0, x1, y1 in () if clean else found.edit.boxes:
        panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=drawing.ORANGE, linewidth=1.5))


def attention_on_image(found: Explanation, values: np.ndarray) -> np.ndarray | None:
    """Weights `[image positions]` as a map over the image's pixels, or None where positions have no place in it."""
    boxes = found.prompt.image_boxes
    if boxes is None:
        return None
    width, height = found.clean.image.size
    total, count = np.zeros((height, width)), np.zeros((height, width))
    for (x0, y0, x1, y1), value in zip(boxes, values, strict=True):
        rows, columns = slice(round(y0 * height), round(y1 * height)), slice(round(x0 * width), round(x1 * width))
        total[rows, columns] += value
        count[rows, columns] += 1
    return np.divide(total, count, out=np.zeros_like(total), where=count > 0)


def _draw_attention(panel: Axes, found: Explanation) -> None:
    """The mean over heads of the layer that looks at the image most."""
    drawing.bare(panel)
    effect = next(
        (one for one in found.traces if one.measure == "weight" and one.direction == "clean" and one.site_kind.endswith("_last")), None
    )
    places = list(found.prompt.image_positions)
    if effect is None or not places:
        drawing.say_in_panel(panel, "attention was not read")
        return
    weights = effect.values[:, places]
    layer = int(weights.sum(1).argmax())
    over = attention_on_image(found, weights[layer])
    panel.set_title(f"attention at layer {effect.layers[layer]}: {weights[layer].sum():.0%} to the image")
    if over is None:
        drawing.say_in_panel(panel, "positions have no place in the image")
        return
    panel.imshow(np.asarray(found.clean.image.convert("L")), cmap="gray")
    panel.imshow(over, cmap="viridis", alpha=0.65)


def _draw_cells(panel: Axes, found: Explanation, effect: TraceEffect) -> None:
    end = drawing.largest([effect.values], 0.05)
    panel.imshow(effect.values, cmap=drawing.diverging_map(), vmin=-end, vmax=end, aspect="auto", origin="lower")
    words = found.column_words(effect)
    panel.set_xticks(range(len(words)), words, rotation=45, ha="right")
    drawing_layers = range(0, len(effect.layers), max(1, len(effect.layers) // 8))
    panel.set_yticks(list(drawing_layers), [str(effect.layers[index]) for index in drawing_layers])
    panel.set_ylabel("layer")
    panel.set_title(f"{SITE_WORDS.get(effect.site_kind, effect.site_kind)}, ±{end:.1f} nats", loc="left")


def _draw_heads(panel: Axes, found: Explanation) -> None:
    if not found.operations:
        drawing.bare(panel)
        drawing.say_in_panel(panel, "heads were not scored")
        return
    operation = found.operations[0]
    values = found.head_map(operation)
    end = drawing.largest([values], 0.05)
    panel.imshow(values, cmap=drawing.diverging_map(), vmin=-end, vmax=end, origin="lower")
    panel.set_xlabel("head")
    panel.set_ylabel("layer")
    for head, value in found.strongest_heads(operation, 3):
        panel.annotate(f"{value:+.1f}", (head.head, head.layer), ha="center", va="center", fontsize=drawing.font(7))
    panel.set_title(f"heads replaced by\n{found.replacements.get(operation, operation)}, ±{end:.1f} nats", loc="left")
