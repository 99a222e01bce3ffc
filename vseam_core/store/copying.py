"""Results of one database put into another, run by run and by what identifies them, so that doing it twice changes nothing.

Nothing is lost: what only one of them holds is in the target afterwards. Where both hold something under one identity,

- a unit of the same key stays as it is in the target; a result takes the place of a skip,
- of different units about the same subject, those of the run that was asked for last are current, the others superseded,
- an aggregate stays, unless that of the source rests on more current units (`copying_aggregates`),
- a description (a sample, an edit, a prompt) is that of the database with the latest result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from vseam_core.errors import StoreError
from vseam_core.runs.progress import Progress, SilentProgress
from vseam_core.store import currency, schema
from vseam_core.store.copying_aggregates import OF_NO_RUN, OF_RUNS, complete_sample_sets, copy_aggregates
from vseam_core.store.current_views import OF_UNITS
from vseam_core.store.passage import Passage, part_by_part, put
from vseam_core.store.shared_rows import chunks, insert
from vseam_core.store.store import Store

Row = Mapping[Any, Any]


@dataclass
class Copied:
    """What a copy brought: new runs, units and rows of aggregates; and the aggregates that rest on a part of what is there now."""

    runs: int = 0
    units: int = 0
    aggregates: int = 0
    partial: int = 0


def copy(source: Store, target: Store, progress: Progress | None = None) -> Copied:
    """Put everything that one database holds into another; each run is one transaction.

    A copy that was interrupted is finished by the same call. Raises `StoreError` where both are one database, and where they keep
    different rescalings under one name.
    """
    if source.is_same_as(target):
        raise StoreError(f"{source.label} and {target.label} are the same database: expected two")
    copied = Copied()
    with source.reading() as old:
        runs = [dict(row) for row in old.execute(select(schema.runs).order_by(schema.runs.c.id)).mappings()]
        with target.transaction() as new:
            _check_names(old, new)
            passage = Passage(old, newer=_latest(old) > _latest(new))
            before = new.execute(select(func.count()).select_from(schema.runs)).scalar_one()
            _put_shared(passage, new)
            copied.runs = new.execute(select(func.count()).select_from(schema.runs)).scalar_one() - before
        with (progress or SilentProgress()).task("copying runs", len(runs)) as advance:
            for run in runs:
                with target.transaction() as new:
                    _copy_run(passage, new, run, copied)
                advance(1)
        with target.transaction() as new:
            put(passage, new, schema.studies, ("name", "configuration_hash"))
            put(passage, new, schema.study_runs, ("study_id", "run_id"))
            put(passage, new, schema.rescalings, ("name",))
            _count(copied, (copy_aggregates(passage, new, name, None, passage.newer) for name in OF_NO_RUN))
            complete_sample_sets(passage, new)
    return copied


def _count(copied: Copied, found: Iterable[tuple[int, int]]) -> None:
    for rows, partial in found:
        copied.aggregates += rows
        copied.partial += partial


def _check_names(old: Connection, new: Connection) -> None:
    table = schema.rescalings
    known = {row["name"]: row for row in new.execute(select(table)).mappings()}
    for row in old.execute(select(table)).mappings():
        other = known.get(row["name"], row)
        if (row["scales"], row["weights_hash"]) != (other["scales"], other["weights_hash"]):
            raise StoreError(f"both databases keep a rescaling under the name {row['name']!r}, and they are different: nothing was copied")


def _latest(connection: Connection) -> str:
    """When the latest result of a database was saved, or a run completed."""
    columns = (schema.units.c.saved, schema.runs.c.finished)
    return max(connection.execute(select(func.max(column))).scalar_one() or "" for column in columns)


def _put_shared(passage: Passage, new: Connection) -> None:
    """What several runs refer to, and the runs themselves: unfinished until their units are there."""
    newer = passage.newer
    put(passage, new, schema.thumbnails, ("digest",))
    put(passage, new, schema.samples, ("identifier",), newer=lambda *_: newer)
    put(passage, new, schema.edits, ("identifier",), newer=lambda *_: newer)
    put(passage, new, schema.edit_reviews, ("edit_id", "reviewer"), newer=lambda theirs, ours: theirs["reviewed"] > ours["reviewed"])
    put(passage, new, schema.trace_axes, ("digest",))
    put(passage, new, schema.runs, ("identity",), without=("finished",))
    _put_prompts(passage, new)


def _put_prompts(passage: Passage, new: Connection) -> None:
    """The tokens of prompts, a sample and model at a time."""
    table = schema.prompt_tokens
    for part in part_by_part(passage.old, select(table).where(table.c.position == 0)):
        samples = {row["sample_id"]: passage.ids["samples"][row["sample_id"]] for row in part}
        here = table.c.sample_id.in_(samples.values())
        stored = {
            (row.sample_id, row.model): row.prompt_key
            for row in new.execute(select(table.c.sample_id, table.c.model, table.c.prompt_key).where(here, table.c.position == 0))
        }
        wanted = []
        for row in part:
            known = stored.get((samples[row["sample_id"]], row["model"]))
            if known is None or (passage.newer and known != row["prompt_key"]):
                wanted.append((row["sample_id"], row["model"]))
                new.execute(table.delete().where(table.c.sample_id == samples[row["sample_id"]], table.c.model == row["model"]))
        tokens = passage.old.execute(select(table).where(table.c.sample_id.in_({sample for sample, _ in wanted}))).mappings()
        insert(new, table, [passage.row(table, row) for row in tokens if (row["sample_id"], row["model"]) in set(wanted)])


def _copy_run(passage: Passage, new: Connection, run: Row, copied: Copied) -> None:
    """The units of a run, everything that hangs on them, and its aggregates."""
    number = passage.ids["runs"][run["id"]]
    known = new.execute(select(schema.runs).where(schema.runs.c.id == number)).mappings().one()
    theirs, ours = _units(passage.old, run["id"]), _units(new, number)
    later = _asked(run, theirs) > _asked(known, ours)
    states = _states(theirs, ours, later)
    brought = [key for key, unit in theirs.items() if key not in ours or (ours[key]["status"], unit["status"]) == ("skipped", "done")]
    _put_units(passage, new, [theirs[key] for key in brought], ours, states)
    changed = {key: unit["id"] for key, unit in ours.items() if states[key] != (unit["subject"], unit["superseded"])}
    currency.update(new, [currency.Outdated(unit, *states[key]) for key, unit in changed.items()])
    passage.ids["units"].update(_numbers(new, number, theirs))
    for table in OF_UNITS:
        for chunk in chunks(theirs[key]["id"] for key in brought):
            rows = passage.old.execute(select(table).where(table.c.unit_id.in_(chunk)).order_by(table.c.id)).mappings()
            insert(new, table, [passage.row(table, row) for row in rows])
    copied.units += len(brought)
    _count(copied, (copy_aggregates(passage, new, name, run["id"], later) for name in OF_RUNS))
    _put_run(new, run, known, later)


def _units(connection: Connection, run: int) -> dict[str, Row]:
    query = select(schema.units).where(schema.units.c.run_id == run).order_by(schema.units.c.id)
    return {row["key"]: dict(row) for row in connection.execute(query).mappings()}


def _numbers(connection: Connection, run: int, theirs: Mapping[str, Row]) -> Iterator[tuple[int, int]]:
    """The row ids of a run's units in both databases."""
    units = schema.units
    for key, number in connection.execute(select(units.c.key, units.c.id).where(units.c.run_id == run)):
        if key in theirs:
            yield theirs[key]["id"], number


def _asked(run: Row, units: Mapping[str, Row]) -> str:
    """When a run was last asked for, as far as its database knows: when it was complete, or its latest unit was saved."""
    return max(run["finished"] or "", *(unit["saved"] for unit in units.values()), "")


def _states(theirs: Mapping[str, Row], ours: Mapping[str, Row], later: bool) -> dict[str, tuple[str, bool]]:
    """What each unit of either database is about, and whether it is superseded, once they are one."""
    before, after = (ours, theirs) if later else (theirs, ours)
    subjects = {key: unit["subject"] for units in (before, after) for key, unit in units.items()}
    shown = {**_current(before), **_current(after)}
    return {key: (subject, key not in shown.get(subject, ())) for key, subject in subjects.items()}


def _current(units: Mapping[str, Row]) -> dict[str, set[str]]:
    """The keys of the current units, by what they are about."""
    found: dict[str, set[str]] = defaultdict(set)
    for key, unit in units.items():
        if not unit["superseded"]:
            found[unit["subject"]].add(key)
    return found


def _put_units(
    passage: Passage, new: Connection, units: Sequence[Row], ours: Mapping[str, Row], states: Mapping[str, tuple[str, bool]]
) -> None:
    """Insert units; one that the target has as a skip gives its row up to the result."""
    table, fresh = schema.units, []
    for unit in units:
        subject, superseded = states[unit["key"]]
        row = {**passage.row(table, unit), "subject": subject, "superseded": superseded}
        if unit["key"] not in ours:
            fresh.append(row)
            continue
        skip = ours[unit["key"]]["id"]
        for hanging in OF_UNITS:
            new.execute(hanging.delete().where(hanging.c.unit_id == skip))
        new.execute(table.update().where(table.c.id == skip).values(**row))
    insert(new, table, fresh)


def _put_run(new: Connection, run: Row, known: Row, later: bool) -> None:
    """What describes the latest opening of a run is that of the run that was asked for last."""
    table, of_opening = schema.runs, ("source", "family", "device", "versions", "trust", "presentation")
    values = {name: run[name] for name in of_opening if run[name] is not None and later}
    values["started"] = min(run["started"], known["started"])
    values["finished"] = max(run["finished"] or "", known["finished"] or "") or None
    new.execute(table.update().where(table.c.id == known["id"]).values(**values))
