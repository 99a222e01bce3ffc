"""Reads YAML files written by people: every problem becomes one line with file, line, and what was expected.

Only plain data is ever built (no Python tags), a key may not be given twice, and aliases are capped: a few lines of
YAML can otherwise unfold into billions of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml

from vseam_core.errors import InvalidFileError, did_you_mean
from vseam_core.files import read_bytes

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

    Model = TypeVar("Model", bound=BaseModel)

Location = tuple[str | int, ...]
MAX_BYTES = 1_000_000
MAX_NODES = 20_000
MAX_DEPTH = 40


@dataclass(frozen=True)
class YamlFile:
    """A parsed file: its data, and the line of every value by location (`("models", "my-model", "plugin")`)."""

    path: Path
    data: Any
    lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """The line (from 1) of a location, or of the closest enclosing one that the file has."""
        return self.lines.get(self._known(location), 1)

    def error(self, location: Location, message: str) -> InvalidFileError:
        """The error a user reads about one place of the file."""
        where = ".".join(map(str, location))
        return InvalidFileError(f"{self.path}:{self.line(location)}: {where + ': ' if where else ''}{message}")

    def validate(self, model: type[Model]) -> Model:
        """The data as a pydantic model. Raises `InvalidFileError` about the first thing that is wrong."""
        from pydantic import ValidationError

        if not isinstance(self.data, dict):
            raise self.error((), f"expected a mapping of {_names(model)}, got {_shown(self.data)}")
        try:
            return model.model_validate(self.data)
        except ValidationError as error:
            raise self._explain(error, model) from None

    def _known(self, location: Location) -> Location:
        while location and location not in self.lines:
            location = location[:-1]
        return location

    def _explain(self, error: ValidationError, model: type[BaseModel]) -> InvalidFileError:
        problems = error.errors(include_url=False)
        # A mistyped field is both unknown and missing under its right name: the first says more.
        first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
        location = tuple(part for part in first["loc"] if part != "[key]")
        if first["type"] == "missing":
            return self.error(location[:-1], f"missing field {location[-1]!r}")
        if first["type"] == "extra_forbidden":
            known = _fields_at(model, location[:-1])
            return self.error(location, f"unknown field {str(location[-1])!r}; {did_you_mean(str(location[-1]), known)}")
        message = _readable(first["msg"])
        shown = "" if first["type"] == "value_error" else f", got {_shown(first['input'])}"
        return self.error(self._known(location), f"{message}{shown}")


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file of at most 1 MB; an empty file is an empty mapping. Raises `InvalidFileError`."""
    text = read_bytes(path, MAX_BYTES)
    try:
        return _parse(path, text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidFileError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except RecursionError:
        raise InvalidFileError(f"{path}: nested too deeply, expected at most {MAX_DEPTH} levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem or error.context).split())
        raise InvalidFileError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidFileError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error


def _parse(path: Path, text: str) -> YamlFile:
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlFile(path, {}, {})
        lines: dict[Location, int] = {}
        for count, (location, line) in enumerate(_walk(path, node, ())):
            if count > MAX_NODES:
                raise InvalidFileError(f"{path}: more than {MAX_NODES} values once its aliases are followed")
            lines[location] = line
        return YamlFile(path, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _walk(path: Path, node: yaml.Node, location: Location) -> Iterator[tuple[Location, int]]:
    """Every location below a node with its line, aliases followed; raises at a repeated key and when nested too deeply."""
    line = node.start_mark.line + 1
    if len(location) > MAX_DEPTH:
        raise InvalidFileError(f"{path}:{line}: nested too deeply, expected at most {MAX_DEPTH} levels")
    yield location, line
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _walk(path, item, (*location, index))
    elif isinstance(node, yaml.MappingNode):
        seen: set[Any] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InvalidFileError(f"{path}:{key.start_mark.line + 1}: expected a name before the colon, found a list or a mapping")
            if key.value in seen:
                raise InvalidFileError(f"{path}:{key.start_mark.line + 1}: {key.value!r} is given twice")
            seen.add(key.value)
            below = (*location, str(key.value))
            yield below, key.start_mark.line + 1
            yield from ((inner, number) for inner, number in _walk(path, value, below) if inner != below)


def _readable(message: str) -> str:
    """pydantic's message in the words of the other errors: what was expected."""
    message = message.removeprefix("Value error, ").replace("Input should be a valid ", "expected a ")
    message = message.replace("expected a integer", "expected an integer")
    message = message.replace("Input should be greater", "expected a number greater")
    return message.replace("Input should be less", "expected a number less").replace("Input should be", "expected")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(model: type[BaseModel]) -> str:
    return ", ".join(model.model_fields)


def _fields_at(model: type[BaseModel], location: Location) -> tuple[str, ...]:
    """The field names that a pydantic model knows at a location."""
    annotation: Any = model
    for part in location:
        fields = _model_fields(annotation)
        if fields:
            annotation = fields[str(part)].annotation if str(part) in fields else None
        else:  # an index of a list or a key of a mapping: what lies there is the last type argument
            annotation = (get_args(_without_wrapping(annotation)) or (None,))[-1]
    return tuple(_model_fields(annotation))


def _model_fields(annotation: Any) -> dict[str, Any]:
    from pydantic import BaseModel

    inner = _without_wrapping(annotation)
    return dict(inner.model_fields) if isinstance(inner, type) and issubclass(inner, BaseModel) else {}


def _without_wrapping(annotation: Any) -> Any:
    """The type inside `Annotated[…]` or `… | None`."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = get_args(annotation)[0]
    return annotation
