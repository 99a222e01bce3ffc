"""Whether a results database is whole: its file, the references between its rows, its arrays, and its columns of JSON."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, Table, select

from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import checksum_of, decode_json
from vseam_core.store.columns import JSON_KIND

_AT_ONCE = 500


def find_damage(connection: Connection) -> list[str]:
    """Everything that is damaged, one line each."""
    found: list[str] = []
    if connection.dialect.name == "sqlite":
        found += [f"file: {row[0]}" for row in connection.exec_driver_sql("PRAGMA quick_check") if row[0] != "ok"]
        for table, row, target, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
            found.append(f"{table}, row {row}: refers to a row of {target} that is not there")
    for array_table in (schema.head_effects, schema.trace_effects):
        found += _damaged_arrays(connection, array_table)
    for table in schema.metadata.sorted_tables:
        found += _damaged_json(connection, table)
    return found


def _damaged_arrays(connection: Connection, table: Table) -> Iterator[str]:
    units, runs = schema.units, schema.runs
    query = select(table, units.c.identifier, runs.c.id.label("run")).select_from(table.join(units).join(runs)).order_by(table.c.id)
    for part in connection.execution_options(yield_per=_AT_ONCE).execute(query).mappings().partitions():
        for row in part:
            if checksum_of(dict(row)) != row["checksum"]:
                yield f"{table.name}, row {row['id']}: the array of {row['identifier']} (run {row['run']}) has another checksum"


def _damaged_json(connection: Connection, table: Table) -> Iterator[str]:
    kinds = {column.name: column.info[JSON_KIND] for column in table.c if JSON_KIND in column.info}
    if not kinds:
        return
    query = select(table.c.id, *[table.c[name] for name in kinds]).order_by(table.c.id)
    for part in connection.execution_options(yield_per=_AT_ONCE).execute(query).partitions():
        for number, *texts in part:
            for (name, kind), text in zip(kinds.items(), texts, strict=True):
                try:
                    if text is not None:
                        decode_json(text, f"{table.name}, row {number}, {name}", kind)
                except StoreError as error:
                    yield str(error).removesuffix(": restore a copy")
