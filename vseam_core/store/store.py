"""The store: opens a database, writes whole units, reads tables and arrays back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from vseam_core.api.types import Pair
from vseam_core.errors import StoreError
from vseam_core.runs.spec import RunSpec, UnitResult
from vseam_core.store import currency, effects, naming, reading, reviews, schema
from vseam_core.store.checking import find_damage
from vseam_core.store.codec import encode_json, non_finite
from vseam_core.store.connection import Database, NothingBesideError
from vseam_core.store.frames import RunIds
from vseam_core.store.head_effects import read_by_measure, read_head_effects
from vseam_core.store.migrations import MIGRATIONS, check_version, create_schema, is_empty, now
from vseam_core.store.presentations import put_presentation, read_presentation
from vseam_core.store.records import HeadEffectSet, NamedRescaling, TraceRecord
from vseam_core.store.reviews import Verdict
from vseam_core.store.run_rows import identity_json, put_run, put_study
from vseam_core.store.scores import replace_rows, score_table, scores_frame
from vseam_core.store.shared_rows import put_edits, put_samples
from vseam_core.store.writing import rejudge, save_units

if TYPE_CHECKING:
    import pandas as pd


class Store:
    """An open results database; close it, or use it as a context manager. Open one with `open_store`.

    Every method is one transaction: it happens whole or not at all. Methods raise `StoreError` with one line for
    whatever the database or its file refuses. `label` names its file or URL in messages and pages; `warnings` holds what
    a user should be told about the database (no write-ahead log).
    """

    def __init__(self, location: str | Path, create: bool = True, *, busy_seconds: float = 30.0) -> None:
        self._database = Database(location, busy_seconds=busy_seconds)
        self.label = self._database.label
        try:
            self._database.check_place(create)
            try:
                fresh = self._is_fresh(create)
            except NothingBesideError:
                if not self._database.read_as_it_is():
                    raise
                fresh = self._is_fresh(create)
            if fresh:
                create_schema(self._database)
            self._database.use_write_ahead_log()
        except BaseException:
            self._database.close()
            raise

    def _is_fresh(self, create: bool) -> bool:
        """Whether this is an empty file that may become a database. Raises `StoreError` for a database of another version."""
        with self._database.reading() as connection:
            fresh = create and is_empty(connection)
            if not fresh:
                check_version(connection, self.label)
            return fresh

    def is_same_as(self, other: Store) -> bool:
        """Whether two open stores are of one database."""
        return self._database.is_same_as(other._database)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should be told about this database, one line each."""
        return self._database.warnings

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; the store cannot be trusted to hold a lock or a file open afterwards."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A writing transaction of SQLAlchemy's, for what this class has no method for."""
        with self._database.writing() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A reading transaction of SQLAlchemy's, for what this class has no method for."""
        with self._database.reading() as connection:
            yield connection

    def ensure_study(self, name: str, configuration: Mapping[str, Any]) -> int:
        """The id of the study of that name and configuration, which is stored if it is new."""
        text = identity_json(configuration, f"the configuration of study {name!r}")
        with self._database.writing() as connection:
            return put_study(connection, name, text)

    def ensure_run(
        self,
        spec: RunSpec,
        *,
        study: int | None = None,
        device: str = "",
        versions: Mapping[str, Any] | None = None,
        trust: Mapping[str, Any] | None = None,
    ) -> int:
        """The id of the run with that identity, new or opened again, and a member of `study` from now on.

        The identity is everything in `spec` that changes results: not the model's path or device. Device, versions
        and trust record describe the latest opening.
        """
        changing = {"device": device or spec.model.device, "finished": None}
        if versions is not None:
            changing["versions"] = encode_json(versions, "library versions")
        if trust is not None:
            changing["trust"] = encode_json(trust, "the trust record")
        with self._database.writing() as connection:
            return put_run(connection, spec, changing, study)

    def present_run(self, run_id: int, presentation: Mapping[str, Any], gathered: Collection[str] = ()) -> None:
        """Keep how the effects of a run are shown; the latest wins, and no identity changes.

        Of the mappings `gathered` entries are added to those that are stored: several processes may each know a part.
        """
        with self._database.writing() as connection:
            put_presentation(connection, run_id, presentation, gathered)

    def presentation(self, run_id: int) -> dict[str, Any] | None:
        """How the effects of a run are shown, as it was stored; None for a run without it."""
        with self._database.reading() as connection:
            return read_presentation(connection, run_id)

    def finish_run(self, run_id: int) -> None:
        """Note that every unit of a run is there; opening the run again takes the note away."""
        table = schema.runs
        with self._database.writing() as connection:
            # To the microsecond: of two complete runs the one that was asked for last is shown.
            changed = connection.execute(table.update().where(table.c.id == run_id).values(finished=now("microseconds")))
            if changed.rowcount == 0:
                raise StoreError(f"there is no run {run_id} in {self.label}")

    def unit_statuses(self, run_id: int, keys: Iterable[str] | None = None) -> dict[str, str]:
        """What a run (of the units in `keys`) need not do again, superseded or not: unit key → `done` or `skipped`."""
        with self._database.reading() as connection:
            return currency.unit_statuses(connection, run_id, keys)

    def make_current(self, run_id: int, subjects: Mapping[str, str]) -> dict[str, str]:
        """Let the units with these keys (key → what the unit is about) be current, and all others about the same superseded.

        Units that are not stored yet are current when they are saved. Nothing is deleted: superseded units keep their results, and
        are current again when a later call names them. Returns what `unit_statuses` says of these units.
        """
        with self._database.reading() as connection:
            outdated, statuses = currency.outdated(connection, run_id, subjects)
        if outdated:
            with self._database.writing() as connection:
                outdated, statuses = currency.outdated(connection, run_id, subjects)
                currency.update(connection, outdated)
        return statuses

    def save(self, run_id: int, results: Sequence[UnitResult]) -> list[str]:
        """Write units in one transaction; a key that is there already is replaced with everything that hung on it.

        A unit that holds NaN or infinity becomes a skip whose reason names the sample; the keys of those are returned.
        """
        if not results:
            return []
        with self._database.writing() as connection:
            table = schema.runs
            model = connection.execute(select(table.c.model).where(table.c.id == run_id)).scalar_one_or_none()
            if model is None:
                raise StoreError(f"there is no run {run_id} in {self.label}")
            return save_units(connection, run_id, model, results)

    def runs(self, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per run, with `configuration`, `versions` and `trust` decoded and its done, skipped and superseded units counted."""
        with self._database.reading() as connection:
            return reading.runs_frame(connection, study, filters)

    def studies(self) -> pd.DataFrame:
        """One row per study with `configuration` decoded, the latest last."""
        with self._database.reading() as connection:
            return reading.studies_frame(connection)

    def baselines(self, run_ids: RunIds = None, *, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per model answer with its sample and pair. Filters are columns of runs: `model=`, `category=`, `pool=` …"""
        with self._database.reading() as connection:
            return reading.baselines_frame(connection, run_ids, study, filters)

    def answers(self, run_ids: RunIds = None, *, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per answer of an evaluation, with its sample and pair. Filters are columns of runs, as for `baselines`."""
        with self._database.reading() as connection:
            return reading.answers_frame(connection, run_ids, study, filters)

    def rejudge(self, table: str, run_id: int, verdicts: Mapping[tuple[str, str], Mapping[str, Any]]) -> None:
        """Give rows of `answers` or `baselines`, by unit key and pair role, another verdict: the benchmark's rule has changed."""
        with self._database.writing() as connection:
            rejudge(connection, table, run_id, verdicts)

    def name_rescaling(self, name: str, row: NamedRescaling) -> None:
        """Keep a rescaling under a name. Raises `StoreError` where another one has it."""
        with self._database.writing() as connection:
            naming.put(connection, name, row)

    def forget_figures(self, run_id: int) -> None:
        """Drop the figures of evaluations that rest on a run's answers, gains over it too: the same commands compute them again."""
        figures = schema.evaluations
        with self._database.writing() as connection:
            connection.execute(figures.delete().where((figures.c.run_id == run_id) | (figures.c.compared_with == run_id)))

    def named_rescalings(self) -> dict[str, NamedRescaling]:
        """Every rescaling that has a name."""
        with self._database.reading() as connection:
            return naming.read_all(connection)

    def ablations(self, run_ids: RunIds = None, *, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per ablated set of heads, with the run's model, dataset and category."""
        with self._database.reading() as connection:
            return reading.ablations_frame(connection, run_ids, study, filters)

    def modulations(self, run_ids: RunIds = None, *, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per evaluated head rescaling, with the run's model, dataset and category."""
        with self._database.reading() as connection:
            return reading.modulations_frame(connection, run_ids, study, filters)

    def unit_details(self, run: int, keys: Iterable[str]) -> list[dict[str, Any]]:
        """The details of a run's finished units, in the order of their identifiers."""
        with self._database.reading() as connection:
            return reading.unit_details(connection, run, keys)

    def skips(self, run_ids: RunIds = None, *, study: int | None = None, **filters: Any) -> pd.DataFrame:
        """One row per skipped sample with the reason, and the run's model, dataset and category."""
        with self._database.reading() as connection:
            return reading.skips_frame(connection, run_ids, study, filters)

    def edits(self) -> pd.DataFrame:
        """One row per clean→corrupt edit, with both samples, checks and the number of reviews."""
        with self._database.reading() as connection:
            return reading.edits_frame(connection)

    def save_pairs(self, pairs: Sequence[Pair]) -> None:
        """Store edits with their samples, outside any run. Raises `StoreError` for a check that is NaN or infinite."""
        unit = UnitResult(key="", identifier="", pairs=tuple(pairs))
        bad = non_finite(unit)
        if bad:
            raise StoreError(bad)
        with self._database.writing() as connection:
            put_edits(connection, [unit], put_samples(connection, [unit]))

    def note_images(self, pair: str, clean: Path, corrupt: Path) -> None:
        """Remember where the two images of a stored edit lie."""
        edits = schema.edits
        with self._database.writing() as connection:
            places = {"clean_path": str(clean), "image_path": str(corrupt)}
            connection.execute(edits.update().where(edits.c.identifier == pair).values(**places))

    def reviews(self) -> dict[str, list[dict[str, str]]]:
        """People's verdicts by the edit's identifier: reviewer, verdict, comment and when."""
        with self._database.reading() as connection:
            return reviews.read_all(connection)

    def is_accepted(self, pair: Pair) -> bool:
        """Whether somebody accepted an edit and nobody rejected it."""
        with self._database.reading() as connection:
            return reviews.verdicts_on(connection, pair.identifier) == {"accepted"}

    def review_edit(self, pair: str, verdict: Verdict, reviewer: str = "", comment: str = "") -> None:
        """Store a person's verdict on an edit; the same reviewer's earlier one is replaced. Raises `StoreError`."""
        if verdict not in ("accepted", "rejected"):
            raise StoreError(f"the verdict on {pair!r} is {verdict!r}, expected accepted or rejected")
        with self._database.writing() as connection:
            if not reviews.put(connection, pair, verdict, reviewer, comment):
                raise StoreError(f"there is no edit {pair!r} in {self.label}")

    def trace_effects(
        self,
        run_id: int,
        keys: Sequence[str] | None = None,
        *,
        tracer: str | None = None,
        direction: str | None = None,
        measure: str | None = None,
    ) -> list[TraceRecord]:
        """The trace effects of a run (of the units in `keys`), ordered by pair whatever the order of saving."""
        with self._database.reading() as connection:
            return effects.read_trace_effects(connection, run_id, keys, {"tracer": tracer, "direction": direction, "measure": measure})

    def head_effects(
        self,
        run_id: int,
        operation: str | None = None,
        measure: str | None = None,
        keys: Sequence[str] | None = None,
        *,
        positions: str | None = None,
        stack: str | None = None,
    ) -> HeadEffectSet:
        """The head effects of a run as arrays `[n, layers, heads]` and `[n]` with a table of samples in the same order."""
        with self._database.reading() as connection:
            equals = {"operation": operation, "measure": measure, "positions": positions, "stack": stack}
            return read_head_effects(connection, run_id, keys, equals)

    def head_effects_by_measure(self, run_id: int, measures: Sequence[str], keys: Sequence[str] | None = None) -> dict[str, HeadEffectSet]:
        """`head_effects` of each of these measures that is there, in little more time than for one."""
        with self._database.reading() as connection:
            return read_by_measure(connection, run_id, keys, measures)

    def replace_scores(self, table: str, run_id: int | None, frame: pd.DataFrame, keys: Iterable[str]) -> None:
        """Store aggregates (`head_scores`, `evaluations`, `screenings`, `trace_scores`, `shared_head_tests`) in the place of older ones.

        `keys` are the units that they rest on: once one of those is superseded, the aggregates are no longer shown. Rows that agree
        with the frame in the columns of `scores.SLICES` go. An empty frame clears the scores of a run. NaN becomes null.
        """
        with self._database.writing() as connection:
            replace_rows(connection, table, run_id, frame, keys)

    def scores(self, table: str, run_ids: RunIds = None, **equals: Any) -> pd.DataFrame:
        """Stored aggregates that rest on current units, narrowed to runs and to equal columns (a list: any of its values)."""
        score_table(table)
        with self._database.reading() as connection:
            return scores_frame(connection, table, run_ids, equals)

    def check(self) -> list[str]:
        """What is damaged, one line each: the file's structure, references between rows, arrays by their checksums, columns of JSON."""
        with self._database.reading() as connection:
            return find_damage(connection)

    def info(self) -> dict[str, Any]:
        """What there is: location, schema version, journal mode, size in bytes, rows per table, warnings."""
        path = self._database.path
        files = [] if path is None else [path, path.with_name(path.name + "-wal")]
        with self._database.reading() as connection:
            counts = reading.table_counts(connection)
        return {
            "location": self.label,
            "schema": MIGRATIONS[-1].name,
            "journal_mode": self._database.journal_mode,
            "bytes": sum(file.stat().st_size for file in files if file.exists()) if files else None,
            "counts": counts,
            "warnings": list(self.warnings),
        }
