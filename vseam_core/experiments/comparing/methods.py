"""The methods that a comparison names: what each changes, and the settings that it is chosen from.

`none` is the model as it is, `rescale:NAME` a stored head rescaling, `ablate:L5H3+L4H1` heads replaced by zero (or as the
option `with` says); all others are registered ways to generate answers. `mitigv:opera` is the name `mitigv/opera`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vseam_core.config.defaults import EVALUATED_OPERATION
from vseam_core.config.study_methods import ABLATE, NONE, RESCALE, registered_name
from vseam_core.errors import UnknownNameError, VseamError, did_you_mean
from vseam_core.experiments.heads.changed_model import ChangeOptions
from vseam_core.plugins.discovery import Plugins
from vseam_core.plugins.records import GenerationMethodRecord


@dataclass(frozen=True)
class MethodChoice:
    """A method of a comparison as it was named, and the changes to choose among, the usual one first."""

    name: str
    candidates: tuple[ChangeOptions, ...]

    def identity(self) -> dict[str, Any]:
        """The name, and every setting that is tried, as plain values."""
        return {"name": self.name, "settings": [asdict(candidate) for candidate in self.candidates]}


@dataclass(frozen=True)
class NamedMethod:
    """A method as a user names it, with the options that are fixed; those that are left open are chosen."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


def method_choices(plugins: Plugins, named: Sequence[NamedMethod]) -> list[MethodChoice]:
    """What each method changes, with every name and option checked; `none` comes first, named or not.

    Raises `VseamError` kinds: an unknown name, an option that a method does not take, a package that is missing.
    """
    found = [method_choice(plugins, each) for each in named if each.name != NONE]
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise VseamError(f"method {twice!r} is named twice")
    if options := next((each.options for each in named if each.name == NONE and each.options), None):
        raise VseamError(f"method 'none' is the model as it is: it takes no option {next(iter(options))!r}")
    if not found:
        raise VseamError("name at least one method beside 'none'")
    return [MethodChoice(NONE, (ChangeOptions(),)), *found]


def method_choice(plugins: Plugins, named: NamedMethod) -> MethodChoice:
    """What one method changes, and its settings."""
    kind, _, rest = named.name.partition(":")
    if kind == RESCALE:
        _take_no_options(named, ())
        if not rest:
            raise VseamError("method 'rescale' needs the name of a stored rescaling, such as rescale:colours, or a run: rescale:7")
        return MethodChoice(named.name, (ChangeOptions(rescale=rest),))
    if kind == ABLATE:
        _take_no_options(named, ("with",))
        heads = tuple(head for head in rest.split("+") if head)
        if not heads:
            raise VseamError("method 'ablate' needs heads, such as ablate:L5H3+L4H1")
        return MethodChoice(named.name, (ChangeOptions(ablate=heads, operation=str(named.options.get("with", EVALUATED_OPERATION))),))
    name = registered_name(named.name)
    known = plugins.names(GenerationMethodRecord)
    if name not in known:
        words = (NONE, f"{RESCALE}:NAME", f"{ABLATE}:HEADS", *(each.replace("/", ":") for each in known))
        raise UnknownNameError(f"unknown method {named.name!r}; {did_you_mean(name, words)}{plugins.broken_note()}")
    settings = plugins.generation_method(name, **named.options).settings() or ({},)
    candidates: list[ChangeOptions] = []
    for setting in settings:
        candidate = ChangeOptions(method=name, method_options={**setting, **named.options})
        if candidate not in candidates:
            plugins.generation_method(name, **candidate.method_options)
            candidates.append(candidate)
    return MethodChoice(named.name, tuple(candidates))


def _take_no_options(named: NamedMethod, but: Sequence[str]) -> None:
    for option in named.options:
        if option not in but:
            raise VseamError(f"method {named.name!r} has no option {option!r}; {did_you_mean(option, but)}")
