"""A value of another type than a factory's annotation says is one line, whatever the plugin; what it leaves open is let through."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional

import numpy as np
import pytest

from vseam_core.errors import PluginError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.option_types import expected_instead

if TYPE_CHECKING:
    from decimal import Decimal


class Own:
    """A class of a plugin's own, as it may stand in an annotation."""


class Base:
    def __init__(self, depth: int = 1, **options: Any) -> None: ...


class Painter(Base):
    def __init__(
        self,
        strength: float = 0.5,
        least: float | None = None,
        steps: Optional[int] = None,  # noqa: UP045  (as third-party plugins may write it)
        sites: Sequence[str] = (),
        names: list[str] | None = None,
        box: tuple[float, float] = (0, 1),
        sizes: tuple[int, ...] = (),
        factors: Mapping[Own, float] | Mapping[str, float] | None = None,
        folder: str | Path | None = None,
        mode: Literal["fast", "slow"] = "fast",
        own: Own | str | None = None,
        any_own: Own | None = None,
        unseen: Decimal | None = None,
        untold=None,
        **options: Any,
    ) -> None: ...


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("strength", "much", "a number"),
        ("strength", True, "a number"),
        ("least", "low", "a number or null"),
        ("steps", 1.5, "a whole number or null"),
        ("sites", 5, "a list of texts"),
        ("sites", [1], "a list of texts"),
        ("sites", {"a": 1}, "a list of texts"),
        ("names", "one", "a list of texts or null"),
        ("box", [0.1], "a list of 2: a number, a number"),
        ("box", "wide", "a list of 2: a number, a number"),
        ("sizes", [1, "2"], "a list of whole numbers"),
        ("factors", "few", "a mapping to numbers or null"),
        ("factors", {"L0H0": "big"}, "a mapping to numbers or null"),
        ("folder", 3, "a path or null"),
        ("mode", "quick", "fast or slow"),
        ("own", 3, "text or null"),
        ("depth", "deep", "a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_was_expected(option: str, value: object, expected: str) -> None:
    assert expected_instead(Painter, option, value) == expected


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strength", 1),
        ("least", None),
        ("steps", 4),
        ("sites", "residual_after"),
        ("sites", ["a", "b"]),
        ("box", [0, 0.5]),
        ("sizes", (1, 2)),
        ("factors", {"L0H0": np.float32(2)}),
        ("folder", Path("x")),
        ("mode", "slow"),
        ("own", "its name"),
        ("any_own", 3),
        ("unseen", 3),
        ("untold", 3),
        ("anything", 3),
    ],
)
def test_what_fits_or_cannot_be_told_is_let_through(option: str, value: object) -> None:
    assert expected_instead(Painter, option, value) == ""


def test_functions_and_classmethods_are_read_as_classes_are() -> None:
    class Model:
        @classmethod
        def load(cls, name: str, *, steps: int | None = None) -> None: ...

    assert expected_instead(Model.load, "steps", "many") == "a whole number or null"
    assert expected_instead(lambda **options: None, "steps", "many") == ""


@pytest.mark.parametrize(
    ("make", "name", "options", "said"),
    [
        (build_plugins().tracer, "tokenwise", {"sites": 5}, "tracer 'tokenwise' of vseam: option sites is 5, expected a list of texts"),
        (build_plugins().head_intervention, "scale", {"factors": "few"}, "option factors is 'few', expected a mapping to numbers"),
        (build_plugins().generation_method, "pai", {"last_layer": "top"}, "option last_layer is 'top', expected a whole number or null"),
        (build_plugins().editor, "precomputed", {"images": "x", "terms": 5}, "terms is 5, expected a list of 2"),
    ],
)
def test_built_in_plugins_say_it_before_they_are_made(make: Callable[..., Any], name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PluginError, match=said):
        make(name, **options)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("datasets: {mine: {plugin: gqa, options: {scene_graphs: 4}}}", "registry.yaml:1: dataset 'mine': .*option scene_graphs is 4"),
        (
            "datasets: {mine: {plugin: table, options: {level: [a]}}}",
            "registry.yaml:1: dataset 'mine': .*option level is .*object, attribute or",
        ),
        ("models: {mine: {plugin: hf, options: {source: x, prompt_template: 5}}}", "registry.yaml:1: model 'mine': .*prompt_template is 5"),
        ("models: {mine: {plugin: hf, options: {source: x, attention: 5}}}", "registry.yaml:1: model 'mine': option attention is 5"),
    ],
)
def test_an_entry_of_the_registry_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, said: str) -> None:
    from vseam_core.plugins.registry import load_registry

    monkeypatch.chdir(tmp_path)
    Path("registry.yaml").write_text(entry, encoding="utf-8")
    registry = load_registry(build_plugins())
    with pytest.raises(VseamError, match=said):
        registry.load_dataset("mine") if entry.startswith("datasets") else registry.load_model("mine")
