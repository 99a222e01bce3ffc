"""Reading head effects back: the matrices of a run as one stack, with what is known of their samples and what the model answered.

A run may hold 100,000 of them. So a few thousand rows at a time are made arrays, before there are many; what is known of a sample is not
read with each of its effects; and nothing is done for each effect that can be done for all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, select

from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_equal_arrays, decode_head_effect
from vseam_core.store.currency import is_current
from vseam_core.store.effects import SAMPLE_COLUMNS, Answers, narrowed
from vseam_core.store.frames import plain_parts, plain_rows
from vseam_core.store.records import HeadEffectSet
from vseam_core.store.shared_rows import FEW, chunks

if TYPE_CHECKING:
    import pandas as pd

_KIND = ("operation", "positions", "measure", "stack")
_COLUMNS = ("unit_id", "sample_id", "base", "data", "checksum", "height", "width", "dtype", "measured", *_KIND)
_ABOUT = (*SAMPLE_COLUMNS, "competitor")

Equals = Mapping[str, str | Sequence[str] | None]


@dataclass(frozen=True, eq=False)
class _Effects:
    """Effects in any order, `[n]` each: row ids of unit and sample, base, matrix; `kinds` numbers what each is of `named`."""

    units: np.ndarray
    samples: np.ndarray
    base: np.ndarray
    values: np.ndarray
    kinds: np.ndarray
    named: list[tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class _Known:
    """What is known beside the effects: of each sample, of each unit, and whether the sample of each effect was answered rightly."""

    about: pd.DataFrame
    keys: dict[int, str]
    strict: Any
    published: Any


def read_head_effects(connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Equals) -> HeadEffectSet:
    """The head effects of a run as one stack. Raises `StoreError` where matrices of different shapes were asked for at once."""
    effects, known = _read(connection, run_id, keys, equals)
    return _effect_set(effects, known, np.arange(len(effects.units)))


def read_by_measure(connection: Connection, run_id: int, keys: Sequence[str] | None, measures: Sequence[str]) -> dict[str, HeadEffectSet]:
    """`read_head_effects` for each of these measures that is there, in little more time than for one."""
    effects, known = _read(connection, run_id, keys, {"measure": measures})
    of_kind = np.array([measure for _, _, measure, _ in effects.named], dtype=object)
    there = [name for name in measures if name in of_kind]
    return {name: _effect_set(effects, known, np.flatnonzero((of_kind == name)[effects.kinds])) for name in there}


def _effect_set(effects: _Effects, known: _Known, rows: np.ndarray) -> HeadEffectSet:
    """Some of the effects, by sample, then operation, positions, measure, stack and unit."""
    import pandas as pd

    places = known.about.index.get_indexer(pd.Index(effects.samples))
    ranks = np.argsort(sorted(range(len(effects.named)), key=effects.named.__getitem__)) if effects.named else np.zeros(0, dtype=int)
    order = [places[rows], ranks[effects.kinds[rows]]]
    sorted_rows = rows[np.lexsort(order[::-1])]
    if (np.diff(places[sorted_rows]) == 0).any():  # one sample has several effects: of two alike ones the unit decides
        unit_ranks = {unit: rank for rank, unit in enumerate(sorted(known.keys, key=known.keys.__getitem__))}
        order.append(np.array([unit_ranks[unit] for unit in effects.units[rows].tolist()], dtype=np.int64))
        sorted_rows = rows[np.lexsort(order[::-1])]
    rows = sorted_rows
    frame = known.about.take(places[rows]).reset_index(drop=True)
    frame.insert(0, "key", [known.keys[unit] for unit in effects.units[rows].tolist()])
    for column, name in enumerate(_KIND):
        texts = np.array([kind[column] for kind in effects.named], dtype=object)
        frame[name] = texts[effects.kinds[rows]]
    frame["correct_strict"], frame["correct_published"] = known.strict[rows], known.published[rows]
    return HeadEffectSet(effects.values[rows], effects.base[rows], frame)


def _read(connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Equals) -> tuple[_Effects, _Known]:
    import pandas as pd

    unit_keys = _unit_keys(connection, run_id, keys)
    effects = _effects(connection, run_id, None if keys is None else unit_keys, equals)
    about = _about(connection, run_id, effects.samples)
    if (about.index.get_indexer(pd.Index(effects.samples)) < 0).any():
        raise StoreError(f"head effects of run {run_id} refer to samples that are not there: `vseam db check` lists them")
    strict, published = _answered(connection, run_id, effects)
    return effects, _Known(about, unit_keys, strict, published)


def _unit_keys(connection: Connection, run_id: int, keys: Sequence[str] | None) -> dict[int, str]:
    """The keys of a run's current units (of those with these keys) by row id."""
    table = schema.units
    query = select(table.c.id, table.c.key).where(table.c.run_id == run_id, is_current())
    if keys is None:
        return dict(plain_rows(connection, query))
    wanted = dict.fromkeys(keys)
    if len(wanted) > FEW:
        return {unit: key for unit, key in plain_rows(connection, query) if key in wanted}
    return dict(row for chunk in chunks(wanted) for row in plain_rows(connection, query.where(table.c.key.in_(chunk))))


def _effects(connection: Connection, run_id: int, units: Mapping[int, str] | None, equals: Equals) -> _Effects:
    """The effects of a run, or of some of its units."""
    table = schema.head_effects
    query = narrowed(select(*[table.c[name] for name in _COLUMNS]).select_from(table.join(schema.units)), table, run_id, equals)
    few = units is not None and len(units) <= FEW
    queries = [query.where(table.c.unit_id.in_(chunk)) for chunk in chunks(units or ())] if few else [query]
    numbers: dict[tuple[str, ...], int] = {}
    found: list[list[np.ndarray]] = []
    matrices: list[tuple[str, np.ndarray]] = []
    for part in (part for one in queries for part in plain_parts(connection, one)):
        asked = part if units is None or few else [row for row in part if row[0] in units]
        columns = dict(zip(_COLUMNS, zip(*asked, strict=True) if asked else [()] * len(_COLUMNS), strict=True))
        kinds = [numbers.setdefault(kind, len(numbers)) for kind in zip(*(columns[name] for name in _KIND), strict=True)]
        types = {"unit_id": np.int64, "sample_id": np.int64, "base": np.float64}
        found.append([*(np.array(columns[name], dtype=kind) for name, kind in types.items()), np.array(kinds, dtype=np.int64)])
        matrices += _matrices(columns)
    empty = [np.zeros(0, dtype=kind) for kind in (np.int64, np.int64, np.float64, np.int64)]
    of_units, of_samples, base, kinds_of = (np.concatenate(parts) for parts in zip(empty, *found, strict=True))
    return _Effects(of_units, of_samples, base, _stacked(matrices, run_id), kinds_of, list(numbers))


def _matrices(columns: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, np.ndarray]]:
    """The matrices of some rows, each stack of equal ones with what its place in the model is called."""
    together = decode_equal_arrays(columns)
    if together is not None and len(set(columns["stack"])) == 1:
        yield columns["stack"][0], together
        return
    for values in zip(*columns.values(), strict=True):
        row = dict(zip(columns, values, strict=True))
        what = f"{row['operation']} of sample {row['sample_id']} (its number in the table of samples)"
        yield row["stack"], decode_head_effect(row, what)[None]


def _stacked(matrices: Sequence[tuple[str, np.ndarray]], run_id: int) -> np.ndarray:
    shapes = sorted({(stack, *part.shape[1:]) for stack, part in matrices})
    if len({shape[1:] for shape in shapes}) > 1:
        listed = ", ".join(f"{stack} {height} x {width}" for stack, height, width in shapes)
        raise StoreError(f"the head effects of run {run_id} have several shapes ({listed}): ask for one stack at a time")
    return np.concatenate([part for _, part in matrices], dtype=np.float32) if matrices else np.zeros((0, 0, 0), dtype=np.float32)


def _about(connection: Connection, run_id: int, samples: np.ndarray) -> pd.DataFrame:
    """What is known of these samples, by row id, in the order of their identifiers."""
    import pandas as pd

    table, effects = schema.samples, schema.head_effects
    query, wanted = select(table.c.id, *[table.c[name] for name in _ABOUT]), np.unique(samples)
    if len(wanted) > FEW:
        mine = select(effects.c.sample_id).select_from(effects.join(schema.units)).where(schema.units.c.run_id == run_id)
        queries = [query.where(table.c.id.in_(mine))]
    else:
        queries = [query.where(table.c.id.in_(chunk)) for chunk in chunks(wanted.tolist())]
    frames = [pd.DataFrame(part, columns=["id", *_ABOUT]) for one in queries for part in plain_parts(connection, one)]
    found = pd.concat(frames) if frames else pd.DataFrame({name: [] for name in ("id", *_ABOUT)})
    return found.astype({"id": "int64"}).set_index("id").sort_values("identifier")


def _answered(connection: Connection, run_id: int, effects: _Effects) -> tuple[Any, Any]:
    """Whether the sample of each effect was answered rightly: by the benchmark's rule, and as published; null where nothing is known."""
    import pandas as pd

    table, units = schema.baselines, schema.units
    query = select(*[table.c[name] for name in ("unit_id", "sample_id", "correct_strict", "correct_published")])
    mine = query.select_from(table.join(units)).where(units.c.run_id == run_id, is_current()).order_by(table.c.id)
    parts = [np.array(part, dtype=np.int64) for part in plain_parts(connection, mine)]
    rows = np.concatenate(parts) if parts else np.zeros((0, 4), dtype=np.int64)
    most = 1 + max(rows[:, 1].max(initial=0), effects.samples.max(initial=0))
    answered, asked = rows[:, 0] * most + rows[:, 1], effects.units * most + effects.samples
    order = np.argsort(answered, kind="stable")
    places = np.searchsorted(answered, asked, side="right", sorter=order) - 1  # the last of several answers to one question
    if len(rows) and (answered[order[places]] == asked).all():
        strict, published = rows[order[places], 2:].astype(bool).T
        return pd.array(strict, dtype="boolean"), pd.array(published, dtype="boolean")
    # Other runs of the model may know what this one does not say.
    of_run = select(schema.head_effects.c.sample_id).select_from(schema.head_effects.join(units)).where(units.c.run_id == run_id)
    pairs = list(zip(effects.units.tolist(), effects.samples.tolist(), strict=True))
    known = Answers(connection, run_id, of_run, pairs).of_all(pairs)
    return pd.array([strict for strict, _ in known], dtype="boolean"), pd.array([published for _, published in known], dtype="boolean")
