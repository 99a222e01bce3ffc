"""Datasets by the name that they have on the hub: read from its cache on this machine (made here as the hub's client lays it out)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.datasets.test_table_files import check, rows
from vseam_core.datasets.hub_files import DOWNLOAD_VARIABLE
from vseam_core.errors import InvalidFileError, UnknownNameError, VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import load_registry
from vseam_plugins.benchmarks.table import TableBenchmark

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, in a place of its own."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv(DOWNLOAD_VARIABLE, raising=False)
    return tmp_path / "hub"


def cached(cache: Path, repository: str, reference: str = "main") -> Path:
    """The folder of a dataset's revision in the cache, as a download leaves it."""
    home = cache / f"datasets--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / reference).write_text(COMMIT)
    folder = home / "snapshots" / COMMIT
    (folder / "data").mkdir(parents=True)
    return folder


def asked(name: str, **options: str) -> list[object]:
    return list(TableBenchmark(questions=name, **options).samples("all"))


def test_a_dataset_in_the_hub_s_cache_is_read_as_a_folder_is_and_nothing_is_fetched(cache: Path) -> None:
    folder = cached(cache, "somebody/colours")
    for shard in (0, 1):
        parquet.write_table(rows(2 * shard, 2), folder / "data" / f"test-{shard:05}-of-00002.parquet")
    check(asked("hub:somebody/colours"), range(4))
    parquet.write_table(rows(9, 1), folder / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(InvalidFileError, match=r"holds the splits test, train; say which .*hub:OWNER/NAME:SPLIT"):
        asked("hub:somebody/colours")
    check(asked("hub:somebody/colours", source_split="train"), range(9, 10))
    (folder / "more.jsonl").write_text(json.dumps({"question": "Is it red?", "answer": "yes", "image": "a.png"}) + "\n")
    assert [sample.question for sample in asked("hub:somebody/colours/more.jsonl")] == ["Is it red?"]
    with pytest.raises(InvalidFileError, match="somebody/colours has no 'others'"):
        asked("hub:somebody/colours/others")


def test_a_revision_is_its_own(cache: Path) -> None:
    parquet.write_table(rows(5, 2), cached(cache, "somebody/tagged", "v2") / "data" / "test-00000-of-00001.parquet")
    check(asked("hub:somebody/tagged@v2"), range(5, 7))
    with pytest.raises(VseamError, match="somebody/tagged is not in the hub's cache"):
        asked("hub:somebody/tagged")


def test_the_command_line_s_name_says_the_split_too(cache: Path) -> None:
    folder = cached(cache, "somebody/splits")
    for split, start in (("train", 0), ("validation", 3)):
        parquet.write_table(rows(start, 2), folder / "data" / f"{split}-00000-of-00001.parquet")
    registry = load_registry(build_plugins())
    name = "hub:somebody/splits:validation"
    samples = list(registry.load_dataset(name).samples("all"))
    check(samples, range(3, 5))
    assert {sample.dataset for sample in samples} == {name}
    with pytest.raises(UnknownNameError, match="or hub:OWNER/NAME"):
        registry.load_dataset("somebody/splits")


@pytest.mark.parametrize(
    ("name", "allowed", "reason"),
    [
        ("hub:somebody/absent", "", "nothing is downloaded unless VSEAM_DOWNLOAD_DATASETS=1"),
        ("hub:somebody/absent", "0", "nothing is downloaded unless VSEAM_DOWNLOAD_DATASETS=1"),
        ("hub:somebody/absent", "1", "the hub cannot be reached"),
        ("hub:alone", "", "expected hub:OWNER/NAME"),
        ("hub:somebody/colours/../other", "", "expected hub:OWNER/NAME"),
        ("hub:somebody/bad--name", "", "bad--name"),
    ],
)
def test_a_name_that_cannot_be_read_is_one_line(name: str, allowed: str, reason: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DOWNLOAD_VARIABLE, allowed)
    with pytest.raises(VseamError, match=reason) as caught:
        asked(name)
    assert "\n" not in str(caught.value)
