"""Directions: the probe is scikit-learn's, a planted direction is found, and none where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vseam_core.analysis.direction_files import read_direction, write_directions
from vseam_core.analysis.directions import fitted_directions, logistic_probe
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError

WIDTH = 12


def classes(generator: np.random.Generator, count: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2 == 0
    values = generator.normal(size=(count, WIDTH))
    values[:, 3] += shift * np.where(labels, 1.0, -1.0)
    return values, labels


@pytest.mark.parametrize("penalty", [0.1, 1.0, 10.0])
def test_the_probe_is_scikit_learns_logistic_regression(penalty: float) -> None:
    values, labels = classes(np.random.default_rng(0), 80, 0.8)
    weights, intercept = logistic_probe(values, labels, penalty)
    theirs = LogisticRegression(C=penalty, tol=1e-10, max_iter=10000).fit(values, labels)
    np.testing.assert_allclose(weights, theirs.coef_[0], atol=1e-4)
    assert intercept == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_a_planted_direction_is_found_and_tells_unseen_values_apart() -> None:
    generator = np.random.default_rng(1)
    fitted, held_out = classes(generator, 200, 2.0), classes(generator, 200, 2.0)
    found = {each.kind: each for each in fitted_directions(*fitted, seed=0)}
    assert set(found) == {"difference", "probe", "random"}
    difference = fitted[0][fitted[1]].mean(0) - fitted[0][~fitted[1]].mean(0)
    np.testing.assert_allclose(found["difference"].vector, difference)
    for each in found.values():
        assert np.linalg.norm(each.vector) == pytest.approx(np.linalg.norm(difference))
    for kind in ("difference", "probe"):
        assert found[kind].accuracy(*held_out) > 0.93
        assert np.abs(found[kind].vector).argmax() == 3
    truth = (held_out[0] @ difference > difference @ (fitted[0][fitted[1]].mean(0) + fitted[0][~fitted[1]].mean(0)) / 2) == held_out[1]
    assert found["difference"].accuracy(*held_out) == truth.mean()


def test_where_there_is_no_direction_held_out_accuracy_is_chance() -> None:
    generator, found = np.random.default_rng(2), []
    for seed in range(20):
        fitted, held_out = classes(generator, 60, 0.0), classes(generator, 60, 0.0)
        found.append([each.accuracy(*held_out) for each in fitted_directions(*fitted, seed=seed)])
    assert np.abs(np.mean(found, axis=0) - 0.5).max() < 0.05


@pytest.mark.parametrize("labels", [np.ones(4, bool), np.zeros(4, bool), np.ones(3, bool)])
def test_one_class_alone_has_no_direction(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="both classes"):
        fitted_directions(np.zeros((4, 2)), labels, seed=0)


def test_equal_means_have_no_direction_between_them() -> None:
    with pytest.raises(ValueError, match="same mean"):
        fitted_directions(np.array([[1.0, 0], [1, 0], [1, 0], [1, 0]]), np.array([True, False, True, False]), seed=0)


def test_a_file_gives_back_what_was_written_and_says_what_it_lacks(tmp_path: Path) -> None:
    file = tmp_path / "some.safetensors"
    vector = np.arange(4, dtype=np.float64)
    write_directions(file, {"L2.difference": vector}, {"model": "m", "weights_hash": "w"})
    found, about = read_direction(file, 2, "difference")
    np.testing.assert_array_equal(found, vector)
    assert about == {"model": "m", "weights_hash": "w"}
    with pytest.raises(UnknownNameError, match=r"no direction 'L3.difference'"):
        read_direction(file, 3, "difference")
    (tmp_path / "other").write_text("no tensors")
    with pytest.raises(InvalidFileError, match="cannot be read as a file of directions"):
        read_direction(tmp_path / "other", 2, "difference")
    with pytest.raises(InvalidFileError, match="cannot be read"):
        read_direction(tmp_path / "none", 2, "difference")
    with pytest.raises(VseamError, match="its folder does not exist"):
        write_directions(tmp_path / "no" / "file", {"L2.difference": vector}, {})
