"""Named steps that bring an older database up to this program, each applied together with its record in one transaction.

A new database is built from `schema.py` as it stands and records every name below. To change the schema: edit `schema.py` (or
`views.py`; views are recreated by every migration) and append a migration that does the same to an existing database.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, bindparam, inspect, select
from sqlalchemy.schema import CreateColumn

from vseam_core.errors import StoreError
from vseam_core.store.codec import checksum_of
from vseam_core.store.connection import Database
from vseam_core.store.current_views import AGGREGATES, OF_UNITS, view_name
from vseam_core.store.schema import (
    METHOD_TABLES,
    TEST_TABLES,
    answers,
    baselines,
    edits,
    evaluations,
    head_effects,
    metadata,
    rescalings,
    sample_set_units,
    sample_sets,
    samples,
    schema_migrations,
    screenings,
    shared_head_tests,
    thumbnails,
    trace_effects,
)
from vseam_core.store.views import create_views, drop_views


@dataclass(frozen=True)
class Migration:
    """One step: a name that is recorded for good, and what it does inside the transaction it is given."""

    name: str
    apply: Callable[[Connection], None]


def _first_schema(connection: Connection) -> None:
    metadata.create_all(connection)


def _screening(connection: Connection) -> None:
    """Head scans that measure some heads only, and how well their screening agreed with exact runs."""
    connection.exec_driver_sql("ALTER TABLE head_effects ADD COLUMN measured VARCHAR")
    screenings.create(connection)


def _made_edits(connection: Connection) -> None:
    """Edits that a painter made: what planned and masked them, where the images lie, whether they passed their checks."""
    for name in ("edit_key", "planner", "mask_provider", "control", "verdict", "reason", "clean_path", "plan", "confidence"):
        _add_column(connection, edits.c[name])


def _add_column(connection: Connection, column: Column[Any]) -> None:
    """Add a column to its table, unless an earlier step built the table as it is today."""
    table = column.table.name
    if column.name not in {present["name"] for present in inspect(connection).get_columns(table)}:
        connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {CreateColumn(column).compile(dialect=connection.dialect)}")


def _evaluation(connection: Connection) -> None:
    """Evaluations: the answers they rest on, their metrics, and rescalings that are kept under a name."""
    for table in (answers, evaluations, rescalings):
        table.create(connection)


def _superseded_units(connection: Connection) -> None:
    """What a unit is about, and whether a later one about the same has taken its place.

    Before, nothing said so: of the units of a run under one identifier, the latest is current. A screening's estimates and exact effects
    have the same identifier and stand beside one another.
    """
    connection.exec_driver_sql("ALTER TABLE units ADD COLUMN subject VARCHAR DEFAULT '' NOT NULL")
    connection.exec_driver_sql("ALTER TABLE units ADD COLUMN superseded BOOLEAN DEFAULT '0' NOT NULL CHECK (superseded IN (0, 1))")
    connection.exec_driver_sql("UPDATE units SET subject = identifier")
    connection.exec_driver_sql(
        "UPDATE units SET subject = identifier || ': estimates' "
        "WHERE id IN (SELECT unit_id FROM head_effects WHERE measure = 'logit_diff_estimate')"
    )
    connection.exec_driver_sql("CREATE INDEX units_by_subject ON units (run_id, subject)")
    connection.exec_driver_sql(
        "UPDATE units SET superseded = 1 WHERE id < (SELECT MAX(later.id) FROM units AS later "
        "WHERE later.run_id = units.run_id AND later.subject = units.subject)"
    )


def _scores_of_baselines(connection: Connection) -> None:
    """What the benchmark's rule gives a study's answers. Before, only whether they were right was kept; the next run judges them again."""
    column = CreateColumn(baselines.c.score).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"ALTER TABLE baselines ADD COLUMN {column}")
    connection.exec_driver_sql("UPDATE baselines SET score = correct_strict")


def _current_results(connection: Connection) -> None:
    """What units leave behind moves to tables called `stored_…`, so that views of the old names show what is current.

    With it: which units an aggregate rests on (unknown for older ones, which count as current), and a checksum for every array.
    """
    present = set(inspect(connection).get_table_names())
    is_sqlite = connection.dialect.name == "sqlite"
    if is_sqlite:
        # Without this SQLite would rewrite (and first check) views that users made.
        connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    for table in (*OF_UNITS, *AGGREGATES):
        if table.name not in present and view_name(table) in present:
            connection.exec_driver_sql(f"ALTER TABLE {view_name(table)} RENAME TO {table.name}")
    if is_sqlite:
        connection.exec_driver_sql("PRAGMA legacy_alter_table = OFF")
    for table in (sample_sets, sample_set_units):
        table.create(connection, checkfirst=True)
    connection.exec_driver_sql("CREATE INDEX units_superseded ON units (id) WHERE superseded")
    for table in (head_effects, trace_effects):
        connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN checksum INTEGER DEFAULT '0' NOT NULL")
        _add_checksums(connection, table)


def _add_checksums(connection: Connection, table: Table) -> None:
    rows = connection.execution_options(yield_per=1000).execute(select(table))
    for part in rows.mappings().partitions():
        checksums = [{"row": row["id"], "sum": checksum_of(dict(row))} for row in part]
        connection.execute(table.update().where(table.c.id == bindparam("row")).values(checksum=bindparam("sum")), checksums)


def _presentation(connection: Connection) -> None:
    """How a tracer's effects are shown, beside the run that they belong to."""
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN presentation VARCHAR")


def _thumbnails(connection: Connection) -> None:
    """Small images of measured samples and of what edits changed, each once; and what a task shares with itself on other images."""
    thumbnails.create(connection, checkfirst=True)
    for column in (samples.c.thumbnail, samples.c.image_width, samples.c.image_height, edits.c.mask_thumbnail):
        _add_column(connection, column)
    for name in ("ceiling_a", "ceiling_b"):
        _add_column(connection, shared_head_tests.c[name])


_NEW_COLUMNS: dict[str, tuple[str, ...]] = {
    "stored_head_scores": (
        *("n_sampled", "support", "se_support", "low_support", "high_support", "support_yes", "support_no", "p_suppressor"),
        *("q_suppressor", "claim_suppressor", "verdict", "irregular_support", "irregular_wrong"),
        *("reliability_support", "reliability_support_rest", "reliability_wrong_rest"),
    ),
    "stored_shared_head_tests": ("p_importance",),
    "stored_ablations": ("drop_error", "drop_low", "drop_high"),
    "stored_modulations": ("gain_low", "gain_high"),
}


def _findings(connection: Connection) -> None:
    """What claims rest on: all sampled questions, verdicts from test images, tests and summaries that were only in reports.

    Claims of older head scores stay readable but count no more in the ranking of heads (they rested on right answers alone), until the
    scan is aggregated again.
    """
    _add_columns(connection, _NEW_COLUMNS)
    for table in TEST_TABLES:
        table.create(connection, checkfirst=True)


def _irregular_traces(connection: Connection) -> None:
    """Which cells of traces have effects that their intervals are not made for; unknown for older ones."""
    _add_columns(connection, dict.fromkeys(("stored_trace_scores", "stored_strongest_cells"), ("irregular",)))


def _methods(connection: Connection) -> None:
    """What comparisons of methods, directions, screened paths and readings beside effects found, so that a report can show it."""
    for table in METHOD_TABLES:
        table.create(connection, checkfirst=True)


def _add_columns(connection: Connection, wanted: Mapping[str, Sequence[str]]) -> None:
    """Columns of the present schema, by table, where they are missing."""
    for name, columns in wanted.items():
        present = {column["name"] for column in inspect(connection).get_columns(name)}
        for column in columns:
            if column not in present:
                added = CreateColumn(metadata.tables[name].c[column]).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {added}")


MIGRATIONS: tuple[Migration, ...] = (
    Migration("0001_first_schema", _first_schema),
    Migration("0002_screening", _screening),
    Migration("0003_made_edits", _made_edits),
    Migration("0004_evaluation", _evaluation),
    Migration("0005_superseded_units", _superseded_units),
    Migration("0006_scores_of_baselines", _scores_of_baselines),
    Migration("0007_current_results", _current_results),
    Migration("0008_presentation", _presentation),
    Migration("0009_findings", _findings),
    Migration("0010_thumbnails", _thumbnails),
    Migration("0011_irregular_traces", _irregular_traces),
    Migration("0012_methods", _methods),
)


def now(timespec: str = "seconds") -> str:
    """The time as stored everywhere: UTC, ISO 8601, to the second where nothing finer is asked for."""
    return datetime.now(UTC).isoformat(timespec=timespec)


def check_version(connection: Connection, label: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Raise `StoreError` unless the database has exactly this program's schema; an older one is told the command that helps."""
    missing = pending(connection, label, migrations)
    if missing:
        raise StoreError(
            f"{label} was made by an older vseam (it lacks {', '.join(step.name for step in missing)}): run `vseam db migrate --db {label}`"
        )


def _recorded(connection: Connection, label: str, migrations: Sequence[Migration]) -> list[str]:
    """The names of the migrations that the database says it has. Raises `StoreError` where that list cannot be right."""
    columns = {column["name"] for column in inspect(connection).get_columns(schema_migrations.name)}
    names = connection.execute(select(schema_migrations.c.name)).scalars().all() if "name" in columns else []
    ours = [step.name for step in migrations if step.name in names]
    if not ours or ours != [step.name for step in migrations[: len(ours)]]:
        listed = ", ".join(map(str, names)) or "nothing"
        raise StoreError(f"{label}: its list of applied migrations is damaged (it holds {listed}): restore a copy or give another --db")
    return list(names)


def pending(connection: Connection, label: str, migrations: Sequence[Migration] = MIGRATIONS) -> list[Migration]:
    """The migrations that the database lacks. Raises `StoreError` for one that is not ours or newer than this program."""
    tables = set(inspect(connection).get_table_names())
    if schema_migrations.name not in tables:
        what = f"it has the tables {', '.join(sorted(tables)[:5])}" if tables else "it is empty"
        raise StoreError(f"{label} is not a results database of vseam ({what}): give another --db")
    applied = set(_recorded(connection, label, migrations))
    unknown = sorted(applied - {step.name for step in migrations})
    if unknown:
        raise StoreError(f"{label} was made by a newer vseam (it has {', '.join(unknown)}): upgrade vseam to open it")
    return [step for step in migrations if step.name not in applied]


def is_empty(connection: Connection) -> bool:
    """Whether the database holds nothing at all yet."""
    return not inspect(connection).get_table_names()


def create_schema(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Build the schema in an empty database, in one transaction; does nothing where another process was faster."""
    with database.writing() as connection:
        if is_empty(connection):
            metadata.create_all(connection)
            create_views(connection)
            _record(connection, migrations)


def migrate_database(database: Database, migrations: Sequence[Migration] = MIGRATIONS) -> list[str]:
    """Apply every missing migration in order, each with its record in one transaction; returns their names.

    An error in one leaves the database as the migration before it left it. Raises `StoreError`.
    """
    database.check_place(create=False)
    with database.reading() as connection:
        missing = pending(connection, database.label, migrations)
    for step in missing:
        with database.writing() as connection:
            if step not in pending(connection, database.label, migrations):
                continue
            drop_views(connection)
            step.apply(connection)
            _record(connection, [step])
            if step is missing[-1]:
                create_views(connection)
    return [step.name for step in missing]


def _record(connection: Connection, steps: Sequence[Migration]) -> None:
    connection.execute(schema_migrations.insert(), [{"name": step.name, "applied": now()} for step in steps])
