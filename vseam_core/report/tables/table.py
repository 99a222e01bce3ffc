"""The neutral table that the report hands to whoever shows it: a terminal, JSON or a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vseam_core.report.tasks import rows_by_task

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.results.study_results import StudyMaterial

Columns = Mapping[str, str | Callable[[Mapping[str, Any]], Any]]
"""The columns of a table, in order: the stored column that each shows, or how its value is made of a stored row."""
AGREEMENT: Columns = {
    **{"rank": "rank_correlation", "rank top": "rank_top", "rank random": "rank_random", "scale": "scale"},
    **{"strongest": "strongest", "recall": "recall", "low": "recall_low", "high": "recall_high"},
}
"""How far estimates agree with exact effects: of heads and of paths."""


@dataclass(frozen=True)
class ReportTable:
    """A table of plain values: `rows` under `columns`, None where a value is unknown; `notes` say how it is to be read."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    notes: tuple[str, ...] = ()

    def records(self) -> list[dict[str, Any]]:
        """The rows as dictionaries by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def table_of(
    title: str, columns: Sequence[str], records: Sequence[Mapping[str, Any]], *notes: str, folded: Sequence[str] = ()
) -> ReportTable:
    """A table from dictionaries; a missing value is None, a column without any value is left out, empty notes too.

    A `folded` column that says the same in every row is not worth its width: it becomes a note.
    """
    used, said = [], []
    for name in columns:
        values = [record.get(name) for record in records]
        if all(value in (None, "") for value in values):
            continue
        if name in folded and all(value == values[0] for value in values):
            said.append(f"{name} = {values[0]}")
        else:
            used.append(name)
    rows = tuple(tuple(record.get(name) for name in used) for record in records)
    common = f"In every row: {', '.join(said)}." if said else ""
    return ReportTable(title, tuple(used), rows, tuple(note for note in (common, *notes) if note))


def shown(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """A stored row as a table shows it."""
    return {name: row[of] if isinstance(of, str) else of(row) for name, of in columns.items()}


def table_by_task(
    title: str,
    material: StudyMaterial,
    frame: pd.DataFrame | None,
    columns: Columns,
    *notes: str,
    folded: Sequence[str] = (),
    only: Callable[[Mapping[str, Any]], bool] = lambda row: True,
) -> ReportTable | None:
    """`table_of` the rows of a stored table, by model and task; None where there is none. `only` says which are shown."""
    records = [
        {"model": model, "category": task.label, **shown(row, columns)} for model, task, row in rows_by_task(material, frame) if only(row)
    ]
    return table_of(title, ("model", "category", *columns), records, *notes, folded=folded) if records else None


def range_of(values: Sequence[int]) -> str:
    """`40`, or `36 to 40` where values differ."""
    return str(min(values)) if min(values) == max(values) else f"{min(values)} to {max(values)}"
