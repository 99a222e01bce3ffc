"""Unit keys: the same for the same work, everywhere; different for anything that changes a result."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from vseam_core.runs.identity import image_digest, unit_key


def test_the_order_of_mappings_does_not_matter_and_that_of_sequences_does() -> None:
    assert unit_key(a=1, b={"x": 1.5, "y": None}) == unit_key(b={"y": None, "x": 1.5}, a=1)
    assert unit_key(heads=[1, 2]) != unit_key(heads=[2, 1])
    assert unit_key(heads=(1, 2)) == unit_key(heads=[1, 2])


def test_a_key_is_the_same_in_another_process_with_another_hash_seed() -> None:
    code = "from vseam_core.runs.identity import unit_key; print(unit_key(method='heads', options={'b': 0.1, 'a': [1, True, None]}))"
    here = unit_key(method="heads", options={"a": [1, True, None], "b": 0.1})
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == here


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, "1"), (1, 1.0), (True, 1), (None, "null"), (0.1 + 0.2, 0.3), ("é", "e"), ({"a": 1}, [["a", 1]]), (0.0, -0.0)],
)
def test_different_values_have_different_keys(first: object, second: object) -> None:
    assert unit_key(value=first) != unit_key(value=second)


def test_numpy_scalars_count_as_the_python_numbers_that_they_are() -> None:
    assert unit_key(a=np.float64(0.1), b=np.int64(3), c=np.bool_(True)) == unit_key(a=0.1, b=3, c=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float32("nan")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value\.options\.strength\[1\] is -?(nan|inf)"):
        unit_key(options={"strength": [0.5, value]})


@pytest.mark.parametrize("value", [{1, 2}, b"bytes", object(), np.zeros(3), {1: "a"}])
def test_what_has_no_single_spelling_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"value\.reference"):
        unit_key(reference=value)


def test_an_image_digest_depends_on_pixels_and_shape_and_not_on_the_file_format() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    image = Image.fromarray(pixels)
    digests = set()
    for kind in ("PNG", "BMP"):
        buffer = io.BytesIO()
        image.save(buffer, format=kind)
        digests.add(image_digest(Image.open(buffer).convert("RGB")))
    assert digests == {image_digest(image)}
    changed = pixels.copy()
    changed[3, 5, 2] += 1
    assert image_digest(Image.fromarray(changed)) != image_digest(image)
    assert image_digest(Image.fromarray(pixels.reshape(6, 4, 3))) != image_digest(image)


def test_palette_images_with_other_colours_have_other_digests() -> None:
    first = Image.new("P", (2, 2), 0)
    first.putpalette([255, 0, 0])
    second = first.copy()
    second.putpalette([0, 255, 0])
    assert image_digest(first) != image_digest(second)
