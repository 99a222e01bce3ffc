"""What identifies a unit: nested, so that options of any name collide with nothing, and complete."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from vseam_core.api.interfaces import HeadIntervention
from vseam_core.runs.identity import Component, component_of, unit_key
from vseam_plugins.heads.ablation import MeanOfOthers, Resample


class Plain(HeadIntervention):
    """Says nothing of its options."""

    name: ClassVar[str] = "plain"

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def interventions(self, heads: Any, context: Any) -> Any:
        return []


def test_a_component_carries_its_version_and_its_options_in_a_place_of_their_own() -> None:
    assert component_of(Resample(3)).identity() == {"name": "resample", "version": 1, "options": {"donors": 3}}
    assert component_of(MeanOfOthers()).identity() == {"name": "mean_of_others", "version": 1, "options": {}}


def test_a_plugin_that_says_nothing_of_its_options_is_told_apart_by_those_it_was_given() -> None:
    assert component_of(Plain(2.0), {"strength": 2.0}).options == {"strength": 2.0}
    assert component_of(Resample(), {"donors": 5}) == component_of(Resample())


def test_every_part_of_a_component_changes_the_key() -> None:
    keys = {unit_key(parts={"operation": one}) for one in (
        Component("zero"), Component("zero", 2), Component("one"), Component("zero", 1, {"positions": "all"}),
        Component("zero", 1, {"inner": Component("box", 1)}), Component("zero", 1, {"inner": Component("box", 2)}),
    )}  # fmt: skip
    assert len(keys) == 6
    assert unit_key(parts={"operation": Component("zero", 1, {"positions": "last"}), "positions": "all"}) != unit_key(
        parts={"operation": Component("zero", 1, {"positions": "all"}), "positions": "last"}
    )


def test_options_that_have_no_spelling_are_named() -> None:
    with pytest.raises(TypeError, match=r"the options of zero\.with is a set"):
        unit_key(parts=Component("zero", 1, {"with": {1, 2}}))


def test_an_intervention_says_which_options_it_takes() -> None:
    assert Resample.accepts("donors")
    assert not MeanOfOthers.accepts("donors")
    assert not Resample().accepts("self")
