"""`vseam db info`, `vseam db check` and `vseam db migrate`."""

from __future__ import annotations

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table


@options.verb_group("db", example="vseam db info --db results.db")
def database() -> None:
    """Look at a results database, check that it is whole, or bring an older one up to date."""


@options.verb("info", group=database, example="vseam db info --db results.db")
@options.use("db")
@click.pass_obj
def info(application: Application, database: str) -> None:
    """Say which version a results database has and how many rows each of its tables holds."""
    from vseam_core.store import open_store

    store = open_store(database, create=False)
    try:
        found = store.info()
    finally:
        store.close()
    counts = found["counts"]
    about = [(name.replace("_", " "), value) for name, value in found.items() if name not in ("counts", "warnings")]
    tables = [Table(("database", "is"), about), Table(("table", "rows"), list(counts.items()))]
    application.output.result("db-info/1", {"database": found}, tables)
    for warning in found["warnings"]:
        application.output.note(warning)


@options.verb("check", group=database, example="vseam db check --db results.db")
@options.use("db")
@click.pass_obj
def check(application: Application, database: str) -> None:
    """Look for damage: the file's structure, references between rows, and every array by the checksum that it was stored with.

    Says where each fault lies and exits with 2 where there is one; changes nothing.
    """
    from vseam_core.errors import StoreError
    from vseam_core.store import open_store

    store = open_store(database, create=False)
    try:
        found, warnings = store.check(), store.warnings
    finally:
        store.close()
    text = "" if found else f"{database}: no damage found"
    tables = [Table(("damage",), [(line,) for line in found])] if found else []
    application.output.result("db-check/1", {"location": database, "damage": found}, tables, text=text)
    for warning in warnings:
        application.output.note(warning)
    if found:
        raise StoreError(f"{database} is damaged in {len(found)} places: restore a copy or give another --db")


@options.verb("migrate", group=database, example="vseam db migrate --db results.db")
@options.use("db")
@click.pass_obj
def migrate(application: Application, database: str) -> None:
    """Bring an older results database up to this program, step by step; a newer one is left alone."""
    from vseam_core.store import migrate as bring_up_to_date

    applied = bring_up_to_date(database)
    text = f"{database}: applied {', '.join(applied)}" if applied else f"{database}: up to date"
    application.output.result("db-migrate/1", {"location": database, "applied": applied}, text=text)
