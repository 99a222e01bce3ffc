"""Reading head effects back: the matrices of a run as one stack, with what is known of their samples and what the model answered.

A run may hold 100,000 of them. So what they have in common is read once, what is known of a sample is not read with each of its effects,
and nothing is done for each effect that can be done for all at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Connection, Select, select

from vseam_core.errors import StoreError
from vseam_core.store import schema
from vseam_core.store.codec import decode_equal_arrays, decode_head_effect
from vseam_core.store.effects import SAMPLE_COLUMNS, Answers, narrowed, rows_of
from vseam_core.store.frames import plain_rows
from vseam_core.store.records import HeadEffectSet
from vseam_core.store.shared_rows import FEW, chunks

if TYPE_CHECKING:
    import pandas as pd

_KIND = ("operation", "positions", "measure", "stack")
_COMMON = (*_KIND, "height", "width", "dtype", "measured")
"""What the head effects of a scan mostly have in common."""
_ABOUT = (*SAMPLE_COLUMNS, "competitor")


def read_head_effects(
    connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Mapping[str, str | Sequence[str] | None]
) -> HeadEffectSet:
    """The head effects of a run as one stack. Raises `StoreError` where matrices of different shapes were asked for at once."""
    rows = _effects(connection, run_id, keys, equals)
    samples = np.array(rows["sample_id"], dtype=np.int64)
    about = _about(connection, run_id, samples)
    places = about.index.get_indexer(samples)
    if (places < 0).any():
        raise StoreError(f"head effects of run {run_id} refer to samples that are not there: `vseam db check` lists them")
    values = _stacked(rows, about["identifier"], places, run_id)
    asked = list(zip(rows["unit_id"], rows["sample_id"], strict=True))
    mine = select(schema.head_effects.c.sample_id).select_from(schema.head_effects.join(schema.units))
    known = Answers(connection, run_id, mine.where(schema.units.c.run_id == run_id), asked).of_all(asked)
    frame = about.take(places).reset_index(drop=True)
    frame.insert(0, "key", rows["key"])
    for name in _KIND:
        frame[name] = rows[name]
    frame["correct_strict"], frame["correct_published"] = (_flags([flags[side] for flags in known]) for side in (0, 1))
    base = np.array(rows["base"], dtype=np.float64)
    order = _order([places, *(_codes(rows[name]) for name in _KIND)], rows["key"])
    if (order[1:] > order[:-1]).all():
        return HeadEffectSet(values, base, frame)
    return HeadEffectSet(values[order], base[order], frame.take(order).reset_index(drop=True))


def _effects(
    connection: Connection, run_id: int, keys: Sequence[str] | None, equals: Mapping[str, str | Sequence[str] | None]
) -> dict[str, list[Any]]:
    """The effects as a list for each column, with their units' keys."""
    table, units = schema.head_effects, schema.units
    joined = table.join(units)
    alike = _alike(connection, narrowed(select(*[table.c[name] for name in _COMMON]).select_from(joined), table, run_id, equals))
    own = [column for column in table.c if column.name != "id" and column.name not in alike]
    found = rows_of(connection, narrowed(select(*own, units.c.key).select_from(joined), table, run_id, equals), keys)
    names = [*(column.name for column in own), "key"]
    rows = {name: list(values) for name, values in zip(names, zip(*found, strict=True) if found else [()] * len(names), strict=True)}
    return rows | {name: [value] * len(found) for name, value in alike.items()}


def _alike(connection: Connection, query: Select[Any]) -> dict[str, Any]:
    """What a query gives where all its rows are alike, by column; nothing where they are not. It is then read once, not 100,000 times."""
    kinds = connection.execute(query.distinct().limit(2)).mappings().all()
    return dict(kinds[0]) if len(kinds) == 1 else {}


def _about(connection: Connection, run_id: int, samples: np.ndarray) -> pd.DataFrame:
    """What is known of these samples, by row id, in the order of their identifiers."""
    import pandas as pd

    table, effects = schema.samples, schema.head_effects
    query, wanted = select(table.c.id, *[table.c[name] for name in _ABOUT]), np.unique(samples)
    if len(wanted) > FEW:
        mine = select(effects.c.sample_id).select_from(effects.join(schema.units)).where(schema.units.c.run_id == run_id)
        found = plain_rows(connection, query.where(table.c.id.in_(mine)))
    else:
        parts = [plain_rows(connection, query.where(table.c.id.in_(chunk))) for chunk in chunks(wanted.tolist())]
        found = [row for part in parts for row in part]
    found.sort(key=lambda row: row[1])
    columns = dict(zip(("id", *_ABOUT), zip(*found, strict=True) if found else [()] * (1 + len(_ABOUT)), strict=True))
    index = pd.Index(np.array(columns.pop("id"), dtype=np.int64))
    return pd.DataFrame({name: list(values) for name, values in columns.items()}, index=index)


def _stacked(rows: Mapping[str, Sequence[Any]], identifiers: pd.Series, places: np.ndarray, run_id: int) -> np.ndarray:
    """The matrices of all rows, float32 `[n, layers, heads]`; of many whole ones of one shape, all at once."""
    together = decode_equal_arrays(rows)
    if together is not None:
        return together
    each = (dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True))
    names = identifiers.take(places)
    matrices = [decode_head_effect(row, f"{row['operation']} of {name}") for row, name in zip(each, names, strict=True)]
    shapes = sorted({(stack, *matrix.shape) for stack, matrix in zip(rows["stack"], matrices, strict=True)})
    if len({shape[1:] for shape in shapes}) > 1:
        listed = ", ".join(f"{stack} {height} x {width}" for stack, height, width in shapes)
        raise StoreError(f"the head effects of run {run_id} have several shapes ({listed}): ask for one stack at a time")
    height, width = shapes[0][1:] if shapes else (0, 0)
    return np.asarray(matrices, dtype=np.float32).reshape(len(matrices), height, width)


def _codes(values: Sequence[str]) -> np.ndarray:
    """Numbers that are ordered as the values are."""
    numbers = {value: number for number, value in enumerate(sorted(set(values)))}
    return np.array([numbers[value] for value in values], dtype=np.int64)


def _order(codes: Sequence[np.ndarray], keys: Sequence[str]) -> np.ndarray:
    """The order by the first codes, then the next ones; what is alike in all of them (one sample in several units) by its key."""
    order = np.lexsort(codes[::-1])
    sorted_codes = np.stack(codes)[:, order]
    if (sorted_codes[:, 1:] == sorted_codes[:, :-1]).all(axis=0).any():
        return np.lexsort([_codes(keys), *codes[::-1]])
    return order


def _flags(values: Sequence[bool | None]) -> Any:
    import pandas as pd

    return pd.array(values, dtype="boolean")
