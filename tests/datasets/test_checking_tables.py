"""A table that holds no question, or something else than its author meant, is told before hours are spent on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vseam_core.datasets.checking import DatasetCheck, check_dataset
from vseam_core.errors import InvalidFileError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry
from vseam_plugins.benchmarks.table import TableBenchmark


def checked(path: Path, content: bytes) -> DatasetCheck:
    path.write_bytes(content)
    return check_dataset(Registry(build_plugins()).load_dataset(str(path)).samples("all"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("mine.csv", b"question,answer,image\n", "no question in it"),
        ("mine.json", b"[]", "no question in it"),
        ("mine.csv", b"a\x00,b\n1,2\n", "found zero bytes"),
        ("mine.csv", "question,answer,image\nIs it?,Yes,1.png\n".encode("utf-16-be"), "found zero bytes"),
    ],
)
def test_a_file_without_a_question_is_refused_and_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(InvalidFileError, match=said) as caught:
        checked(tmp_path / name, content)
    assert name in str(caught.value)


def test_rows_in_memory_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidFileError, match="photos: no question in it"):
        list(TableBenchmark("photos", rows=[]).samples("all"))


def test_an_answer_that_stands_for_a_missing_one_is_counted(tmp_path: Path) -> None:
    rows = b"question,answer,image\nWhat is it?,nan,1.png\nWhat is that?,NaN,1.png\nWhat?,none,1.png\n"
    problem = checked(tmp_path / "mine.csv", rows).problems["answers that look missing"]
    assert problem.count == 2
    assert problem.examples[0][1] == "the gold answer is 'nan'"


def test_an_id_that_is_given_twice_is_counted(tmp_path: Path) -> None:
    rows = b"id,question,answer,image\n7,Is it red?,Yes,1.png\n7,Is it blue?,No,1.png\n8~2,Is it big?,No,1.png\n"
    problem = checked(tmp_path / "mine.csv", rows).problems["repeated ids"]
    assert problem.count == 1
    assert problem.examples == [
        (f"{tmp_path / 'mine.csv'}/plain/7~2", "the id 7 stands on an earlier record; this one is told apart by ~2"),
    ]


def test_what_cannot_be_used_is_in_no_count_of_what_can(tmp_path: Path) -> None:
    found = checked(tmp_path / "mine.csv", b"question,answer,image\nIs it red?,Yes,1.png\nIs it blue?,,1.png\n")
    assert (found.samples, sum(found.pools.values()), dict(found.answers)) == (2, 1, {"Yes": 1})
    assert found.problems["unusable records"].count == 1
