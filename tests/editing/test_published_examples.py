"""The published example pairs go through the precomputed editor, the checks, the store and the review page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from vseam_core.config.editor_settings import EditorChoice
from vseam_core.editing.building import build_editor
from vseam_core.editing.folder import EditFolder
from vseam_core.editing.review import review_items
from vseam_core.editing.review_page import review_page
from vseam_core.plugins.discovery import build_plugins
from vseam_core.store import open_store

from .published import CATEGORIES, example_folder, example_samples

# Where something was edited in each example, as fractions of the image: seen by eye.
EDITED = {
    "action": (0.35, 0.45),
    "animal": (0.50, 0.75),
    "color": (0.10, 0.85),
    "indoor": (0.18, 0.40),
    "material": (0.50, 0.27),
    "spatial": (0.60, 0.60),
    "vehicle": (0.40, 0.72),
}
UNTOUCHED = {
    "action": (0.80, 0.10),
    "animal": (0.10, 0.30),
    "color": (0.85, 0.70),
    "indoor": (0.60, 0.90),
    "material": (0.15, 0.90),
    "spatial": (0.90, 0.85),
    "vehicle": (0.80, 0.30),
}


def test_the_seven_published_pairs_pass_from_their_files_to_the_review_page(tmp_path: Path) -> None:
    folder = example_folder()
    choice = EditorChoice(name="precomputed", options={"folder": str(folder), "images": "{image_stem}_edit.jpg"})
    editor = build_editor(build_plugins(), choice, EditFolder(tmp_path / "edits"))
    pairs = [editor.edit(sample) for sample in example_samples(folder)]
    for pair in pairs:
        name = pair.clean.category
        clean, corrupt = (np.asarray(side.image.load()) for side in (pair.clean, pair.corrupt))
        assert pair.mask is not None
        mask = pair.mask.load()
        assert clean.shape == corrupt.shape == (*mask.shape, 3)
        np.testing.assert_array_equal(corrupt[~mask], clean[~mask])
        height, width = mask.shape
        x, y = EDITED[name]
        assert mask[int(y * height), int(x * width)], f"{name}: the edited thing is not in the mask"
        x, y = UNTOUCHED[name]
        assert not mask[int(y * height), int(x * width)], f"{name}: something untouched is in the mask"
        assert 0.03 < pair.checks["mask_share"] < 0.5
        assert pair.checks["changed_inside"] > 0.5
        assert 15 < pair.checks["raw_psnr_outside"] < 40
        assert pair.checks["seam"] < 10
    with open_store(tmp_path / "results.db") as store:
        store.save_pairs(pairs)
        items = review_items(store)
        page = review_page(items, "Published examples")
    (tmp_path / "review.html").write_text(page, encoding="utf-8")
    assert [item.question for item in items] == [CATEGORIES[name][1] for name in sorted(CATEGORIES)]
    assert len(re.findall(r"<article ", page)) == 7
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', page)) == 28
