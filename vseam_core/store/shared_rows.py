"""Rows that several units share: samples, edits, the axes of traces and the tokens of prompts, each stored once.

They are found by their identifier, inserted when new and updated when changed; a unit that is replaced leaves them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Table, select

from vseam_core.api.types import Pair, Sample, TraceEffect
from vseam_core.errors import StoreError
from vseam_core.runs.identity import unit_key
from vseam_core.runs.spec import UnitResult
from vseam_core.store import schema
from vseam_core.store.codec import encode_json, encode_what_json_holds

if TYPE_CHECKING:
    from vseam_core.api.prompts import EncodedPrompt

Rows = list[dict[str, Any]]
Axes = tuple[tuple[int, ...], str, tuple[str, ...], tuple[str, ...]]
T = TypeVar("T")

_CHUNK = 500
FEW = 5_000
"""Of so many units at most each is asked for; for more, one look at the whole run is faster."""


def insert(connection: Connection, table: Table, rows: Rows) -> None:
    """Insert rows in bulk; no rows are no statement."""
    if rows:
        connection.execute(table.insert(), rows)


def chunks(values: Iterable[T]) -> Iterator[list[T]]:
    """Pieces that fit a database's limit on parameters."""
    items = list(values)
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]


def _ids(connection: Connection, table: Table, column: str, names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for chunk in chunks(names):
        query = select(table.c[column], table.c.id).where(table.c[column].in_(chunk))
        found.update((name, number) for name, number in connection.execute(query))
    return found


def _upsert(connection: Connection, table: Table, rows: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    """Insert rows by `identifier`, update those that differ from what is stored; returns identifier → id."""
    stored: dict[str, Mapping[str, Any]] = {}
    for chunk in chunks(rows):
        found = connection.execute(select(table).where(table.c.identifier.in_(chunk))).mappings()
        stored.update((row["identifier"], dict(row)) for row in found)
    insert(connection, table, [row for name, row in rows.items() if name not in stored])
    for name, old in stored.items():
        if any(old[column] != value for column, value in rows[name].items()):
            connection.execute(table.update().where(table.c.id == old["id"]).values(**rows[name]))
    ids = {name: int(row["id"]) for name, row in stored.items()}
    ids.update(_ids(connection, table, "identifier", [name for name in rows if name not in stored]))
    return ids


def put_samples(connection: Connection, units: Sequence[UnitResult]) -> dict[str, int]:
    """Store every sample that the units name; returns identifier → id. Raises `StoreError` where two share an identifier."""
    seen: dict[str, Sample] = {}
    for sample in _samples_of(units):
        first = seen.setdefault(sample.identifier, sample)
        if (first.question, first.answer, first.image_id) != (sample.question, sample.answer, sample.image_id):
            raise StoreError(
                f"two different samples are called {sample.identifier!r} (answers {first.answer!r} and {sample.answer!r}): "
                "expected an identifier of its own for each, an edited image included"
            )
    return _upsert(connection, schema.samples, {name: _sample_row(sample) for name, sample in seen.items()})


def _samples_of(units: Sequence[UnitResult]) -> Iterator[Sample]:
    for unit in units:
        yield from unit.samples
        yield from (sample for sample, _ in unit.prompts)
        yield from (row.sample for row in unit.baselines)
        yield from (row.sample for row in unit.answers)
        yield from (sample for sample, _ in unit.head_effects)
        for pair in pairs_of(unit):
            yield pair.clean
            yield pair.corrupt


def pairs_of(unit: UnitResult) -> list[Pair]:
    """Every pair that a unit names, once each."""
    pairs = [*unit.pairs, *(pair for pair, _ in unit.trace_effects)]
    return list({id(pair): pair for pair in pairs}.values())


def _sample_row(sample: Sample) -> dict[str, Any]:
    return {
        "identifier": sample.identifier,
        "dataset": sample.dataset,
        "question_id": str(sample.question_id),
        "image_id": sample.image_id,
        "image": str(getattr(sample.image, "path", "")),
        "question": sample.question,
        "answer": sample.answer,
        "competitor": sample.competitor,
        "level": sample.level,
        "category": sample.category,
        "pool": sample.pool,
        "split": sample.split,
        "form": sample.form,
        "roles": encode_json([list(span) for span in sample.roles], f"the roles of {sample.identifier}"),
        "metadata": encode_what_json_holds(sample.metadata),
    }


def put_edits(connection: Connection, units: Sequence[UnitResult], samples: Mapping[str, int]) -> dict[str, int]:
    """Store every pair that the units name; returns pair identifier → id."""
    rows = {pair.identifier: _edit_row(pair, samples) for unit in units for pair in pairs_of(unit)}
    return _upsert(connection, schema.edits, rows)


def _edit_row(pair: Pair, samples: Mapping[str, int]) -> dict[str, Any]:
    """An edit, with how it was made where its pair knows that."""
    what = f"the edit {pair.identifier}"
    row = {
        "identifier": pair.identifier,
        "clean_id": samples[pair.clean.identifier],
        "corrupt_id": samples[pair.corrupt.identifier],
        "editor": pair.editor,
        "kind": pair.kind,
        "source_term": pair.source_term,
        "target_term": pair.target_term,
        "boxes": encode_json([list(box) for box in pair.boxes], what),
        "checks": encode_json(pair.checks, what),
    }
    record = pair.record
    if record is None:
        return row
    same = ("planner", "mask_provider", "prompt", "confidence", "control", "verdict", "reason", "clean_path", "image_path")
    made = {"edit_key": record.key, "mask": record.mask_path, "plan": encode_json(record.plan, what)}
    return row | made | {name: getattr(record, name) for name in same}


def axes_of(effect: TraceEffect) -> Axes:
    """The layers and columns of an effect, as `put_axes` knows them."""
    return effect.layers, effect.column_kind, effect.columns, effect.roles


def put_axes(connection: Connection, units: Sequence[UnitResult]) -> dict[Axes, int]:
    """Store layers and columns of traces, the same few for most samples, once each; returns axes → id."""
    digests = {}
    rows = {}
    for axes in {axes_of(effect) for unit in units for _, effect in unit.trace_effects}:
        layers, kind, columns, roles = axes
        listed = {"layers": list(layers), "columns": list(columns), "roles": list(roles)}
        row = {name: encode_json(values, name) for name, values in listed.items()} | {"column_kind": kind}
        digests[axes] = unit_key(**row)
        rows[digests[axes]] = {"digest": digests[axes], **row}
    ids = _ids(connection, schema.trace_axes, "digest", rows)
    missing = [row for digest, row in rows.items() if digest not in ids]
    insert(connection, schema.trace_axes, missing)
    ids |= _ids(connection, schema.trace_axes, "digest", [row["digest"] for row in missing])
    return {axes: ids[digest] for axes, digest in digests.items()}


def put_prompts(connection: Connection, model: str, units: Sequence[UnitResult], samples: Mapping[str, int]) -> None:
    """Token rows of prompts that are new or changed; neighbouring image positions are one row with their number as `length`."""
    table = schema.prompt_tokens
    prompts = {samples[sample.identifier]: prompt for unit in units for sample, prompt in unit.prompts}
    for numbers in chunks(prompts):
        here = (table.c.model == model, table.c.sample_id.in_(numbers))
        query = select(table.c.sample_id, table.c.prompt_key).where(*here, table.c.position == 0)
        stored = {row.sample_id: row.prompt_key for row in connection.execute(query)}
        changed = [number for number in numbers if stored.get(number) != prompts[number].key]
        outdated = [number for number in changed if number in stored]
        if outdated:
            connection.execute(table.delete().where(table.c.model == model, table.c.sample_id.in_(outdated)))
        rows = [{"sample_id": n, "model": model, **row} for n in changed for row in _token_rows(prompts[n])]
        insert(connection, table, rows)


def _token_rows(prompt: EncodedPrompt) -> Rows:
    rows: Rows = []
    for position, name in enumerate(prompt.classes):
        if name == "image" and rows and rows[-1]["class"] == "image":
            rows[-1]["length"] += 1
            continue
        token = {"token_id": int(prompt.ids[position]), "token": prompt.tokens[position], "role": prompt.roles[position]}
        rows.append({"position": position, "length": 1, "class": name, "prompt_key": prompt.key, **token})
    return rows
