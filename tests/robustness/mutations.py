"""A seeded mutator: valid files with something changed that people, editors, transfers or programs get wrong."""

from __future__ import annotations

import json
import random
from typing import Any

# Values that a field of another type, another parser or another program may leave in a file.
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**30,
    -(10**30),
    float("nan"),
    float("inf"),
    "",
    " ",
    "yes",
    "\ud800",
    "a\x00b",
    "\x1b[31m",
    "x" * 5000,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    [None],
    [1, "two", {}],
    {"": ""},
)

Path = tuple[str | int, ...]


def places(value: Any, here: Path = ()) -> list[Path]:
    """Every place in a nested value, outermost first."""
    found = [here]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*here, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*here, index))
    return found


def replaced(value: Any, place: Path, new: Any) -> Any:
    """The value with what stands at a place replaced; the value itself stays as it is."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(copy[place[0]], place[1:], new)
    return copy


def without(value: Any, place: Path) -> Any:
    """The value without what stands at a place."""
    if not place:
        return None
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1:
        del copy[place[0]]
    else:
        copy[place[0]] = without(copy[place[0]], place[1:])
    return copy


def mutated_value(value: Any, seed: int) -> Any:
    """A nested value with one to three fields replaced, left out, renamed or nested."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice(places(value))
        match chance.randrange(4):
            case 0:
                value = without(value, place)
            case 1 if place and isinstance(place[-1], str):
                value = without(replaced(value, place[:-1], _with_key(_at(value, place[:-1]), place[-1])), place)
            case 2:
                value = replaced(value, place, [_at(value, place)])
            case _:
                value = replaced(value, place, chance.choice(ODD_VALUES))
    return value


def _with_key(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {**mapping, key[::-1] + "x": mapping[key]}


def _at(value: Any, place: Path) -> Any:
    for part in place:
        value = value[part]
    return value


_ODD_BYTES = b"\x00\x0b\x1b\x85\xff\xc2{}[]\":,&*!|>-#'\n\t"
_ODD_WORDS = (b"9" * 23, b"1e999", b"2020-01-01", b"!!binary aGk=", b"&a [*a]", b"? {}", b"nan", b"0x1F", "\u2028".encode())


def mutated_bytes(content: bytes, seed: int) -> bytes:
    """Bytes with one to three pieces cut, doubled, reversed, flipped or replaced."""
    chance = random.Random(seed)
    for _ in range(chance.randint(1, 3)):
        if not content:
            return content
        start = chance.randrange(len(content))
        end = min(len(content), start + chance.randint(1, 12))
        content = content[:start] + _changed(content[start:end], chance) + content[end:]
    return content


def _changed(piece: bytes, chance: random.Random) -> bytes:
    match chance.randrange(6):
        case 0:
            return b""
        case 1:
            return piece * 2
        case 2:
            return piece[::-1]
        case 3:
            return bytes(byte ^ 1 << chance.randrange(8) for byte in piece)
        case 4:
            return bytes([chance.choice(_ODD_BYTES)])
        case _:
            return chance.choice(_ODD_WORDS)


def as_json(value: Any) -> bytes:
    """A value as JSON bytes, unpaired surrogates escaped as some writers leave them."""
    return json.dumps(value).encode("ascii")
