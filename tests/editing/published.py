"""The seven published example pairs as samples, where the published data lies on this machine (VSEAM_PUBLISHED_DATA)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vseam_core.api.types import Level, Sample
from vseam_core.datasets.images import FileImage

CATEGORIES: dict[str, tuple[Level, str, str, str, str]] = {
    "action": ("relation", "Is the person standing?", "standing", "walking", "No"),
    "animal": ("object", "Is there a cat on the desk?", "cat", "dog", "No"),
    "color": ("attribute", "Is the woman's shirt black?", "black", "blue", "No"),
    "indoor": ("object", "Is there a mirror on the wall?", "mirror", "clock", "No"),
    "material": ("attribute", "Is the chair made of wood?", "wood", "plastic", "No"),
    "spatial": ("relation", "Is the man in the carriage?", "in", "beside", "No"),
    "vehicle": ("object", "Is there a bicycle on the road?", "bicycle", "horse", "No"),
}


def example_folder() -> Path:
    """The folder with the published examples; skips the test, saying so, where it is not given."""
    root = os.environ.get("VSEAM_PUBLISHED_DATA")
    if not root:
        pytest.skip("the published example pairs are not here: set VSEAM_PUBLISHED_DATA to the folder that holds examples/")
    folder = Path(root) / "examples"
    if not folder.is_dir():
        pytest.fail(f"VSEAM_PUBLISHED_DATA is set, but there is no folder {folder}")
    return folder


def example_samples(folder: Path) -> list[Sample]:
    return [
        Sample(
            identifier=f"examples/test/plain/{category}",
            dataset="examples",
            question_id=category,
            image_id=category,
            image=FileImage(folder / f"{category}.jpg"),
            question=question,
            answer="Yes",
            competitor=answer,
            level=level,
            category=category,
            pool="test",
            metadata={"source_term": source, "target_term": target},
        )
        for category, (level, question, source, target, answer) in CATEGORIES.items()
    ]
