"""The published question files load with exactly the counts that they have. Set VSEAM_PUBLISHED_DATA to the folder that holds them."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from vseam_core.datasets.checking import check_dataset
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry

FOLDER = os.environ.get("VSEAM_PUBLISHED_DATA", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="VSEAM_PUBLISHED_DATA names no folder with the published files")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("VSEAM_DATA", str(Path(FOLDER).resolve()))
    return Registry(build_plugins()).load_dataset


@pytest.mark.parametrize(
    ("name", "rows", "yes", "pictures", "repeated"),
    [
        ("gqa/color", 1456, 728, 1341, 0),
        ("gqa/material", 1115, 959, 891, 67),
        ("gqa/animal", 1000, 1000, 797, 152),
        ("gqa/indoor", 1000, 1000, 832, 56),
        ("gqa/vehicle", 1000, 1000, 852, 90),
        ("gqa/action", 1000, 1000, 646, 246),
        ("gqa/spatial", 1000, 1000, 550, 277),
        ("pope/adversarial", 3000, 1500, 500, 0),
        ("pope/popular", 3000, 1500, 500, 0),
        ("pope/random", 2910, 1500, 500, 0),
        ("cocoqa/color", 13113, 0, 10975, 877),
        ("cocoqa/count", 5711, 0, 4864, 1),
        ("cocoqa/location", 4799, 0, 4162, 31),
    ],
)
def test_a_published_file_loads_with_its_counts(load: Any, name: str, rows: int, yes: int, pictures: int, repeated: int) -> None:
    samples = list(load(name).samples("all"))
    assert len(samples) == rows
    assert Counter(sample.answer.lower() for sample in samples)["yes"] == yes
    assert len({sample.image_id for sample in samples}) == pictures
    assert len(samples) - len({(sample.image_id, sample.question) for sample in samples}) == repeated
    assert len({sample.identifier for sample in samples}) == rows
    assert not any("problem" in sample.metadata for sample in samples)


def test_a_check_finds_what_is_known_of_the_material_file(load: Any) -> None:
    found = check_dataset(load("gqa/material").samples("all"))
    first: dict[tuple[str, str], str] = {}
    again = [0, 0]
    for row in json.loads((Path(FOLDER) / "GQA/Attribute_Level/Material/Material.json").read_text()):
        key = (row["imageId"], row["question"].lower())
        again[first.setdefault(key, row["answer"]) != row["answer"]] += 1
    # Without regard to case: "wood" and "Wood" are one question. Of those written alike, one has both answers.
    assert (found.problems["duplicates"].count, found.problems["contradictions"].count) == (again[0] - len(first), again[1])
    assert 80 <= found.problems["labels against fullAnswer"].count <= 130


def test_categories_share_pools(load: Any) -> None:
    pools: dict[str, str] = {}
    for name in ("color", "material", "animal", "action"):
        for sample in load(f"gqa/{name}").samples("all"):
            assert pools.setdefault(sample.image_id, sample.pool) == sample.pool
