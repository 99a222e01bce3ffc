"""Reads question files as they come: JSON lists and dictionaries, JSON lines (also with CRLF, also named .json), CSV and TSV (also with
images in base64), parquet and arrow files, and folders of these as Hugging Face `datasets` writes them."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vseam_core.datasets.answers import gold_answer, written
from vseam_core.datasets.table_files import TABLE_SUFFIXES, read_folder, read_table
from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.files import parse_json, read_bytes, why_not_read

# Where official releases keep their records inside one object.
_LISTS = ("questions", "data", "annotations")
KEY = "question_id"
"""The field that the key of a dictionary of records becomes, where a record does not have it itself."""


@dataclass(frozen=True)
class Record:
    """One entry of a question file: its fields, and where it stands, for people ("gqa.json, record 17")."""

    place: str
    fields: Mapping[str, Any]

    def text(self, *names: str) -> str:
        """The first of these fields that is there, as text: "" where none is. Raises `SampleError` for a list, an object, NaN."""
        name, value = self._first(names)
        if value is None:
            return ""
        try:
            return written(value).strip()
        except ValueError as reason:
            raise SampleError(f"{self.place}: {name} {reason}") from None

    def answer(self, *names: str, yes_no: bool = False) -> str:
        """The gold answer in the first of these fields that is there; see `gold_answer`. Raises `SampleError`."""
        name, value = self._first(names)
        try:
            return gold_answer(value, yes_no)
        except ValueError as reason:
            raise SampleError(f"{self.place}: the gold answer ({name}) {reason}") from None

    def image(self, *names: str) -> tuple[str, bytes | None]:
        """The name of the image in the first of these fields that is there, and the image itself where the record carries it.

        Known forms are a name, bytes, base64 text, an object with `bytes` or `path`, and a list of one of these. An image without a name
        there has that of a later field, or its digest. Raises `SampleError` for several images: a question is asked about one.
        """
        name, value = self._first(names)
        value = _only(self.place, name, _as_list(value))
        further = next((other for other in self.fields if _FURTHER_IMAGE.fullmatch(other) and self.fields[other]), None)
        if further is not None and self.fields.get(f"{further.rpartition('_')[0]}_1"):
            raise SampleError(f"{self.place}: several images in one record ({further}); a question is asked about one image")
        value = _decoded(value)
        content = value.get("bytes") if isinstance(value, Mapping) else value if isinstance(value, bytes) else None
        if content is not None and not isinstance(content, bytes):
            raise SampleError(f"{self.place}: {name}: the bytes of the image are a {type(content).__name__}")
        path = value.get("path") if isinstance(value, Mapping) else None if isinstance(value, bytes) else value
        try:
            known = "" if path is None else written(path).strip()
        except ValueError as reason:
            raise SampleError(f"{self.place}: {name} {reason}") from None
        if not known and (others := [other for other in names if other != name]):
            known = self.text(*others)
        if len(known) > _LONGEST_NAME:
            raise SampleError(f"{self.place}: {name}: a text of {len(known)} characters is no name of an image")
        return known or (hashlib.sha256(content).hexdigest()[:16] if content else ""), content

    def _first(self, names: Sequence[str]) -> tuple[str, Any]:
        """The first of some fields that is there and not null; the first name where none is."""
        return next(((name, self.fields[name]) for name in names if self.fields.get(name) is not None), (names[0], None))

    def without_images(self) -> dict[str, Any]:
        """The fields but those that hold an image: what is kept beside a sample."""
        return {name: value for name, value in self.fields.items() if not any(map(_is_image, _several(value)))}

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that holds named values, empty where it is missing or null. Raises `SampleError` for anything else."""
        return as_mapping(self.fields.get(name), f"{self.place}: {name}")

    def items(self, name: str) -> Sequence[Any]:
        """A field that holds a list, empty where it is missing or null. Raises `SampleError` for anything else."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, list | tuple):
            raise SampleError(f"{self.place}: {name}: expected a list, found {_shown(value)}")
        return value or ()


_FURTHER_IMAGE = re.compile(r"image_(?:[2-9]|\d\d)")
_LONGEST_NAME = 1000
# How the formats that are read begin in base64: JPEG, PNG, WebP, GIF, BMP, TIFF. Names of files are shorter.
_BASE64_OPENINGS, _SHORTEST_BASE64 = ("/9j/", "iVBORw0KGgo", "UklGR", "R0lGOD", "Qk", "SUkq", "TU0A"), 64
_LONGEST_CELL = 1 << 30


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else (value,)


def _is_image(value: Any) -> bool:
    """Whether a value holds an image itself: bytes, an object with some, or a long text without a space (base64)."""
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes)
    return isinstance(value, bytes) or (isinstance(value, str) and len(value) > _LONGEST_NAME and " " not in value[:_LONGEST_NAME])


def _decoded(value: Any) -> Any:
    """The bytes of an image that is written as base64 text; any other value as it is."""
    if not isinstance(value, str) or not value.startswith(_BASE64_OPENINGS) or len(value) < _SHORTEST_BASE64:
        return value
    try:
        return base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        return value


def _as_list(value: Any) -> list[Any]:
    """What a field holds as a list: its own, or one as JSON text."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parse_json(value)
        except ValueError:
            return [value]
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _only(place: str, name: str, values: Sequence[Any]) -> Any:
    if len(values) > 1:
        raise SampleError(f"{place}: {name}: {len(values)} images in one record; a question is asked about one image")
    return values[0] if values else None


def as_mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be a mapping, empty where it is null. Raises `SampleError` that says `where` for anything else."""
    if value is not None and not isinstance(value, Mapping):
        raise SampleError(f"{where}: expected an object with fields, found {_shown(value)}")
    return value or {}


def _shown(value: Any) -> str:
    """A value of an unexpected type in a few words."""
    return f"{type(value).__name__} {value!r:.60}"


def read_records(path: Path, split: str = "") -> Iterator[Record]:
    """Every record of a file, in order, or of one split of a folder that Hugging Face `datasets` wrote.

    Raises `InvalidFileError` with file and line for a file that cannot be understood.
    """
    if path.is_dir():
        yield from (Record(place, fields) for place, fields in read_folder(path, split))
        return
    if not os.path.exists(path):
        raise InvalidFileError(f"{path}: no such file")
    if reason := why_not_read(path):
        raise InvalidFileError(f"{path}: {reason}")
    suffix = path.suffix.lower()
    match suffix:
        case ".csv" | ".tsv":
            yield from _read_csv(path, "\t" if suffix == ".tsv" else ",")
        case _ if suffix in TABLE_SUFFIXES:
            yield from (Record(place, fields) for place, fields in read_table(path))
        case _:
            yield from _read_json(path)


def text_of(path: Path) -> str:
    """The text of a file with its line ends as they are. Raises `InvalidFileError` where it is not UTF-8 or has zero bytes."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidFileError(f"{path}: expected UTF-8 text, byte {error.start} is none") from None
    if "\0" in text:
        raise InvalidFileError(f"{path}: expected UTF-8 text, found zero bytes (a file of another kind, or UTF-16)")
    return text


def lines_of(text: str) -> list[str]:
    """The lines of a text, which end with a line feed, or a carriage return and one.

    Whatever else Unicode calls a line end (U+2028, U+0085, U+000B) is data, so `str.splitlines` is not used.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _read_json(path: Path) -> Iterator[Record]:
    text = text_of(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        lines = [(number, line) for number, line in enumerate(lines_of(text), 1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].lstrip().startswith("{") or not _is_json(lines[0][1]):
            line, reason = getattr(error, "lineno", 1), getattr(error, "msg", str(error))
            raise InvalidFileError(f"{path}:{line}: expected JSON or one JSON object on each line: {reason}") from None
        yield from _read_lines(path, lines)
        return
    if isinstance(content, dict):
        for name in _LISTS:
            if isinstance(content.get(name), list):
                content = content[name]
                break
        else:
            # A single object on a single line is a file of JSON lines as well.
            lone = "question" in content or "text" in content or path.suffix.lower() == ".jsonl"
            content = [content] if lone else _with_keys(path, content)
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
            fields = parse_json(line)
        except ValueError as error:
            reason = getattr(error, "msg", str(error))
            raise InvalidFileError(f"{path}:{number}: expected a JSON object on the line: {reason}") from None
        yield Record(f"{path.name}, line {number}", _object(path, f"line {number}", fields))


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _object(path: Path, where: str, fields: Any) -> Mapping[str, Any]:
    if not isinstance(fields, Mapping):
        raise InvalidFileError(f"{path}: {where}: expected an object with fields, found a {type(fields).__name__}")
    return fields


def _read_csv(path: Path, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(_LONGEST_CELL)  # of all readers in this process: a cell may hold an image
    reader = csv.DictReader(io.StringIO(text_of(path), newline=""), delimiter=delimiter)
    if not reader.fieldnames:
        raise InvalidFileError(f"{path}: expected a first line with the names of the columns")
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InvalidFileError(f"{path}:{reader.line_num}: expected {len(reader.fieldnames)} values, as in the first line")
            yield Record(f"{path.name}, line {reader.line_num}", row)
    except csv.Error as error:
        raise InvalidFileError(f"{path}:{reader.line_num}: {error}") from None
