"""`vseam query`: one SELECT on the results database, which it can neither change nor keep busy for long."""

from __future__ import annotations

import math
from pathlib import Path

import click

from vseam_cli import options
from vseam_cli.application import Application
from vseam_cli.output import Table

_MEMORY = 512 * 1024 * 1024


def _finite(_context: click.Context, _parameter: click.Parameter, value: float) -> float:
    """A number of seconds; nan and inf are none. Raises click.BadParameter."""
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is not a number of seconds")
    return value


@options.verb(
    "query",
    example='vseam query "SELECT model, category, COUNT(*) FROM head_scores GROUP BY model, category"',
)
@click.argument("sql")
@options.use("db")
@click.option("--limit", type=options.WholeNumber(min=1), default=1000, show_default=True, metavar="N", help="At most N rows.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.01, max=86_400.0),
    default=30.0,
    show_default=True,
    metavar="S",
    callback=_finite,
    help="Give up after S seconds.",
)
@click.option("--parquet", metavar="FILE", type=click.Path(path_type=Path), help="Write the rows to a Parquet file, and print none.")
@click.pass_obj
def query(application: Application, sql: str, database: str, limit: int, seconds: float, parquet: Path | None) -> None:
    """Ask the results database with one SELECT.

    The database is opened read-only: nothing can be written, attached or loaded. A query that takes longer than --seconds, or of a file
    more than 512 MB of memory, is stopped.
    """
    from vseam_core.store.query import run_query

    columns, rows, truncated = run_query(database, sql, limit, seconds, limit_bytes=_MEMORY, note=application.output.note)
    if parquet is not None:
        from vseam_core.store.exporting import write_rows

        write_rows(parquet, columns, rows)
        application.output.note(f"{parquet}: {len(rows):,} rows")
    data = {"columns": columns, "rows": [] if parquet else rows, "truncated": truncated}
    application.output.result("query/1", data, [] if parquet else [Table(columns, rows)])
    if truncated:
        application.output.note(f"only the first {len(rows)} rows are {'written' if parquet else 'shown'}; --limit N takes more")
