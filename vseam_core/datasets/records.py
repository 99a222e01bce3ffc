"""Reads question files as they come: JSON lists and dictionaries, JSON lines (also with CRLF, also named .json), CSV, parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vseam_core.errors import InvalidFileError, PluginError, SampleError

# Where official releases keep their records inside one object.
_LISTS = ("questions", "data", "annotations")
KEY = "question_id"
"""The field that the key of a dictionary of records becomes, where a record does not have it itself."""


@dataclass(frozen=True)
class Record:
    """One entry of a question file: its fields, and where it stands, for people ("gqa.json, record 17")."""

    place: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field as text, "" where it is missing or null; numbers as they are written."""
        value = self.fields.get(name)
        return "" if value is None else str(value).strip()

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that holds named values, empty where it is missing or null. Raises `SampleError` for anything else."""
        return as_mapping(self.fields.get(name), f"{self.place}: {name}")

    def items(self, name: str) -> Sequence[Any]:
        """A field that holds a list, empty where it is missing or null. Raises `SampleError` for anything else."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, list | tuple):
            raise SampleError(f"{self.place}: {name}: expected a list, found {_shown(value)}")
        return value or ()


def as_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be a mapping, empty where it is null. Raises `SampleError` that says `where` for anything else."""
    if value is not None and not isinstance(value, Mapping):
        raise SampleError(f"{where}: expected an object with fields, found {_shown(value)}")
    return value or {}


def _shown(value: Any) -> str:
    """A value of an unexpected type in a few words."""
    return f"{type(value).__name__} {value!r:.60}"


def read_records(path: Path) -> Iterator[Record]:
    """Every record of a file, in order. Raises `InvalidFileError` with file and line for a file that cannot be understood."""
    if not path.is_file():
        raise InvalidFileError(f"{path}: no such file")
    match path.suffix.lower():
        case ".csv" | ".tsv":
            yield from _read_csv(path, "\t" if path.suffix.lower() == ".tsv" else ",")
        case ".parquet":
            yield from _read_parquet(path)
        case _:
            yield from _read_json(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFileError(f"{path}: expected UTF-8 text, byte {error.start} is none") from None


def _read_json(path: Path) -> Iterator[Record]:
    text = _text_of(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].lstrip().startswith("{") or not _is_json(lines[0][1]):
            raise InvalidFileError(f"{path}:{error.lineno}: expected JSON or one JSON object on each line: {error.msg}") from None
        yield from _read_lines(path, lines)
        return
    if isinstance(content, dict):
        for name in _LISTS:
            if isinstance(content.get(name), list):
                content = content[name]
                break
        else:
            # A single object on a single line is a file of JSON lines as well.
            content = [content] if "question" in content or "text" in content else _with_keys(path, content)
    if not isinstance(content, list):
        raise InvalidFileError(f"{path}: expected a list or a dictionary of records, found a {type(content).__name__}")
    for number, fields in enumerate(content, 1):
        yield Record(f"{path.name}, record {number}", _object(path, f"record {number}", fields))


def _with_keys(path: Path, content: Mapping[str, Any]) -> list[Any]:
    """The records of a dictionary, each knowing the key that it stood under."""
    return [{KEY: key, **_object(path, f"record {key!r}", fields)} for key, fields in content.items()]


def _read_lines(path: Path, lines: list[tuple[int, str]]) -> Iterator[Record]:
    for number, line in lines:
        try:
            fields = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidFileError(f"{path}:{number}: expected a JSON object on the line: {error.msg}") from None
        yield Record(f"{path.name}, line {number}", _object(path, f"line {number}", fields))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _object(path: Path, where: str, fields: Any) -> Mapping[str, Any]:
    if not isinstance(fields, Mapping):
        raise InvalidFileError(f"{path}: {where}: expected an object with fields, found a {type(fields).__name__}")
    return fields


def _read_csv(path: Path, delimiter: str) -> Iterator[Record]:
    reader = csv.DictReader(_text_of(path).splitlines(keepends=True), delimiter=delimiter)
    if not reader.fieldnames:
        raise InvalidFileError(f"{path}: expected a first line with the names of the columns")
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InvalidFileError(f"{path}:{reader.line_num}: expected {len(reader.fieldnames)} values, as in the first line")
            yield Record(f"{path.name}, line {reader.line_num}", row)
    except csv.Error as error:
        raise InvalidFileError(f"{path}:{reader.line_num}: {error}") from None


def _read_parquet(path: Path) -> Iterator[Record]:
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise PluginError(f"{path}: reading parquet needs pyarrow: pip install 'vseam[parquet]'") from None
    try:
        table = parquet.ParquetFile(path)
        number = 0
        for batch in table.iter_batches(batch_size=256):
            for fields in batch.to_pylist():
                number += 1
                yield Record(f"{path.name}, row {number}", fields)
    except (OSError, ValueError) as error:
        raise InvalidFileError(f"{path}: not a readable parquet file: {' '.join(str(error).split())[:200]}") from None
