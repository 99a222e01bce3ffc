"""Rescalings that are kept under a name, so that another command can ask for them."""

from __future__ import annotations

from sqlalchemy import Connection, select

from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_json, encode_json
from vseam_core.store.migrations import now
from vseam_core.store.records import NamedRescaling


def put(connection: Connection, name: str, row: NamedRescaling) -> None:
    """Keep a rescaling under a name; the same one again changes nothing. Raises `StoreError` where another one has the name."""
    known = read_all(connection).get(name)
    if known is None:
        fields = {**vars(row), "scales": encode_json(row.scales, f"the rescaling {name!r}")}
        connection.execute(schema.rescalings.insert().values(name=name, saved=now(), **fields))
    elif (known.scales, known.weights_hash) != (row.scales, row.weights_hash):
        raise StoreError(f"another rescaling is called {name!r} (of {known.model}, fitted on {known.dataset}): choose another name")


def read_all(connection: Connection) -> dict[str, NamedRescaling]:
    """Every rescaling that has a name."""
    table = schema.rescalings
    rows = connection.execute(select(table).order_by(table.c.id)).mappings()
    wanted = ("model", "weights_hash", "dataset", "fitted_run")
    found = {}
    for row in rows:
        scales = decode_json(row["scales"], f"the rescaling {row['name']!r}")
        found[row["name"]] = NamedRescaling(scales=scales, **{name: row[name] for name in wanted})
    return found
