"""Calls the factories of plugin records, so that whatever goes wrong becomes one line that names the record and its package."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vseam_core.errors import PluginError, VseamError, did_you_mean
from vseam_core.plugins.option_types import expected_instead
from vseam_core.plugins.records import Factory, PluginRecord, import_factory

Record = TypeVar("Record", bound=PluginRecord)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Origin:
    """Where a record comes from: the plugin (entry-point name), the distribution that ships it, and its version."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Registration(Generic[Record]):
    """A record and who registered it."""

    record: Record
    origin: Origin

    def __str__(self) -> str:
        return f"{self.record.kind} {self.record.name!r} of {self.origin.distribution}"

    def load(self) -> Callable[..., Any]:
        """The record's factory, imported. Raises `PluginError` where it, or a package it needs, cannot be imported."""
        self.check_extra()
        return _import(self, self.record.factory)

    def check_extra(self) -> None:
        """Raise `PluginError` with the `pip install` line when a package of the record's extra is missing or too old."""
        if self.record.extra:
            require_extra(str(self), self.record.extra, self.origin.distribution)

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `PluginError` for an option that the factory does not take, or that is of another type; the factory is imported."""
        _check_options(self, self.load(), (), {**self.record.options, **options})

    def create(self, interface: type[Any] | tuple[type[Any], ...], *arguments: Any, **options: Any) -> Any:
        """Call the factory with the record's options, overridden by `options`, and check what comes back.

        Warns where the record is experimental, and of an option that goes by its old name.

        Raises `PluginError` for an option that the factory does not take, for an import that fails and for a result that
        is no `interface` (of several: none of them).
        """
        factory = self.load()
        merged = {**self.record.options, **self._by_new_names(options)}
        if self.record.experimental:
            _LOG.warning("%s is experimental: its results may change with any release", self)
        _check_options(self, factory, arguments, merged)
        try:
            product = factory(*arguments, **merged)
        except ImportError as error:
            raise PluginError(f"{self} cannot be imported: {describe(error)}") from error
        except (TypeError, ValueError, OverflowError) as error:
            if not options:
                raise
            given = ", ".join(f"{name}={value!r}" for name, value in options.items())
            raise PluginError(f"{self} cannot be made with {given}: {describe(error)}") from error
        if not isinstance(product, interface):
            kinds = " or ".join(kind.__name__ for kind in (interface if isinstance(interface, tuple) else (interface,)))
            raise PluginError(f"{self} made a {type(product).__name__}, expected a {kinds}")
        return product

    def _by_new_names(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options by the names that they have now. Raises `PluginError` for one that is given by both."""
        renamed = {name: self.record.renamed_options.get(name, name) for name in options}
        for old, new in renamed.items():
            if old != new and new in options:
                raise PluginError(f"{self}: option {old!r} is called {new!r} now; give one of them")
            if old != new:
                _LOG.warning("%s: option %r is called %r now; the old name is deprecated", self, old, new)
        return {renamed[name]: value for name, value in options.items()}

    def call(self, factory: Factory, *arguments: Any) -> Any:
        """Call another lazily imported function of this record, such as a model's `source_factory`."""
        function = _import(self, factory)
        try:
            return function(*arguments)
        except (OSError, LookupError) as error:
            raise VseamError(f"{self}: {describe(error, with_type=False)}") from error


def require_extra(what: str, extra: str, distribution: str = "vseam") -> None:
    """Raise `PluginError` with the `pip install` line when `what` needs a package of an extra that is missing or too old."""
    missing = _missing_requirements(distribution, extra)
    if missing:
        raise PluginError(f"{what} needs {', '.join(missing)}: pip install '{distribution}[{extra}]'")


def describe(error: BaseException, with_type: bool = True) -> str:
    """An exception as one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = " ".join(text.split())
    return f"{type(error).__name__}: {line}" if with_type or not line else line


def _import(registration: Registration[Any], factory: Factory) -> Callable[..., Any]:
    try:
        return import_factory(factory)
    except VseamError:
        raise
    except Exception as error:
        raise PluginError(f"{registration} cannot be imported: {describe(error)}") from error


def _check_options(
    registration: Registration[Any], factory: Callable[..., Any], arguments: tuple[Any, ...], options: Mapping[str, Any]
) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # some extension types have none: the call itself will say
        return
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        by_name = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        named = [name for name, item in signature.parameters.items() if item.kind in by_name]
        unknown = [name for name in options if name not in named]
        if unknown:
            raise PluginError(f"{registration} has no option {unknown[0]!r}; {did_you_mean(unknown[0], named)}") from error
        raise PluginError(f"{registration} cannot be made: {error}") from error
    for name, value in options.items():
        expected = expected_instead(factory, name, value)
        if expected:
            raise PluginError(f"{registration}: option {name} is {value!r:.80}, expected {expected}")


def _missing_requirements(distribution: str, extra: str) -> tuple[str, ...]:
    """The requirements of an extra that this environment does not meet, as they are written in the distribution."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ()
    missing = []
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            continue
        if requirement.marker.evaluate({"extra": extra}) and not _is_met(requirement.name, requirement.specifier):
            missing.append(f"{requirement.name}{requirement.specifier}")
    return tuple(missing)


def _is_met(name: str, specifier: Any) -> bool:
    try:
        return specifier.contains(importlib.metadata.version(name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
