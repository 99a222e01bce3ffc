"""Aggregates on their way from one database to another: of two for the same slice, the one that rests on more current units stays."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import Connection, case, func, select

from vseam_core.store import schema
from vseam_core.store.passage import Passage
from vseam_core.store.scores import SLICES, drop_unused_sets, score_table, spellings
from vseam_core.store.shared_rows import chunks, insert

OF_RUNS = tuple(name for name, columns in SLICES.items() if "run_id" in columns)
"""The tables whose slices belong to one run."""
OF_NO_RUN = tuple(name for name in SLICES if name not in OF_RUNS)
"""The tables whose slices belong to several runs."""

Slice = tuple[Any, ...]


def copy_aggregates(passage: Passage, new: Connection, name: str, run: int | None, later: bool) -> tuple[int, int]:
    """Bring the aggregates of a table, of one run of the source or of none; the units that they rest on are there already.

    Returns how many rows were brought, and for how many slices both databases had other units. Of two that rest on as many current
    units, the source's stays where it is `later`.
    """
    table = score_table(name)
    theirs: dict[Slice, list[dict[str, Any]]] = defaultdict(list)
    for row in passage.old.execute(select(table).where(*_of(table, run)).order_by(table.c.id)).mappings():
        values = passage.row(table, row)
        if bool(values.get("compared_with")) == bool(row.get("compared_with")):
            theirs[_slice(name, values)].append(values)
    if not theirs:
        return 0, 0
    brought, partial = [], 0
    ours = _stored(new, name, None if run is None else passage.ids["runs"][run])
    for chosen, rows in theirs.items():
        digest, known = rows[0]["sample_set_hash"], ours.get(chosen, set())
        if digest in known:
            continue
        _put_sample_set(passage, new, digest)
        if known:
            partial += 1
            standing, other = _standing(new, digest), max(_standing(new, hash) for hash in known)
            if standing < other or (standing == other and not later):
                continue
            for values in spellings(dict(zip(SLICES[name], chosen, strict=True))):
                new.execute(table.delete().where(*[table.c[column] == value for column, value in values.items()]))
        brought += rows
    for chunk in chunks(brought):
        insert(new, table, chunk)
    return len(brought), partial


def _of(table: Any, run: int | None) -> list[Any]:
    return [] if run is None else [table.c.run_id == run]


def _slice(name: str, row: Any) -> Slice:
    """What is replaced together, in one spelling: of two tasks the first by name stands first."""
    values = {column: row[column] for column in SLICES[name]}
    if "task_a" in values:
        values["task_a"], values["task_b"] = sorted((values["task_a"], values["task_b"]))
    return tuple(values.values())


def _stored(new: Connection, name: str, run: int | None) -> dict[Slice, set[str]]:
    """The sample sets of the slices that the target has."""
    table = score_table(name)
    columns = dict.fromkeys((*SLICES[name], "sample_set_hash"))
    found: dict[Slice, set[str]] = defaultdict(set)
    for row in new.execute(select(*[table.c[column] for column in columns]).where(*_of(table, run)).distinct()).mappings():
        found[_slice(name, row)].add(row["sample_set_hash"])
    return found


def _standing(new: Connection, digest: str) -> tuple[bool, int]:
    """How an aggregate stands: whether all units that it rests on are current, and how many they are."""
    sets, members, units = schema.sample_sets, schema.sample_set_units, schema.units
    stale = func.coalesce(func.sum(case((units.c.superseded, 1), else_=0)), 0)
    query = select(stale, func.count(units.c.id)).select_from(sets.join(members).join(units)).where(sets.c.hash == digest)
    superseded, count = new.execute(query).one()
    return superseded == 0, count


def _put_sample_set(passage: Passage, new: Connection, digest: str) -> None:
    """Note in the target which units an aggregate rests on, as far as the source knows it."""
    sets, members = schema.sample_sets, schema.sample_set_units
    old = passage.old.execute(select(sets.c.id).where(sets.c.hash == digest)).scalar_one_or_none()
    if old is None:
        return
    known = new.execute(select(sets.c.id).where(sets.c.hash == digest)).scalar_one_or_none()
    if known is None:
        new.execute(sets.insert().values(hash=digest))
        known = new.execute(select(sets.c.id).where(sets.c.hash == digest)).scalar_one()
    there = set(new.execute(select(members.c.unit_id).where(members.c.sample_set_id == known)).scalars())
    ids, theirs = passage.ids["units"], passage.old.execute(select(members.c.unit_id).where(members.c.sample_set_id == old)).scalars()
    units = {ids[unit] for unit in theirs if unit in ids}
    insert(new, members, [{"sample_set_id": known, "unit_id": unit} for unit in sorted(units - there)])


def complete_sample_sets(passage: Passage, new: Connection) -> None:
    """Note the units of runs that were copied after an aggregate that rests on them; sets that nothing rests on go."""
    drop_unused_sets(new)
    hashes = schema.sample_sets.c.hash
    for digest in list(new.execute(select(hashes)).scalars()):
        _put_sample_set(passage, new, digest)
