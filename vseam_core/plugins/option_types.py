"""What a factory's annotations say about its options, so that a value of another kind is found before the factory is called.

Users write options as text, numbers, lists and mappings (YAML, `NAME=VALUE`). What an annotation says about these is checked, also inside
of lists and mappings; what it says about other things (a class of the plugin's own, a name that only a type checker can see) is left to the
factory.
"""

from __future__ import annotations

import collections.abc
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union

_PLAIN: Mapping[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "text"),
    Path: ((str, os.PathLike), "a path"),
    os.PathLike: ((str, os.PathLike), "a path"),
    type(None): ((type(None),), "null"),
}
"""Annotations, the types whose values they admit, and the words for them. A path is text where users write it."""

_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_NAMES = {**{name: getattr(collections.abc, name) for name in ("Collection", "Iterable", "Mapping", "Sequence")}, "Path": Path}
"""Names of annotations that a module may import for its type checker alone."""


def expected_instead(factory: Callable[..., Any], name: str, value: Any) -> str:
    """What the annotation of option `name` admits, in words, where `value` is nothing of that; "" where nothing can be said against it."""
    hint = _annotation(factory, name)
    return "" if _admits(hint, value) else _words(hint)


def _annotation(factory: Callable[..., Any], name: str) -> Any:
    """The resolved annotation of an option; `Any` where there is none, or none that can be resolved here."""
    for function in _functions(factory):
        if name not in getattr(function, "__annotations__", {}):
            continue
        holder = types.SimpleNamespace(__annotations__={name: function.__annotations__[name]})
        try:
            return typing.get_type_hints(holder, {**_NAMES, **getattr(function, "__globals__", {})})[name]
        except Exception:  # whatever an annotation of others runs into: it is no reason to refuse the option
            return Any
    return Any


def _functions(factory: Callable[..., Any]) -> Iterator[Any]:
    """The functions that declare a factory's options: itself, or the constructors of a class and of those that it hands `**options` to."""
    if not isinstance(factory, type):
        yield inspect.unwrap(getattr(factory, "__func__", factory))
        return
    for each in factory.__mro__:
        if "__init__" in vars(each):
            yield inspect.unwrap(vars(each)["__init__"])


def _admits(hint: Any, value: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is None:
        return value is None
    if hint in _PLAIN or origin in _PLAIN:
        admitted = _PLAIN[hint if hint in _PLAIN else origin][0]
        return isinstance(value, admitted) and (not isinstance(value, bool) or bool in admitted)
    if origin in (Union, types.UnionType):
        return any(_admits(each, value) for each in _telling(arguments))
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in arguments)
    if origin is tuple or hint is tuple:
        return _is_list(value, lone_text=False) and _fits_tuple(arguments, list(value))
    if origin in _LISTS or hint in _LISTS:
        return _is_list(value, lone_text=(origin or hint) is not list) and all(_admits(each, item) for each in arguments for item in value)
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return isinstance(value, Mapping) and all(
            _admits(kind, item) for kind, items in zip(arguments, (list(value), list(value.values())), strict=False) for item in items
        )
    return True


def _telling(members: tuple[Any, ...]) -> list[Any]:
    """The members of a union by which a value is judged: those that say something about what users write, where there are such."""
    telling = [each for each in members if _says_something(each)]
    return telling if any(each is not type(None) for each in telling) else list(members)


def _says_something(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return hint in _PLAIN or kind in (tuple, Literal, os.PathLike, Union, types.UnionType, *_LISTS, *_MAPPINGS)


def _is_list(value: Any, lone_text: bool) -> bool:
    """Whether a value is several in order. One text is a sequence of texts too, and by convention one name."""
    if isinstance(value, (str, bytes)):
        return lone_text and isinstance(value, str)
    return not isinstance(value, (Mapping, collections.abc.Set)) and hasattr(value, "__iter__") and hasattr(value, "__len__")


def _fits_tuple(arguments: tuple[Any, ...], items: list[Any]) -> bool:
    if not arguments or arguments[-1] is Ellipsis:
        return all(_admits(each, item) for each in arguments[:1] for item in items)
    return len(items) == len(arguments) and all(_admits(each, item) for each, item in zip(arguments, items, strict=True))


def _words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN or origin in _PLAIN:
        return _PLAIN[hint if hint in _PLAIN else origin][1]
    if origin in (Union, types.UnionType):
        return _either([_words(each) for each in _telling(arguments)])
    if origin is Literal:
        return _either([str(each) for each in arguments])
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(map(_words, arguments))}"
    if origin in (tuple, *_LISTS) or hint in (tuple, *_LISTS):
        return f"a list of {_plural(arguments[0])}" if arguments and arguments[0] is not Any else "a list"
    if origin in _MAPPINGS or hint in _MAPPINGS:
        return f"a mapping to {_plural(arguments[1])}" if arguments and arguments[1] is not Any else "a mapping"
    return str(getattr(hint, "__name__", hint))


def _plural(hint: Any) -> str:
    words = _words(hint).removeprefix("a ")
    return f"{words}s" if words in ("whole number", "number", "text", "path") else f"items that are each {_words(hint)}"


def _either(words: list[str]) -> str:
    """Words in a row, each once, the last after "or"; a path is text where it is written."""
    several = [word for word in dict.fromkeys(words) if word != "text" or "a path" not in words]
    return " or ".join([", ".join(several[:-1]), several[-1]] if len(several) > 1 else several)
