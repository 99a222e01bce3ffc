"""The tables that close a study, in the order in which they are to be read."""

from __future__ import annotations

from collections.abc import Callable

from vseam_core.report.tables.answers import accuracy_table, skips_table
from vseam_core.report.tables.beside_effects import beside_effects_table
from vseam_core.report.tables.comparisons import comparison_tables
from vseam_core.report.tables.directions import directions_table
from vseam_core.report.tables.edges import edge_tables
from vseam_core.report.tables.evaluations import evaluation_table
from vseam_core.report.tables.heads import ablation_tables, head_table, published_table, suppressor_table
from vseam_core.report.tables.rescaling import rescaling_table
from vseam_core.report.tables.screening import screening_table
from vseam_core.report.tables.sharing import level_table, shared_table
from vseam_core.report.tables.table import ReportTable
from vseam_core.report.tables.traces import trace_tables
from vseam_core.results.study_results import StudyMaterial

__all__ = ["ReportTable", "closing_tables"]


Maker = Callable[[StudyMaterial], ReportTable | None]

_OF_STAGE: dict[str, tuple[Maker, ...]] = {
    "ablate": (lambda found: ablation_tables(found).get("positive"), lambda found: ablation_tables(found).get("negative")),
    "shared": (level_table, shared_table),
    "rescale": (rescaling_table,),
}
_IN_ORDER: tuple[Maker, ...] = (
    beside_effects_table,
    screening_table,
    lambda found: head_table(found, "positive"),
    lambda found: head_table(found, "negative"),
    suppressor_table,
    *_OF_STAGE["ablate"],
    *_OF_STAGE["shared"],
    *_OF_STAGE["rescale"],
    directions_table,
    published_table,
    skips_table,
)


def closing_tables(material: StudyMaterial, first: str = "") -> list[ReportTable]:
    """Everything a study found as compact tables; stages that were not asked for have none, and those of the stage `first` come first.

    Values are those of the study's own tables, unrounded; None is a value that is unknown, and the row says why.
    """
    asked = _OF_STAGE.get(first, ())
    tables: list[ReportTable | None] = [
        *(make(material) for make in asked),
        accuracy_table(material),
        evaluation_table(material),
        *comparison_tables(material),
        *trace_tables(material),
        *edge_tables(material),
        *(make(material) for make in _IN_ORDER if make not in asked),
    ]
    return [table for table in tables if table is not None]
