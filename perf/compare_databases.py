"""Whether two results databases hold the same numbers, whatever keys and run numbers they are stored under.

    python perf/compare_databases.py before.db after.db --tolerance 1e-6

Every stored number is paired with its like by what it is about (model, dataset, sample, site or operation, measure) and the
largest differences are shown, table by table; of numbers above 1, relative to the number. Reads both files with sqlite3 and numpy
alone, of any schema version; superseded units are left out. Exits with 1 where a number differs by more than the tolerance, a text
differs, or a row has no like.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RUN = ("method", "model", "dataset", "pool", "split")
ARRAYS: Mapping[str, tuple[str, ...]] = {
    "head_effects": ("sample", "operation", "positions", "measure", "stack"),
    "trace_effects": ("sample", "editor", "tracer", "stack", "site_kind", "direction", "measure"),
}
ROWS: Mapping[str, tuple[str, ...]] = {
    "baselines": ("sample", "pair_role"),
    "answers": ("sample", "pair_role"),
    "ablations": ("sign", "operation", "condition", "size", "trial"),
    "modulations": ("role", "recipe", "evaluated_on", "strength", "top_k", "clip"),
    "skips": ("identifier",),
}
SCORES: Mapping[str, tuple[str, ...]] = {
    "head_scores": ("pool", "operation", "positions", "measure", "stack", "layer", "head"),
    "trace_scores": ("tracer", "stack", "site_kind", "direction", "measure", "column_kind", "layer", "column_label", "subset"),
    "screenings": ("operation", "positions", "measure", "stack", "subset"),
    "evaluations": ("change", "metric", "subset", "compared_with"),
    "shared_head_tests": ("model", "operation", "positions", "measure", "stack", "task_a", "task_b", "sign", "k", "null_name"),
}
WITHOUT_MEANING = {
    "id",
    "run_id",
    "unit_id",
    "sample_id",
    "edit_id",
    "axes_id",
    "sample_set_hash",
    "ordinal",
    "data",
    "height",
    "width",
    "dtype",
}
JSON_COLUMNS = {"scales", "measured", "heads"}

Key = tuple[Any, ...]
Row = dict[str, Any]


@dataclass
class Difference:
    """What was found in one table: rows without their like, texts that differ, and how far numbers differ at most, by column."""

    paired: int = 0
    missing: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    worst: dict[str, tuple[float, Key]] = field(default_factory=dict)

    def number(self, column: str, size: float, key: Key) -> None:
        """Note a difference where it is the largest of its column."""
        if column not in self.worst or size > self.worst[column][0]:
            self.worst[column] = (size, key)

    def exceeds(self, tolerance: float) -> bool:
        """Whether anything differs by more than numbers may."""
        return bool(self.missing or self.texts or any(size > tolerance for size, _ in self.worst.values()))


def rows_of(connection: sqlite3.Connection, table: str) -> Iterator[tuple[Key, Row]]:
    """Every current row of a table under the key that says what it is about."""
    columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    if not columns:
        return
    key = {**ARRAYS, **ROWS, **SCORES}[table]
    selected, joins, where = [f"{table}.*"], [], ""
    if "unit_id" in columns:
        joins.append(f"JOIN units ON units.id = {table}.unit_id JOIN runs ON runs.id = units.run_id")
        if any(row[1] == "superseded" for row in connection.execute("PRAGMA table_info(units)")):
            where = " WHERE NOT units.superseded"
    elif "run_id" in columns:
        joins.append(f"LEFT JOIN runs ON runs.id = {table}.run_id")
    if joins:
        selected += [f"runs.{name} AS run_{name}" for name in RUN]
    if "sample_id" in columns:
        joins.append(f"JOIN samples ON samples.id = {table}.sample_id")
        selected.append("samples.identifier AS sample")
    elif "sample" in key:
        joins.append(f"JOIN edits ON edits.id = {table}.edit_id JOIN samples ON samples.id = edits.clean_id")
        selected += ["samples.identifier AS sample", "edits.editor AS editor"]
    for row in connection.execute(f"SELECT {', '.join(selected)} FROM {table} {' '.join(joins)}{where} ORDER BY {table}.id"):
        named = dict(row)
        yield (*(named.pop(f"run_{name}", "") for name in RUN), *(named[name] for name in key)), named


def values_of(row: Row) -> Row:
    """What of a row is compared: numbers, texts, and its array."""
    values = {name: value for name, value in row.items() if name not in WITHOUT_MEANING}
    for name in JSON_COLUMNS & values.keys():
        values[name] = json.loads(values[name]) if isinstance(values[name], str) else values[name]
    if row.get("data") is not None:
        values["array"] = np.frombuffer(row["data"], dtype="<f4").reshape(row["height"], row["width"])
    return values


def compare(before: sqlite3.Connection, after: sqlite3.Connection, table: str) -> Difference:
    """Pair the rows of one table; several rows of one key are paired in the order in which they were stored."""
    found = Difference()
    grouped: list[dict[Key, list[Row]]] = []
    for connection in (before, after):
        groups: dict[Key, list[Row]] = defaultdict(list)
        for key, row in rows_of(connection, table):
            groups[key].append(values_of(row))
        grouped.append(groups)
    for key in sorted(grouped[0].keys() | grouped[1].keys(), key=repr):
        ours, theirs = grouped[0].get(key, []), grouped[1].get(key, [])
        if len(ours) != len(theirs):
            found.missing.append(f"{key}: {len(ours)} before, {len(theirs)} after")
            continue
        for one, other in zip(ours, theirs, strict=True):
            found.paired += 1
            _compare_values(found, key, one, other)
    return found


def _compare_values(found: Difference, key: Key, one: Any, other: Any, column: str = "") -> None:
    """Differences of two values, whatever they are made of, under the name of their column."""
    if isinstance(one, dict) and isinstance(other, dict):
        # A column that only one of the schema versions has says nothing.
        for name in one.keys() & other.keys() if not column else one.keys() | other.keys():
            _compare_values(found, key, one.get(name), other.get(name), column or name)
    elif isinstance(one, np.ndarray) and isinstance(other, np.ndarray) and one.shape == other.shape:
        if not (np.isnan(one) == np.isnan(other)).all():
            found.texts.append(f"{key}: {column}: other cells are measured")
        sizes = np.abs(one.astype(float) - other) / np.maximum(1, np.abs(one))
        found.number(column, float(np.nanmax(sizes, initial=0.0)), key)
    elif isinstance(one, int | float) and isinstance(other, int | float):
        found.number(column, abs(float(one) - float(other)) / max(1, abs(one)), key)
    elif isinstance(one, np.ndarray) or isinstance(other, np.ndarray) or one != other:
        found.texts.append(f"{key}: {column}: {one!r} before, {other!r} after"[:300])


def opened(path: Path) -> sqlite3.Connection:
    """A database, read only."""
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def main() -> None:
    """Show what differs; the exit code says whether anything does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    parser.add_argument("--table", action="append", help="only these tables")
    given = parser.parse_args()
    differs = False
    with closing(opened(given.before)) as before, closing(opened(given.after)) as after:
        for table in given.table or [*ARRAYS, *ROWS, *SCORES]:
            found = compare(before, after, table)
            largest = max((size for size, _ in found.worst.values()), default=0.0)
            print(f"{table}: {found.paired} rows paired, largest difference {largest:.3g}")
            over = {name: worst for name, worst in found.worst.items() if worst[0] > given.tolerance}
            for name, (size, key) in sorted(over.items(), key=lambda item: -item[1][0]):
                print(f"  {name}: {size:.3g} at {key}")
            for kind, lines in (("without its like", found.missing), ("differs", found.texts)):
                for line in lines[:10]:
                    print(f"  {kind}: {line}")
                if len(lines) > 10:
                    print(f"  {kind}: {len(lines) - 10} more")
            differs = differs or found.exceeds(given.tolerance)
    sys.exit(int(differs))


if __name__ == "__main__":
    main()
