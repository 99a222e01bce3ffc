"""The package keeps the promises that vseam relies on: the suites are vseam's, the checkpoint is tiny and built here."""

import importlib.util
import tempfile
from itertools import islice
from pathlib import Path

import pytest
from vseam_smolvlm.model import load
from vseam_smolvlm.shapes import ShapeBenchmark, ShapeEditor

from vseam_core.errors import InvalidFileError, SampleError
from vseam_core.testing import BenchmarkConformance, EditorConformance, ModelConformance

_SPEC = importlib.util.spec_from_file_location("checkpoint", Path(__file__).with_name("checkpoint.py"))
checkpoint = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(checkpoint)


class TestModel(ModelConformance):
    def make(self):
        with tempfile.TemporaryDirectory() as folder:
            return load("tiny", str(checkpoint.build(Path(folder))), device="cpu")


class TestShapes(BenchmarkConformance):
    def make(self):
        return ShapeBenchmark()


class TestEditor(EditorConformance):
    def make(self):
        return ShapeEditor()

    def samples(self):
        return list(islice(ShapeBenchmark().samples("score"), 6))


def test_half_of_the_answers_are_yes():
    answers = [sample.answer for sample in ShapeBenchmark().samples("all")]
    assert answers.count("Yes") == len(answers) / 2


def test_a_folder_that_is_no_checkpoint_is_one_line(tmp_path):
    with pytest.raises(InvalidFileError, match="no SmolVLM checkpoint") as caught:
        load("mine", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_fresh_weights_come_from_their_seed(tmp_path):
    folder = str(checkpoint.build(tmp_path))
    hashes = [load("tiny", folder, device="cpu", random_seed=seed).info.weights_hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_control_tokens_are_refused_in_a_question(tmp_path):
    model = load("tiny", str(checkpoint.build(tmp_path)), device="cpu")
    sample = next(ShapeBenchmark().samples("test"))
    with pytest.raises(SampleError, match="control token"):
        model.encode(sample.image.load(), "Is this an <image>?")
