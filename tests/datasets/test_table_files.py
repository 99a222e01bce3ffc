"""Question files as Hugging Face `datasets` writes them, and TSV files with images in base64: what stands in them is what is read."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vseam_core.api.types import Sample
from vseam_core.datasets.records import read_records
from vseam_core.errors import InvalidFileError
from vseam_plugins.benchmarks.table import TableBenchmark

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

COLOURS = ("red", "green", "blue")


def png(colour: str) -> bytes:
    """A small image of one colour."""
    held = io.BytesIO()
    Image.new("RGB", (4, 3), colour).save(held, "PNG")
    return held.getvalue()


def rows(start: int, count: int) -> Any:
    """A table as `datasets` holds one: an image struct, a class label as a number, the names beside the schema."""
    content = [
        {"question": f"Question {number}?", "answer": number % 3, "image": {"bytes": png(COLOURS[number % 3]), "path": f"{number}.png"}}
        for number in range(start, start + count)
    ]
    features = {
        "question": {"dtype": "string", "_type": "Value"}, "answer": {"names": list(COLOURS), "_type": "ClassLabel"},
        "image": {"_type": "Image"},
    }  # fmt: skip
    table = pyarrow.Table.from_pylist(content)
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def stream(path: Path, table: Any) -> str:
    """An arrow file in the stream form that `datasets` uses."""
    with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path.name


def saved_to_disk(folder: Path, *tables: Any) -> None:
    """What `save_to_disk` leaves: shards, and their list in state.json."""
    folder.mkdir(parents=True)
    names = [stream(folder / f"data-{number:05}-of-{len(tables):05}.arrow", table) for number, table in enumerate(tables)]
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def asked(path: Path, **options: Any) -> list[Sample]:
    return list(TableBenchmark(questions=path, **options).samples("all"))


def check(samples: list[Sample], numbers: range) -> None:
    assert [sample.question for sample in samples] == [f"Question {number}?" for number in numbers]
    for number, sample in zip(numbers, samples, strict=True):
        assert (sample.answer, sample.image_id) == (COLOURS[number % 3], str(number))
        assert sample.image.load().getpixel((0, 0)) == Image.new("RGB", (1, 1), COLOURS[number % 3]).getpixel((0, 0))
        assert "image" not in sample.metadata, "an image is not kept a second time beside its sample"


def test_shards_of_one_split_are_read_in_order_with_images_and_names_of_labels(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for shard in (1, 0):
        parquet.write_table(rows(3 * shard, 3), tmp_path / "data" / f"test-{shard:05}-of-00002-0a1b2c.parquet")
    check(asked(tmp_path), range(6))


def test_of_several_splits_the_named_one_is_read_and_none_is_guessed(tmp_path: Path) -> None:
    parquet.write_table(rows(0, 2), tmp_path / "train-00000-of-00001.parquet")
    parquet.write_table(rows(5, 2), tmp_path / "validation-00000-of-00001.parquet")
    check(asked(tmp_path, source_split="validation"), range(5, 7))
    with pytest.raises(InvalidFileError, match=r"holds the splits train, validation; say which by the option source_split"):
        asked(tmp_path)
    with pytest.raises(InvalidFileError, match="has no split 'test'"):
        asked(tmp_path, source_split="test")
    with pytest.raises(InvalidFileError, match="has no split 3"):
        asked(tmp_path, source_split=3)


def test_a_dataset_saved_to_disk_is_read_alone_and_among_its_splits(tmp_path: Path) -> None:
    saved_to_disk(tmp_path / "one", rows(0, 2), rows(2, 1))
    check(asked(tmp_path / "one"), range(3))
    saved_to_disk(tmp_path / "several" / "test", rows(4, 2))
    saved_to_disk(tmp_path / "several" / "train", rows(0, 1))
    (tmp_path / "several" / "dataset_dict.json").write_text('{"splits": ["test", "train"]}')
    check(asked(tmp_path / "several", source_split="test"), range(4, 6))


def test_an_arrow_file_is_read_in_either_form(tmp_path: Path) -> None:
    stream(tmp_path / "stream.arrow", rows(0, 2))
    table = rows(0, 2)
    with pyarrow.OSFile(str(tmp_path / "file.arrow"), "wb") as sink, pyarrow.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    for name in ("stream.arrow", "file.arrow"):
        check(asked(tmp_path / name), range(2))


def test_what_is_no_such_folder_or_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.arrow").write_bytes(b"no arrow file at all")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.json").write_text('{"_data_files": [{"filename": "../broken.arrow"}]}')
    for name, reason in (
        ("empty", "without parquet or arrow"),
        ("broken.arrow", "not a readable arrow file"),
        ("state", "outside its folder"),
    ):
        with pytest.raises(InvalidFileError, match=reason) as caught:
            list(read_records(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_a_file_of_json_lines_may_have_one_line_whatever_its_fields(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"caption": "a dog", "label": 1}\n')
    assert [dict(record.fields) for record in read_records(tmp_path / "one.jsonl")] == [{"caption": "a dog", "label": 1}]


def test_a_tsv_with_images_in_base64_is_read_whatever_their_size(tmp_path: Path) -> None:
    noise = Image.effect_noise((300, 300), 90).convert("RGB")
    held = io.BytesIO()
    noise.save(held, "PNG")
    cell = base64.b64encode(held.getvalue()).decode()
    assert len(cell) > 131_072, "longer than Python's own limit of a cell"
    header = "index\timage\tquestion\tA\tB\tanswer"
    (tmp_path / "t.tsv").write_text(f"{header}\n7\t{cell}\tWhat is it?\tnoise\ta dog\tA\n", encoding="utf-8")
    (sample,) = asked(tmp_path / "t.tsv", columns={"id": "index"})
    assert sample.image.load().tobytes() == noise.tobytes()
    assert (sample.answer, sample.question_id, sample.options, len(sample.image_id)) == ("A", "7", ("A", "B"), 16)
    assert cell[:40] not in repr(sample.metadata)
