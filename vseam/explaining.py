"""`explain` from Python: one question about one image, without a dataset; the result shows itself and writes its page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam.notebook import ShownInNotebooks, shown_figure
from vseam.opening import Opening, model_name
from vseam_core.results.explanation import Explanation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vseam_core.api.interfaces import VisionLanguageModel
    from vseam_core.api.types import Box
    from vseam_core.config.editor_settings import EditorChoice
    from vseam_core.report.data.page_data import PageData


@dataclass(frozen=True, eq=False, repr=False)
class ExplanationResult(ShownInNotebooks, Explanation):
    """An explanation that shows itself: `frame` is a table, `plot()` a figure, `save(folder)` writes the page."""

    views = ("explained",)

    @cached_property
    def page(self) -> PageData:
        """The data of the interactive page."""
        from vseam_core.report.data.explained import explanation_page_data

        return explanation_page_data(self)

    @property
    def sentences(self) -> list[str]:
        """What the numbers say, the last sentence being that one sample is no claim."""
        from vseam_core.report.tables.explained import explained_sentences

        return explained_sentences(self)

    def plot(self) -> Figure:
        """Both images with the attention of the last position, the traced words, and the heads."""
        from vseam_core.report.figures.explained import explained_figure

        return shown_figure(explained_figure(self))

    def save(self, folder: str | Path | None = None) -> Path:
        """Write the page into a folder (default: the next `reports/explain-N`); returns the file. Raises `VseamError`."""
        from vseam_core.report.explained import write_explanation

        return write_explanation(self, None if folder is None else Path(folder))

    def _repr_html_(self) -> str:
        from vseam.shown import tables_html
        from vseam_core.report.tables.explained import explained_tables

        items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in (*self.sentences, *self.remarks))
        return f"<h4>{html.escape(self.question)}</h4><ul>{items}</ul>{tables_html(explained_tables(self))}"

    def __repr__(self) -> str:
        return f"<ExplanationResult: {self.model} answers {self.clean.text!r}, {self.edited.text!r} on the edited image (n = 1)>"


def explain(
    model: str | Path | VisionLanguageModel,
    image: Any,
    question: str,
    *,
    edited: Any = None,
    edit: str = "",
    noise: bool = False,
    box: Box | Sequence[Box] = (),
    answer: str = "",
    against: str = "",
    editor: EditorChoice | str | None = None,
    **opening: Any,
) -> ExplanationResult:
    """Explain one answer, as `vseam explain` does: edit the image, trace words and layers, score every head, read lens and attention.

        found = vseam.explain("llava-tiny", "dog.png", "Is the dog red?", edit="red -> blue", box=(40, 30, 120, 90))
        found, found.plot(), found.save()

    `image` and `edited` are paths, bytes, images of Pillow's, or uint8 pixels `[height, width, 3]`. `box` is one or several
    `(x0, y0, x1, y1)` in pixels. `answer` is what is explained (default: the model's own), `against` what it is held against. `opening`:
    `workspace` (its loaded model is used again), or `database`, `device`, `seed`, `memory_budget`, `loading`, `progress`.
    Raises `VseamError` kinds with one line for what cannot be asked.
    """
    from vseam_core.config.editor_settings import editor_choice
    from vseam_core.datasets.images import image_source
    from vseam_core.experiments.explain.options import ExplainOptions
    from vseam_core.experiments.explain.running import explain as run

    options = ExplainOptions(
        image=image_source(image),
        question=question,
        edited=None if edited is None else image_source(edited),
        edit=edit,
        noise=noise,
        boxes=_boxes(box),
        answer=answer,
        against=against,
        editor=None if editor is None else editor_choice(editor),
    )
    options.check()
    with Opening(**opening).open() as workspace:
        return ExplanationResult(**vars(run(workspace, model_name(workspace, model), options)))


def _boxes(box: Box | Sequence[Box]) -> tuple[Box, ...]:
    """One box or several as several."""
    parts: list[Any] = list(box)
    return (tuple(parts),) if parts and not isinstance(parts[0], Sequence) else tuple(tuple(part) for part in parts)
