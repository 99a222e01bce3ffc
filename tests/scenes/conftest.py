"""A second, independent answerer: reads the question's words and the scene graph, never the question's own fields."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.scenes.labels import scene_graph
from vseam_plugins.benchmarks.scenes.world import Scene

GROUPS = {
    "animal": {"dog", "cat", "bird", "fish"},
    "vehicle": {"car", "bus", "boat", "plane"},
    "indoor thing": {"lamp", "chair", "cup", "clock"},
}
COLORS = {"red", "green", "blue", "yellow", "purple", "orange"}


class ReportImage:
    """A scene graph with the questions a test needs to ask it."""

    def __init__(self, scene: Scene) -> None:
        graph: dict[str, Any] = scene_graph(scene)
        self.things = graph["objects"]
        self.names = {entry["name"]: entry for entry in self.things.values()}

    def related(self, subject: str, relation: str) -> set[str]:
        """Names of the objects that stand in a relation to the subject."""
        relations = self.names[subject]["relations"]
        return {self.things[r["object"]]["name"] for r in relations if r["name"] == relation}


def _answers(scene: Scene, text: str) -> set[str]:
    """All right answers to a question; an unknown question fails."""
    picture = ReportImage(scene)
    if match := re.fullmatch(r"Is there a (\w+) in this picture\?", text):
        return _truth(match[1] in picture.names)
    if match := re.fullmatch(r"Which (animal|vehicle|indoor thing) is in this picture\?", text):
        return GROUPS[match[1]] & set(picture.names)
    if match := re.fullmatch(r"What (color|texture) is the (\w+)\?", text):
        return {a for a in picture.names[match[2]]["attributes"] if (a in COLORS) == (match[1] == "color")}
    if match := re.fullmatch(r"What is the (\w+) (pulling|carrying)\?", text):
        return picture.related(match[1], match[2])
    if match := re.fullmatch(r"Is the (\w+) (to the left or right of|above or below) the (\w+)\?", text):
        words = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
        asked = re.findall(r"left|right|above|below", match[2])
        return {word for word in asked if match[3] in picture.related(match[1], words[word])}
    if match := re.fullmatch(r"Is the (\w+) (to the left of|to the right of|above|below|pulling|carrying) the (\w+)\?", text):
        return _truth(match[3] in picture.related(match[1], match[2]))
    if match := re.fullmatch(r"Is the (\w+) in this picture\?", text):
        return _truth(match[1] in picture.names)
    if match := re.fullmatch(r"Is there an? (\w+) (.+) the (\w+) in this picture\?", text):
        return _truth(match[1] in picture.names and match[3] in picture.related(match[1], match[2]))
    if match := re.fullmatch(r"Is there an? (\w+) (\w+) in this picture\?", text):
        return _truth(match[2] in picture.names and match[1] in picture.names[match[2]]["attributes"])
    if match := re.fullmatch(r"Is the (\w+) (\w+)\?", text):
        return _truth(match[2] in picture.names[match[1]]["attributes"])
    raise AssertionError(f"not a question of this world: {text}")


def _truth(value: bool) -> set[str]:
    return {"Yes" if value else "No"}


@pytest.fixture(scope="session")
def answers() -> Callable[[Scene, str], set[str]]:
    """All right answers to a question's words about a scene, found without the question's own fields."""
    return _answers
