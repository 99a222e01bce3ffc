"""How effects are shown: declared by the tracer or head intervention and stored with its runs, so that a report needs no plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

View = Literal["map", "curve", "readout", "by columns"]
"""`map`: layers × token roles as a heat map. `curve`: a line over the layers for each column. `readout`: lines too, of values that
are read from a run and not changes of it, the runs beside one another. `by columns`: a map of positions, curves of groups."""


@dataclass(frozen=True)
class Presentation:
    """What tables and figures say about one tracer's effects.

    `title` says what one value is ("share of the answer that a group of positions restores"), `caption` how it is measured and what it
    has to beat; both are plain sentences. `columns` are the columns to draw, in order, with the words for each; empty: all of them, by
    their own names. `sites` has words for site kinds of the tracer's own. `everything` names a column that patches all positions at
    once: it has to reach the donor's answer, which is a check and no finding. `against_random_models`: only what leaves the range of
    randomly initialised models of the same shape is a finding, so a study traces such models with this tracer too. `change` is what is
    taken from one image and put into the run on the other; empty: one activation at one token. `strongest` are the rows of each site in
    the table of strongest cells, at most 5. `beside_effects` are site kinds with a column for each head (H0, H1 …), with words for each: a
    study that scans heads too says how they go with what replacing the head does. `tokens` are the texts of the token ids among the
    effects (measure `top_token`), `places` where each image position looks, as fractions of the image, by the image's size ("336x336"),
    where effects are of image positions; running the tracer fills both in. `captions` say what takes the caption's place where another
    stack is traced than the language model.
    """

    view: View = "by columns"
    title: str = ""
    caption: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    everything: str = ""
    against_random_models: bool = False
    change: str = ""
    strongest: int = 1
    beside_effects: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    captions: Mapping[str, str] = field(default_factory=dict)

    def of_stack(self, stack: str) -> Presentation:
        """What is said of effects in a stack; "" is the language model."""
        return replace(self, caption=self.captions.get(stack, self.caption), captions={}) if stack else self

    def __post_init__(self) -> None:
        if not 1 <= self.strongest <= 5:
            raise ValueError(f"presentation: strongest is {self.strongest}, expected 1 to 5 rows")
        if self.view not in get_args(View):
            raise ValueError(f"presentation: view is {self.view!r}, expected one of {', '.join(get_args(View))}")

    def record(self) -> dict[str, Any]:
        """The presentation as plain values, for the store; mappings as pairs, since their order is what is drawn first."""
        return {name: list(map(list, value.items())) if isinstance(value, dict) else value for name, value in asdict(self).items()}


def presentation_of(record: Mapping[str, Any] | None) -> Presentation:
    """A stored presentation; the default for a run that was stored without one. Fields of a newer vseam are left out."""
    known = {item.name for item in fields(Presentation)}
    values: dict[str, Any] = {
        name: dict(value) if isinstance(value, list) else value for name, value in (record or {}).items() if name in known
    }
    return Presentation(**values)


@dataclass(frozen=True)
class Replacement:
    """What tables and figures say about a head intervention.

    `words` name what stands in place of a head ("another image's activation"); empty: the operation's name. `parity`: it is there to
    compare with published numbers, and no finding rests on it.
    """

    words: str = ""
    parity: bool = False

    def record(self) -> dict[str, Any]:
        """The replacement as plain values, for the store."""
        return asdict(self)


def replacement_of(record: Mapping[str, Any] | None) -> Replacement:
    """A stored replacement; the default for a run that was stored without one. Fields of a newer vseam are left out."""
    known = {item.name for item in fields(Replacement)}
    return Replacement(**{name: value for name, value in (record or {}).items() if name in known})
