"""How values lie in the database: arrays as little-endian float32 bytes, everything structured as JSON text.

Nothing is pickled: a database from anywhere can be read without running any code of its author.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from vseam_core.api.types import HeadEffect
from vseam_core.errors import StoreError
from vseam_core.files import parse_json
from vseam_core.runs.spec import UnitResult
from vseam_core.store.columns import ARRAY_DTYPE


def _plain(value: object) -> object:
    """What JSON writes for the few types beyond its own that our records hold."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is no plain value")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain, check_circular=True)


def encode_array(values: np.ndarray, what: str) -> dict[str, Any]:
    """The columns of a float32 matrix `[height, width]`: its bytes, shape and dtype. Raises `StoreError` for another shape."""
    matrix = np.asarray(values)
    if matrix.ndim != 2:
        raise StoreError(f"{what}: expected an array of two dimensions, got shape {list(matrix.shape)}")
    data = np.ascontiguousarray(matrix, dtype=ARRAY_DTYPE)
    height, width = data.shape
    return {"height": height, "width": width, "dtype": ARRAY_DTYPE, "data": data.tobytes()}


def decode_array(row: Mapping[str, Any], what: str) -> np.ndarray:
    """The float32 matrix `[height, width]` of a row. Raises `StoreError` where bytes, shape and dtype do not agree."""
    height, width, dtype, data = row["height"], row["width"], row["dtype"], row["data"]
    if dtype != ARRAY_DTYPE:
        raise StoreError(f"{what}: expected an array of {ARRAY_DTYPE}, the database says {dtype!r}")
    if not isinstance(data, bytes) or len(data) != height * width * np.dtype(ARRAY_DTYPE).itemsize:
        size = len(data) if isinstance(data, bytes) else "no"
        raise StoreError(f"{what}: expected {height} x {width} float32 values, found {size} bytes: the record is damaged")
    if checksum_of(row) != row["checksum"]:
        raise StoreError(f"{what}: the record is damaged (its checksum is another): `vseam db check` lists all that are")
    return np.frombuffer(data, dtype=ARRAY_DTYPE).reshape(height, width).astype(np.float32)


def checksum_of(row: Mapping[str, Any]) -> int:
    """The checksum of an array's row: of its bytes and shape, and of the numbers that only have a meaning with them."""
    beside = {name: row[name] for name in ("height", "width", "measured", "base", "clean", "corrupt") if row.get(name) is not None}
    data = row["data"] if isinstance(row["data"], bytes) else b""
    return zlib.crc32(data, zlib.crc32(repr(sorted(beside.items())).encode())) & 0x7FFFFFFF


def with_checksum(row: dict[str, Any]) -> dict[str, Any]:
    """The row of an array with the checksum that it is stored with."""
    return {**row, "checksum": checksum_of(row)}


def encode_head_effect(effect: HeadEffect, what: str) -> dict[str, Any]:
    """The columns of a head effect: the whole matrix, or the measured cells alone as one row, with their places in `measured`.

    A head that was not measured leaves nothing behind that could pass for a number.
    """
    if effect.measured is None:
        return {**encode_array(effect.values, what), "measured": None}
    mask = np.asarray(effect.measured, dtype=bool)
    if mask.shape != np.shape(effect.values):
        raise StoreError(f"{what}: expected measured flags of shape {list(np.shape(effect.values))}, got {list(mask.shape)}")
    places = {"shape": list(mask.shape), "heads": np.argwhere(mask).tolist()}
    return {**encode_array(np.asarray(effect.values)[mask][None], what), "measured": encode_json(places, what)}


def decode_head_effect(row: Mapping[str, Any], what: str) -> np.ndarray:
    """The float32 matrix `[layers, heads]` of a head effect, NaN where a head was not measured."""
    values = decode_array(row, what)
    if row["measured"] is None:
        return values
    places = decode_json(row["measured"], f"{what}: the measured heads")
    try:
        matrix = np.full(places["shape"], np.nan, dtype=np.float32)
        heads = np.array(places["heads"], dtype=int).reshape(-1, 2)
        matrix[heads[:, 0], heads[:, 1]] = values.reshape(len(heads))
    except (KeyError, IndexError, TypeError, ValueError):
        raise StoreError(f"{what}: the measured heads do not fit {values.size} values: the record is damaged") from None
    return matrix


def decode_equal_arrays(rows: Mapping[str, Sequence[Any]]) -> np.ndarray | None:
    """The float32 matrices `[n, height, width]` of many rows of head effects, given as columns; None where one needs a closer look.

    That is where shapes differ, only some heads were measured, or something is damaged: `decode_head_effect` says what.
    """
    shapes = set(zip(rows["height"], rows["width"], rows["dtype"], rows["measured"], strict=True))
    if len(shapes) != 1:
        return None
    ((height, width, dtype, measured),) = shapes
    size = height * width * np.dtype(ARRAY_DTYPE).itemsize
    if measured is not None or dtype != ARRAY_DTYPE or not all(isinstance(data, bytes) and len(data) == size for data in rows["data"]):
        return None
    # What `checksum_of` takes in beside the bytes.
    rest = f"), ('height', {height!r}), ('width', {width!r})]"
    for data, base, checksum in zip(rows["data"], rows["base"], rows["checksum"], strict=True):
        if zlib.crc32(data, zlib.crc32(f"[('base', {base!r}{rest}".encode())) & 0x7FFFFFFF != checksum:
            return None
    return np.frombuffer(b"".join(rows["data"]), dtype=ARRAY_DTYPE).reshape(-1, height, width)


def encode_json(value: object, what: str) -> str:
    """A value as JSON text with sorted keys. Raises `StoreError` for NaN, infinity and what JSON cannot hold."""
    try:
        return _ENCODER.encode(value)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored as JSON: {error}") from None


def decode_json(text: str, what: str, kind: type = dict) -> Any:
    """The object (or list) of a column of JSON. Raises `StoreError` where the database holds something else there: it is damaged."""
    try:
        value = parse_json(text)
    except (TypeError, ValueError):
        value = None
    if not isinstance(value, kind):
        wanted = "a list" if kind is list else "an object"
        raise StoreError(f"{what}: the record is damaged, expected {wanted} as JSON, found {str(text)[:40]!r}: restore a copy")
    return value


def encode_what_json_holds(values: Mapping[str, Any]) -> str:
    """A mapping as JSON text, without the entries that JSON cannot hold: a benchmark's own objects stay with the benchmark."""
    kept = []
    for name, value in values.items():
        try:
            text = _ENCODER.encode(value)
            f"{name}{text}".encode()  # half of a character is no text
            kept.append((str(name), text))
        except (TypeError, ValueError):
            continue
    return "{" + ",".join(f"{_ENCODER.encode(name)}:{text}" for name, text in sorted(kept)) + "}"


def non_finite(unit: UnitResult) -> str | None:
    """Why a unit must not be stored: the first number that is NaN or infinite, with its sample; None where all are finite."""
    return (
        _in_baselines(unit)
        or _in_answers(unit)
        or _in_trace_effects(unit)
        or _in_head_effects(unit)
        or _in_named(unit)
        or _in_mappings(unit)
    )


def _in_baselines(unit: UnitResult) -> str | None:
    for row in unit.baselines:
        for name in ("answer_prob", "prob_sum", "logit", "logit_diff", "sequence_logprob", "score"):
            value = getattr(row, name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value} in the baseline of sample {row.sample.identifier}"
    return None


def _in_answers(unit: UnitResult) -> str | None:
    for row in unit.answers:
        for name in ("score", "gold_probability", "competitor_probability", "logit_diff"):
            value = getattr(row, name)
            if value is not None and not math.isfinite(value):
                return f"{name} is {value} in the answer to sample {row.sample.identifier}"
    return None


def _in_trace_effects(unit: UnitResult) -> str | None:
    for pair, effect in unit.trace_effects:
        where = f"{effect.tracer} ({effect.site_kind}, {effect.direction}, {effect.measure}) of sample {pair.clean.identifier}"
        cell = _first_bad_cell(effect.values)
        if cell is not None:
            row, column, value = cell
            place = f"layer {effect.layers[row]}, column {effect.columns[column]}"
            return f"the effect is {value} at {place} in {where}"
        for name, value in (("clean", effect.clean), ("corrupt", effect.corrupt)):
            if not math.isfinite(value):
                return f"the {name} measure is {value} in {where}"
    return None


def _in_head_effects(unit: UnitResult) -> str | None:
    for sample, effect in unit.head_effects:
        where = f"{effect.operation} at {effect.positions} positions ({effect.measure}) of sample {sample.identifier}"
        measured = effect.values if effect.measured is None else np.where(effect.measured, effect.values, 0.0)
        cell = _first_bad_cell(measured)
        if cell is not None:
            layer, head, value = cell
            return f"the effect is {value} at layer {layer}, head {head} in {where}"
        if not math.isfinite(effect.base):
            return f"the base is {effect.base} in {where}"
    return None


def _in_named(unit: UnitResult) -> str | None:
    """Ablations and modulations: every number among their fields."""
    for row in (*unit.ablations, *unit.modulations):
        for name, value in vars(row).items():
            if isinstance(value, float | np.floating) and not math.isfinite(value):
                return f"{name} is {value} in a condition of {type(row).__name__.lower()} {unit.identifier}"
    return None


def _in_mappings(unit: UnitResult) -> str | None:
    """Edit checks, scales and details: numbers at any depth."""
    for pair in (*unit.pairs, *(pair for pair, _ in unit.trace_effects)):
        if _holds_non_finite(pair.checks) or _holds_non_finite(pair.boxes):
            return f"a check or box of the edit is not finite for sample {pair.clean.identifier}"
    for row in unit.modulations:
        if _holds_non_finite(row.scales):
            return f"a head scale is not finite in {unit.identifier}"
    if _holds_non_finite(unit.details):
        return f"a number in the details is not finite for {unit.identifier}"
    return None


def _first_bad_cell(values: np.ndarray) -> tuple[int, int, float] | None:
    """Row, column and value of the first cell that float32 cannot hold as a finite number."""
    with np.errstate(over="ignore"):
        matrix = np.asarray(values).astype(ARRAY_DTYPE)
    finite = np.isfinite(matrix)
    if matrix.ndim != 2 or finite.all():
        return None
    row, column = (int(index) for index in np.argwhere(~finite)[0])
    return row, column, float(matrix[row, column])


def _holds_non_finite(value: object) -> bool:
    if isinstance(value, float | np.floating):
        return not math.isfinite(value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f" and not bool(np.isfinite(value).all())
    if isinstance(value, Mapping):
        return any(_holds_non_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_holds_non_finite(item) for item in value)
    return False
