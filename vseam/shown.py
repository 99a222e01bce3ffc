"""Results that show themselves: a table (`frame`), a figure (`plot()`), and what a notebook shows of them (`_repr_html_`)."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam.notebook import ShownInNotebooks, shown_figure
from vseam_core.errors import UnknownNameError, did_you_mean
from vseam_core.experiments.evaluation import Evaluation
from vseam_core.report.tables.table import ReportTable
from vseam_core.results.study_results import HeadMap, StudyMaterial

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from vseam_core.report.data.page_data import PageData

_NAMED_HEADS = 8
_HEAD_COLUMNS = ("layer", "head", "support", "low_support", "high_support", "q_positive", "claim_positive")


@dataclass(frozen=True, eq=False)
class StudyResult(ShownInNotebooks):
    """What a part of a study found: its `material`, with the tables and figures of its report, and its interactive `page`."""

    material: StudyMaterial
    page: PageData

    @cached_property
    def tables(self) -> list[ReportTable]:
        """The closing tables, as the command line prints them."""
        from vseam_core.report.tables.closing import closing_tables

        return closing_tables(self.material)

    @property
    def frame(self) -> pd.DataFrame:
        """The numbers as a table: one row for each cell or head."""
        raise NotImplementedError

    @property
    def figures(self) -> list[str]:
        """The names of the figures that `plot` draws."""
        from vseam_core.report.figures.planned import planned_figures

        return [name for name, _ in planned_figures(self.material)]

    def plot(self, name: str | None = None, font_size: float | None = None) -> Figure:
        """A figure of the report by its name, the first one by default, its labels of so many points (default 8.5).

        Raises `UnknownNameError` with the names there are.
        """
        from vseam_core.report.figures.drawing import FONT_SIZE, lettering
        from vseam_core.report.figures.planned import planned_figures

        drawn = dict(planned_figures(self.material))
        if not drawn or (name is not None and name not in drawn):
            raise UnknownNameError(f"there is no figure {name or ''!r}; {did_you_mean(name or '', drawn)}")
        with lettering(font_size or FONT_SIZE):
            return shown_figure(drawn[name or next(iter(drawn))]())

    def save(self, reports: str | Path = "reports", pdf: bool = False, font_size: float | None = None) -> Path:
        """Write the report, interactive page and figures, into a new folder of `reports`; returns the page. Raises `VseamError`.

        Figures are PNG and SVG, with `pdf` PDF too, their labels of so many points (default 8.5).
        """
        from vseam_core.report.figures.drawing import FONT_SIZE
        from vseam_core.report.writer import Print, add_report

        return add_report(self.material, Path(reports), self.page, Print(pdf=pdf, font_size=font_size or FONT_SIZE))[-1]

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.material.notes)
        return tables_html(self.tables) + notes

    def __repr__(self) -> str:
        rows = sum(len(table.rows) for table in self.tables)
        skipped = f", {len(self.material.skips)} samples skipped" if len(self.material.skips) else ""
        name = type(self).__name__
        return f"<{name}: {', '.join(self.material.models)} on {', '.join(self.material.datasets)}; {rows} rows in tables{skipped}>"


@dataclass(frozen=True, eq=False, repr=False)
class TraceResult(StudyResult):
    """Causal traces of one model on one dataset. `frame` has one row for each cell, averaged over pairs."""

    views = ("traces", "curves")

    @property
    def frame(self) -> pd.DataFrame:
        """The trace scores: tracer, site, direction, measure, layer, column, mean with its interval, share of the gap."""
        return self.material.traces


@dataclass(frozen=True, eq=False, repr=False)
class ScanResult(StudyResult):
    """Head scores of one model on one dataset. `frame` has one row for each head."""

    views = ("heads",)

    @property
    def heads(self) -> HeadMapResult:
        """The scan itself: scores by the claims and by the published formulas."""
        return HeadMapResult(**vars(self.material.heads[0]), page=self.page)

    @property
    def frame(self) -> pd.DataFrame:
        """The head scores by the claims: layer, head, means, intervals, q-values, flags."""
        return self.heads.claims.frame


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class HeadMapResult(ShownInNotebooks, HeadMap):
    """A head map that shows itself. `frame` has one row for each head."""

    page: PageData
    views = ("heads",)

    @property
    def frame(self) -> pd.DataFrame:
        """The head scores by the claims: layer, head, means, intervals, q-values, flags."""
        return self.claims.frame

    def _repr_html_(self) -> str:
        strongest = self.frame.sort_values("support", ascending=False).head(_NAMED_HEADS)
        columns = [name for name in _HEAD_COLUMNS if name in strongest]
        title = f"{self.model} on {self.dataset}, heads replaced by {self.replaced_by}: the strongest of {len(self.frame)}"
        return _html(title, columns, [list(row) for row in strongest[columns].itertuples(index=False)], ())

    def __repr__(self) -> str:
        return f"<HeadMapResult: {self.model} on {self.dataset}, {len(self.frame)} heads replaced by {self.replaced_by}>"


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult(Evaluation):
    """An evaluation that shows itself. `frame` has one row for each figure."""

    @property
    def frame(self) -> pd.DataFrame:
        """The figures with their errors: `metrics`."""
        return self.metrics

    def plot(self) -> Figure:
        """Every figure between 0 and 1 with its interval."""
        import pandas as pd
        from matplotlib.figure import Figure as Drawing

        rows = self.metrics[self.metrics["value"].between(0, 1) & (self.metrics["subset"] == "all")].iloc[::-1]
        figure = Drawing(figsize=(6.4, 1 + 0.34 * max(1, len(rows))), layout="constrained")
        panel = figure.add_subplot()
        places = range(len(rows))
        values = rows["value"].astype(float).to_numpy()
        panel.barh(places, values, color="#0072b2")
        for place, value, low, high in zip(places, values, rows["low"], rows["high"], strict=True):
            if not (pd.isna(low) or pd.isna(high)):
                panel.plot([float(low), float(high)], [place, place], color="black", linewidth=1.5)
            panel.annotate(f"{value:.3f}", (1.01, place), va="center", annotation_clip=False)
        panel.set_yticks(places, rows["metric"].tolist())
        panel.set_xlim(0, 1)
        panel.set_title(f"{self.model} on {self.dataset} ({self.pool}), n = {len(self.answers)}", loc="left", fontsize=10)
        return shown_figure(figure)

    def _repr_html_(self) -> str:
        columns = [name for name in ("metric", "subset", "value", "low", "high", "n", "clusters") if name in self.metrics]
        title = f"{self.model}{f', {self.change}' if self.change else ''} on {self.dataset} (pool {self.pool}, split {self.split})"
        return _html(title, columns, [list(row) for row in self.metrics[columns].itertuples(index=False)], ())

    def __repr__(self) -> str:
        return f"<EvaluationResult: {self.model} on {self.dataset}, {len(self.answers)} answers, {len(self.skips)} skipped>"


def tables_html(tables: Sequence[ReportTable]) -> str:
    """Tables as HTML, everything escaped."""
    return "".join(_html(table.title, table.columns, table.rows, table.notes) for table in tables)


def _html(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], notes: Sequence[str]) -> str:
    """A table as HTML, everything escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(_shown(value))}</td>" for value in row) + "</tr>" for row in rows)
    words = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in notes)
    return f"<h4>{html.escape(title)}</h4><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{words}"


def _shown(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
