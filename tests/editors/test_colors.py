"""Named colours and the space in which things are recoloured."""

from __future__ import annotations

import numpy as np
import pytest

from vseam_plugins.editors.colors import color_names, color_of, oklab, shown, srgb


def test_the_space_is_oklab() -> None:
    # Values of other implementations of OKLab for the sRGB primaries and white, to three digits (CSS Color 4, colour conversion examples).
    known = {
        (1, 1, 1): (1.000, 0.000, 0.000),
        (1, 0, 0): (0.628, 0.225, 0.126),
        (0, 1, 0): (0.866, -0.234, 0.180),
        (0, 0, 1): (0.452, -0.032, -0.312),
        (0, 0, 0): (0.0, 0.0, 0.0),
    }
    for color, expected in known.items():
        np.testing.assert_allclose(oklab(np.array(color, dtype=float)), expected, atol=1e-3)


def test_the_way_there_and_back_gives_every_pixel_again() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 3))
    assert np.array_equal(np.rint(srgb(oklab(pixels / 255)) * 255), pixels)
    assert np.array_equal(np.rint(shown(oklab(pixels / 255)) * 255), pixels)


def test_what_a_screen_cannot_show_loses_chroma_but_not_hue_or_lightness() -> None:
    lab = np.array([[0.6, 0.5 * np.cos(angle), 0.5 * np.sin(angle)] for angle in np.linspace(0, 6, 20)])
    back = oklab(shown(lab))
    np.testing.assert_allclose(back[:, 0], 0.6, atol=0.01)
    turned = np.arctan2(back[:, 2], back[:, 1]) - np.arctan2(lab[:, 2], lab[:, 1])
    np.testing.assert_allclose(np.cos(turned), 1.0, atol=1e-3)


@pytest.mark.parametrize(
    ("phrase", "name"),
    [
        ("red", "red"),
        ("Gray", "gray"),
        ("a dark blue car", "dark blue"),
        ("light-green", "light green"),
        ("brown horse", "brown"),
        ("red and white", "white"),
        ("cream colored", "cream"),
    ],
)
def test_phrases_that_name_a_colour(phrase: str, name: str) -> None:
    color = color_of(phrase)
    assert color is not None
    assert color.name == name


@pytest.mark.parametrize("phrase", ["", "wooden", "not red", "redwood", "dark", "a car"])
def test_phrases_that_name_none(phrase: str) -> None:
    assert color_of(phrase) is None


def test_shades_are_darker_and_lighter_than_the_colour() -> None:
    for word in ("red", "blue", "green", "grey"):
        dark, plain, light = (color_of(f"{shade} {word}") for shade in ("dark", "", "light"))
        assert dark is not None
        assert plain is not None
        assert light is not None
        assert dark.lightness < plain.lightness < light.lightness


def test_both_spellings_of_grey_are_one_colour_and_the_five_greys_are_achromatic() -> None:
    grey, gray = color_of("grey"), color_of("gray")
    assert grey is not None
    assert gray is not None
    assert (grey.lightness, grey.a, grey.b) == (gray.lightness, gray.a, gray.b)
    achromatic = {name for name in color_names() if (color := color_of(name)) is not None and color.is_achromatic}
    assert achromatic == {"black", "white", "grey", "gray", "silver", "ivory"}
