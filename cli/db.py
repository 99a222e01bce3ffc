"""`vseam db info`, `check`, `migrate`, `copy` and `export`."""

from __future__ import annotations

from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table


@options.verb_group("db", example="vseam db info --db results.db")
def database() -> None:
    """Look at a results database, check that it is whole, bring an older one up to date, or write it for other programs."""


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
    """Look for damage: the file's structure, references between rows, arrays by the checksums they were stored with, records of JSON.

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


@options.verb("copy", group=database, example="vseam db copy cluster.db results.db")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.pass_obj
def copy(application: Application, source: str, target: str) -> None:
    """Put the results of one database into another: each a SQLite file or any SQLAlchemy URL.

    What only one of them holds is in TO afterwards; doing it twice changes nothing. Of two answers to one question, that of the run that
    was asked for last is shown.
    """
    from vseam_core.store import open_store
    from vseam_core.store.copying import copy as put_into

    with open_store(source, create=False) as old, open_store(target) as new, application.output.progress() as progress:
        copied = put_into(old, new, progress)
        labels = {"source": old.label, "target": new.label}
    text = f"{labels['target']}: {copied.runs:,} new runs, {copied.units:,} new units, {copied.aggregates:,} new rows of aggregates"
    application.output.result("db-copy/1", {**labels, **vars(copied)}, text=text)
    if copied.partial:
        application.output.note(
            f"{copied.partial:,} aggregates rest on the units of one database, since both hold others: "
            "the commands that made them compute them again, from what is stored"
        )


@options.verb("export", group=database, example="vseam db export --parquet tables --db results.db")
@options.use("db")
@click.option("--parquet", metavar="DIR", type=click.Path(path_type=Path), help="Write Parquet files there (pip install 'vseam[parquet]').")
@click.option("--csv-files", metavar="DIR", type=click.Path(path_type=Path), help="Write files of comma-separated values there.")
@click.pass_obj
def export(application: Application, database: str, parquet: Path | None, csv_files: Path | None) -> None:
    """Write what is current in a results database as files that pandas, polars, DuckDB and Hugging Face datasets read.

    Each table and view becomes one file. Parquet holds arrays as lists, with their layers, heads or columns in lists beside them.
    """
    from vseam_core.store import open_store
    from vseam_core.store.exporting import export as export_to

    if (parquet is None) == (csv_files is None):
        raise click.UsageError("expected --parquet DIR or --csv-files DIR")
    folder = parquet or csv_files
    assert folder is not None
    with open_store(database, create=False) as store:
        rows = export_to(store, folder, "parquet" if parquet else "csv")
    data = {"location": database, "folder": str(folder), "rows": rows}
    text = f"{folder}: {len(rows)} files, {sum(rows.values()):,} rows"
    application.output.result("db-export/1", data, [Table(("file", "rows"), list(rows.items()))], text=text)
