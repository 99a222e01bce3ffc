"""Results as files for other programs: a file of Parquet or CSV for every table and view, or for the rows of one query."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from vseam_core.errors import StoreError
from vseam_core.files import atomic_file
from vseam_core.store.migrations import MIGRATIONS
from vseam_core.store.relations import Kind, Relation, Row, nested, relations
from vseam_core.store.store import Store

if TYPE_CHECKING:
    import pyarrow

Form = Literal["parquet", "csv"]


def export(store: Store, folder: Path, form: Form) -> dict[str, int]:
    """Write what is current in a database, one file per table and view; returns rows by the name of the relation.

    All files are of one state of the database; each takes the place of an older one of its name. Parquet holds arrays as lists of lists
    (null: not measured) with lists of what their rows and columns are; in CSV those lists are JSON. Raises `StoreError` for a folder that
    cannot be written, and where pyarrow is missing.
    """
    write = {"parquet": _parquet, "csv": _csv}[form]
    written: dict[str, int] = {}
    if form == "parquet":
        _arrow()
    with store.reading() as connection:
        for relation in relations(connection):
            path = folder / f"{relation.name}.{form}"
            try:
                with atomic_file(path) as file:
                    written[relation.name] = write(relation, file)
            except OSError as error:
                raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None
    return written


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the rows of a query as one Parquet file. Raises `StoreError` for a column that holds values of several kinds."""
    arrow, parquet = _arrow()
    if len(set(columns)) < len(columns):
        twice = next(name for name in columns if list(columns).count(name) > 1)
        raise StoreError(f"two columns of the query are called {twice!r}: give one another name with AS")
    arrays = []
    for index, name in enumerate(columns):
        try:
            arrays.append(arrow.array([row[index] for row in rows]))
        except (arrow.ArrowInvalid, arrow.ArrowTypeError, OverflowError):
            raise StoreError(f"the column {name!r} holds values of several kinds: make them one with CAST({name} AS TEXT)") from None
    try:
        with atomic_file(path) as file:
            parquet.write_table(arrow.table(arrays, names=list(columns)), file)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror or error}") from None


def _parquet(relation: Relation, file: BinaryIO) -> int:
    arrow, parquet = _arrow()
    types = {
        **{"text": arrow.string(), "whole": arrow.int64(), "number": arrow.float64(), "flag": arrow.bool_(), "bytes": arrow.binary()},
        **{"texts": arrow.list_(arrow.string()), "wholes": arrow.list_(arrow.int64())},
        "matrix": arrow.list_(arrow.list_(arrow.float32())),
    }
    fields = [(name, types[kind]) for name, kind in relation.columns.items()]
    schema = arrow.schema(fields, metadata={"vseam_schema": MIGRATIONS[-1].name})
    count = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in relation.batches:
            parts = zip(relation.columns.values(), zip(*rows, strict=True), strict=True)
            arrays = [_matrices(values) if kind == "matrix" else arrow.array(values, types[kind]) for kind, values in parts]
            writer.write_table(arrow.table(arrays, schema=schema))
            count += len(rows)
    return count


def _matrices(matrices: Sequence[np.ndarray]) -> pyarrow.Array:
    """Matrices as lists of lists of the same bits, null where a cell is NaN."""
    arrow, _ = _arrow()
    flat = np.concatenate([matrix.ravel() for matrix in matrices])
    cells = arrow.array(flat, arrow.float32(), mask=np.isnan(flat))
    widths = np.repeat([matrix.shape[1] for matrix in matrices], [matrix.shape[0] for matrix in matrices])
    rows = arrow.ListArray.from_arrays(_offsets(widths), cells)
    return arrow.ListArray.from_arrays(_offsets([matrix.shape[0] for matrix in matrices]), rows)


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


_IN_CSV: Mapping[Kind, Callable[[Any], Any]] = {
    "matrix": lambda value: json.dumps(nested(value)),
    "texts": lambda value: json.dumps(value, ensure_ascii=False),
    "wholes": json.dumps,
    "bytes": lambda value: value.hex(),
}


def _csv(relation: Relation, file: BinaryIO) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(relation.columns)
    kinds, count = list(relation.columns.values()), 0
    for rows in relation.batches:
        for row in rows:
            writer.writerow([_IN_CSV.get(kind, _same)(value) if value is not None else "" for kind, value in zip(kinds, row, strict=True)])
        count += len(rows)
    text.detach()
    return count


def _same(value: Any) -> Any:
    return value


def _arrow() -> tuple[Any, Any]:
    """pyarrow and its Parquet module. Raises `StoreError` where they are missing."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise StoreError("writing Parquet needs pyarrow: pip install 'vseam[parquet]'") from None
    return pyarrow, pyarrow.parquet
