"""The rows of studies and runs, and the identities by which equal ones are one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from vseam_core.errors import StoreError
from vseam_core.runs.identity import canonical_json, unit_key
from vseam_core.runs.spec import RunSpec
from vseam_core.store import schema
from vseam_core.store.migrations import now


def run_identity(spec: RunSpec) -> str:
    """The identity of a run: a hash of everything in it that changes results, or the name they are listed under."""
    row = {name: value for name, value in run_row(spec).items() if name not in ("source", "family")}
    return unit_key(**row)


def run_row(spec: RunSpec) -> dict[str, Any]:
    """The columns of a run that say what it is. Raises `StoreError` for a configuration that has no spelling as JSON."""
    model = spec.model
    return {
        "method": spec.method,
        "method_version": spec.method_version,
        "model": model.name,
        "family": model.family,
        "source": model.source,
        "weights_hash": model.weights_hash,
        "processor_hash": model.processor_hash,
        "dtype": model.dtype,
        "attention": model.attention,
        "layers": model.layers,
        "heads": model.heads,
        "head_dim": model.head_dim,
        "dataset": spec.dataset,
        "level": spec.level,
        "category": spec.category,
        "pool": spec.pool,
        "split": spec.split,
        "configuration": identity_json(spec.configuration, f"the configuration of method {spec.method!r}"),
        "seed": spec.seed,
    }


def identity_json(configuration: Mapping[str, Any], what: str) -> str:
    """A configuration as the one JSON text that identifies it. Raises `StoreError` that names `what` it is of."""
    try:
        return canonical_json(configuration)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored: {error}") from None


def put_study(connection: Connection, name: str, configuration: str) -> int:
    """The id of the study of that name and configuration, which is stored if it is new."""
    table, digest = schema.studies, unit_key(configuration=configuration)
    here = (table.c.name == name, table.c.configuration_hash == digest)
    known = connection.execute(select(table.c.id).where(*here)).scalar_one_or_none()
    if known is not None:
        return int(known)
    row = {"name": name, "configuration": configuration, "configuration_hash": digest, "created": now()}
    return _inserted(connection.execute(table.insert().values(**row)))


def put_run(connection: Connection, spec: RunSpec, changing: Mapping[str, Any], study: int | None) -> int:
    """The id of the run with that identity, stored if it is new, with what its latest opening changes; a member of `study` from now on."""
    table, identity = schema.runs, run_identity(spec)
    known = connection.execute(select(table.c.id).where(table.c.identity == identity)).scalar_one_or_none()
    if known is None:
        row = {"versions": "{}", **run_row(spec), **changing}
        run_id = _inserted(connection.execute(table.insert().values(identity=identity, started=now(), **row)))
    else:
        run_id = int(known)
        connection.execute(table.update().where(table.c.id == run_id).values(**changing))
    if study is not None:
        _link(connection, study, run_id)
    return run_id


def _inserted(result: Any) -> int:
    return int(result.inserted_primary_key[0])


def _link(connection: Connection, study: int, run_id: int) -> None:
    table = schema.study_runs
    row = {"study_id": study, "run_id": run_id}
    here = [table.c[name] == value for name, value in row.items()]
    if connection.execute(select(table).where(*here)).first() is None:
        connection.execute(table.insert().values(**row))
