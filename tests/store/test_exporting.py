"""Results as files of Parquet and CSV: every relation once, with the rows and values that the database shows."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vseam_core.api.types import HeadEffect
from vseam_core.errors import StoreError
from vseam_core.runs.spec import UnitResult
from vseam_core.store import Store, open_store
from vseam_core.store.exporting import export, write_rows
from vseam_core.store.query import run_query
from vseam_core.store.views import VIEWS

from .builders import head_effect, run_spec, sample, trace_effect, trace_unit
from .test_sql_page import fill

pq = pytest.importorskip("pyarrow.parquet")
MEASURED = np.array([[True, False, True], [False, False, True]])
ARRAYS = ("head_effects", "trace_effects")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A database with every kind of result, with partial and superseded arrays, and the folder of its Parquet files."""
    folder = tmp_path_factory.mktemp("exported")
    with open_store(folder / "results.db") as store:
        fill(store)
        run, one = store.ensure_run(run_spec(seed=3)), sample(0)
        partial = HeadEffect("resample", "all", "screened", "decoder", head_effect(0.1).values, 2.0, measured=MEASURED)
        store.save(run, [trace_unit(0), UnitResult("old", "x", head_effects=((one, head_effect(7.0)),))])
        store.make_current(run, {"new": "x"})
        store.save(run, [UnitResult("new", "x", head_effects=((one, partial), (one, head_effect(0.1))))])
        assert export(store, folder / "tables", "parquet")["head_effects"] == 4
        yield store, folder / "tables"


def shown(store: Store, name: str) -> list[tuple[Any, ...]]:
    _, rows, truncated = run_query(store.label, f"SELECT * FROM {name}", limit_rows=100_000)
    assert not truncated
    return sorted((tuple(row) for row in rows), key=repr)


def test_every_table_and_view_is_one_file(exported: tuple[Store, Path]) -> None:
    names = {path.stem for path in exported[1].iterdir()}
    assert names >= set(VIEWS)
    assert names >= {"runs", "units", "samples", "edits", "studies", "rescalings", "prompt_tokens"}
    assert not any(name.startswith("stored_") for name in names)


def test_the_rows_of_every_relation_are_those_that_a_query_gives(exported: tuple[Store, Path]) -> None:
    store, folder = exported
    filled = 0
    for path in sorted(folder.iterdir()):
        if path.stem in ARRAYS:
            continue
        rows = sorted((tuple(row.values()) for row in pq.read_table(path).to_pylist()), key=repr)
        wanted = shown(store, path.stem)
        assert rows == wanted or sorted(map(_comparable, rows)) == sorted(map(_comparable, wanted)), path.stem
        filled += bool(rows)
    assert filled > 20


def _comparable(row: tuple[Any, ...]) -> str:
    """True and 1, 2.0 and 2 are one value in SQLite."""
    return repr(tuple(float(value) if isinstance(value, bool | int) else value for value in row))


def test_no_column_is_without_a_type(exported: tuple[Store, Path]) -> None:
    for path in exported[1].iterdir():
        for field in pq.read_schema(path):
            assert str(field.type) != "null", (path.stem, field.name)
    heads = pq.read_schema(exported[1] / "top_heads.parquet")
    assert {name: str(heads.field(name).type) for name in ("sign", "head_rank", "score", "claimed", "layer")} == {
        **{"sign": "string", "head_rank": "int64", "score": "double", "claimed": "int64", "layer": "int64"},
    }


def test_head_effects_are_lists_of_layers_and_heads_with_null_where_nothing_was_measured(exported: tuple[Store, Path]) -> None:
    (row,) = [row for row in pq.read_table(exported[1] / "head_effects.parquet").to_pylist() if row["measure"] == "screened"]
    assert (row["layers"], row["heads"], row["model"], row["identifier"]) == ([0, 1], [0, 1, 2], "tiny", sample(0).identifier)
    wanted = [
        [float(value) if seen else None for value, seen in zip(*pair, strict=True)]
        for pair in zip(head_effect(0.1).values, MEASURED, strict=True)
    ]
    assert row["values"] == wanted
    assert math.isclose(row["base"], 2.0)


def test_superseded_arrays_are_left_out(exported: tuple[Store, Path]) -> None:
    values = [row["values"][0][0] for row in pq.read_table(exported[1] / "head_effects.parquet").to_pylist()]
    assert 7.0 not in values


def test_trace_effects_carry_their_layers_columns_and_roles(exported: tuple[Store, Path]) -> None:
    rows = pq.read_table(exported[1] / "trace_effects.parquet").to_pylist()
    effect = trace_effect()
    assert [row["direction"] for row in rows] == ["denoising", "noising"]
    for row, value in zip(rows, (0.25, 0.5), strict=True):
        assert row["values"] == [[value] * 3] * 2
        assert (row["layers"], row["columns"], row["roles"]) == (list(effect.layers), list(effect.columns), list(effect.roles))
        assert (row["column_kind"], row["tracer"], row["identifier"]) == ("position", "tokenwise", trace_unit(0).identifier)


def test_pandas_reads_arrays_as_arrays(exported: tuple[Store, Path]) -> None:
    frame = pd.read_parquet(exported[1] / "trace_effects.parquet")
    stacked = np.array([np.stack(values) for values in frame["values"]])
    assert stacked.shape == (2, 2, 3)
    assert stacked.dtype == np.float32


def test_csv_files_hold_the_same_with_arrays_as_json(exported: tuple[Store, Path], tmp_path: Path) -> None:
    store, folder = exported
    counts = export(store, tmp_path / "csv", "csv")
    assert counts == {path.stem: pq.read_metadata(path).num_rows for path in folder.iterdir()}
    with (tmp_path / "csv" / "head_effects.csv").open(newline="", encoding="utf-8") as file:
        rows = [json.loads(row["values"]) for row in csv.DictReader(file)]
    assert rows == pq.read_table(folder / "head_effects.parquet").column("values").to_pylist()
    samples = pd.read_csv(tmp_path / "csv" / "samples.csv")
    assert samples["question"].tolist() == pd.read_parquet(folder / "samples.parquet")["question"].tolist()


def test_a_folder_that_cannot_be_written_is_one_line(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(StoreError, match="cannot be written"):
        export(store, tmp_path / "file", "csv")


def test_the_rows_of_a_query_become_one_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_rows(path, ["a", "b", "c", "d"], [(1, "x", None, b"\x01"), (2.5, None, None, None), (None,) * 4])
    assert pq.read_table(path).to_pydict() == {"a": [1.0, 2.5, None], "b": ["x", None, None], "c": [None] * 3, "d": [b"\x01", None, None]}
    with pytest.raises(StoreError, match=r"the column 'a' holds values of several kinds: make them one with CAST\(a AS TEXT\)"):
        write_rows(path, ["a"], [(1,), ("x",)])
    with pytest.raises(StoreError, match="two columns of the query are called 'a'"):
        write_rows(path, ["a", "a"], [(1, 2)])
    assert len(pq.read_table(path)) == 3
