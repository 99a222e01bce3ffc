"""File benchmarks on small files in the formats of the releases, with their irregularities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from vseam_core.datasets.checking import check_dataset
from vseam_core.datasets.file_benchmark import pool_of
from vseam_core.datasets.image_files import MOST_PIXELS
from vseam_core.datasets.images import FileImage, MissingImage, image_folders
from vseam_core.datasets.records import read_records
from vseam_core.errors import InvalidFileError, SampleError
from vseam_plugins.benchmarks.clevr import ClevrBenchmark
from vseam_plugins.benchmarks.cocoqa import CocoQaBenchmark
from vseam_plugins.benchmarks.gqa import GqaBenchmark
from vseam_plugins.benchmarks.mme import MmeBenchmark
from vseam_plugins.benchmarks.pope import PopeBenchmark
from vseam_plugins.benchmarks.table import TableBenchmark
from vseam_plugins.benchmarks.vqa import VqaBenchmark


def gqa(identifier: str, image: str = "23", question: str = "Is the dog red?", answer: str = "Yes", **fields: Any) -> dict[str, Any]:
    things = {"involved_objects": ["dog"], "object_positions": [{"x": 1, "y": 2, "w": 10, "h": 20}]}
    return {"question_id": identifier, "imageId": image, "question": question, "answer": answer, **things, **fields}


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8", newline="")
    return path


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "red").save(path)
    return path


def test_records_come_from_lists_dictionaries_lines_and_tables(tmp_path: Path) -> None:
    rows = [{"question_id": "007", "question": "a?"}, {"question_id": "8", "question": "b?"}]
    files = [
        write(tmp_path / "list.json", rows),
        write(tmp_path / "dict.json", {row["question_id"]: {"question": row["question"]} for row in rows}),
        write(tmp_path / "official.json", {"info": {}, "questions": rows}),
        write(tmp_path / "lines.json", "".join(json.dumps(row) + "\r\n" for row in rows)),
        write(tmp_path / "table.csv", "question_id,question\r\n007,a?\r\n8,b?\r\n"),
    ]
    for file in files:
        found = [(record.text("question_id"), record.text("question")) for record in read_records(file)]
        assert found == [("007", "a?"), ("8", "b?")], file.name


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("broken.json", '[{"a": 1},', r"broken.json:1: expected JSON or one JSON object on each line"),
        ("lines.json", '{"a": 1}\n{"a": \n', r"lines.json:2: expected a JSON object on the line"),
        ("number.json", "3", r"expected a list or a dictionary of records, found a int"),
        ("mixed.json", '[{"a": 1}, 2]', r"record 2: expected an object with fields, found a int"),
        ("short.csv", "a,b\n1\n", r"short.csv:2: expected 2 values"),
        ("empty.csv", "", r"expected a first line with the names of the columns"),
        ("bad.parquet", "no", r"not a readable parquet file"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_line_with_its_place(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(InvalidFileError, match=message) as caught:
        list(read_records(write(tmp_path / name, content)))
    assert "\n" not in str(caught.value)


def test_parquet_rows_carry_their_images(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    content = picture(tmp_path / "x.png").read_bytes()
    rows = [{"question_id": 3, "question": "What?", "answers": ["dog"] * 10, "image": {"bytes": content, "path": "x.png"}}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "v.parquet")
    (sample,) = VqaBenchmark("vqav2", questions=tmp_path / "v.parquet").samples("all")
    assert (sample.question_id, sample.answer, sample.image.load().size) == ("3", "dog", (40, 30))


def test_images_are_found_over_suffixes_and_coco_names(tmp_path: Path) -> None:
    for name in ("23.png", "COCO_val2014_000000310196.jpg", "000000000042.jpg"):
        picture(tmp_path / "a" / name)
    folders = image_folders(tmp_path / "a")
    for name in ("23", "23.jpg", "310196", "COCO_val2014_000000310196.png", "COCO_train2014_000000000042.jpg", "42"):
        assert isinstance(folders.find(name), FileImage), name
        assert folders.find(name).load().mode == "RGB"
    reasons = {"24": "not found in", "../a/23.png": "cannot lead out", "/etc/passwd": "lies in none of the folders", "": "not found in"}
    for name, reason in reasons.items():
        found = folders.find(name)
        assert isinstance(found, MissingImage)
        with pytest.raises(SampleError, match=reason):
            found.load()


def test_a_image_that_cannot_be_read_is_a_sample_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.png").write_bytes(b"no image")
    picture(tmp_path / "2.png")
    folders = image_folders(tmp_path)
    with pytest.raises(SampleError, match=r"1\.png: cannot be read as an image"):
        folders.find("1").load()
    monkeypatch.setattr("vseam_core.datasets.image_files.MOST_PIXELS", 40 * 30 - 1)
    with pytest.raises(SampleError, match="40 × 30 pixels are more than"):
        folders.find("2").load()
    assert MOST_PIXELS == 100_000_000


def test_pools_share_no_image_and_together_are_the_file(tmp_path: Path) -> None:
    rows = [gqa(str(number), image=str(number // 3)) for number in range(300)]
    benchmark = GqaBenchmark("color", questions=write(tmp_path / "c.json", rows))
    everything = list(benchmark.samples("all"))
    pools = {pool: list(benchmark.samples(pool)) for pool in ("score", "choose", "test")}
    assert [sample.question_id for sample in everything] == [str(number) for number in range(300)]
    assert sorted(sample.identifier for part in pools.values() for sample in part) == sorted(sample.identifier for sample in everything)
    pictures = [{sample.image_id for sample in part} for part in pools.values()]
    assert all(pictures)
    assert not pictures[0] & pictures[1] | pictures[0] & pictures[2] | pictures[1] & pictures[2]
    for pool, part in pools.items():
        assert list(benchmark.samples(pool, limit=5)) == part[:5]
        assert {pool_of(sample.image_id) for sample in part} == {pool}


def test_a_published_gqa_record_becomes_a_sample(tmp_path: Path) -> None:
    record = gqa(
        "09143711", question="Is the woman in front of the statue?", involved_objects=["statue", "woman"],
        object_positions=[{"x": 8, "y": 177, "w": 257, "h": 313}, {"x": 11, "y": 39, "w": 461, "h": 451}],
    )  # fmt: skip
    picture(tmp_path / "images" / "23.png")
    (sample,) = GqaBenchmark("spatial", questions=write(tmp_path / "s.json", [record]), images=tmp_path / "images").samples("all")
    assert (sample.identifier, sample.level, sample.category) == ("gqa/spatial/plain/09143711", "relation", "spatial")
    assert (sample.answer, sample.competitor, sample.form) == ("Yes", "No", "yes_no")
    assert [(thing.name, thing.box) for thing in sample.objects] == [("woman", (11, 39, 472, 490)), ("statue", (8, 177, 265, 490))]
    assert {(sample.question[span.start : span.end], span.role) for span in sample.roles} == {
        ("woman", "object"), ("statue", "object"), ("in front of", "relation"),
    }  # fmt: skip
    assert sample.image.load().size == (40, 30)


def test_scene_graphs_bring_attributes_and_relations(tmp_path: Path) -> None:
    dog = {"name": "dog", "x": 1, "y": 2, "w": 10, "h": 20, "attributes": ["red"], "relations": [{"object": "8", "name": "near"}]}
    graph = {"23": {"objects": {"7": dog}}}
    record = gqa("1", annotations={"question": {"2": "7"}, "answer": {}, "fullAnswer": {}})
    files = {"questions": write(tmp_path / "q.json", [record]), "scene_graphs": write(tmp_path / "g.json", graph)}
    (sample,) = GqaBenchmark("color", **files).samples("all")
    (thing,) = sample.objects
    assert (thing.name, thing.attributes, thing.relations, thing.identifier) == ("dog", ("red",), (("near", "8"),), "7")


def test_a_record_that_cannot_be_used_is_yielded_and_says_why_when_it_is_loaded(tmp_path: Path) -> None:
    rows = [gqa("1"), gqa("2", answer=""), gqa("3", object_positions=[{"x": "wide"}]), gqa("4")]
    samples = list(GqaBenchmark("color", questions=write(tmp_path / "c.json", rows)).samples("all"))
    assert len(samples) == 4
    for index, reason in ((1, "record 2: the gold answer .answer. is empty"), (2, "record 3: object_positions: expected x, y, w and h")):
        with pytest.raises(SampleError, match=reason):
            samples[index].image.load()


def test_repeated_identifiers_stay_apart_and_repeated_questions_go_on_request(tmp_path: Path) -> None:
    file = write(tmp_path / "c.json", [gqa("1"), gqa("1"), gqa("2", question="Is the dog blue?", answer="No")])
    kept = list(GqaBenchmark("color", questions=file).samples("all"))
    assert [sample.identifier.rsplit("/", 1)[-1] for sample in kept] == ["1", "1~2", "2"]
    assert len(list(GqaBenchmark("color", questions=file, dedup=True).samples("all"))) == 2


def test_a_missing_file_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSEAM_DATA", str(tmp_path))
    with pytest.raises(InvalidFileError, match=r"pope/random.*looked for .*coco_pope_random\.json.*VSEAM_DATA.*github\.com/RUCAIBox/POPE"):
        next(PopeBenchmark("random").samples("all"))
    line = {"question_id": 1, "image": "COCO_val2014_000000000042.jpg", "text": "Is there a dog in the image?", "label": "no"}
    write(tmp_path / "pope" / "coco_pope_random.json", json.dumps(line) + "\n")
    assert [sample.question_id for sample in PopeBenchmark("random").samples("all")] == ["42-dog"]


def test_a_pope_question_is_known_by_its_image_and_words_whatever_its_number(tmp_path: Path) -> None:
    def line(number: int, text: str) -> str:
        return json.dumps({"question_id": number, "image": "COCO_val2014_000000310196.jpg", "text": text, "label": "yes"})

    old = [line(1, "Is there a snowboard in the image?"), line(2, "Is there an umbrella in the imange?")]
    new = [line(7, "Is there an umbrella in the imange?"), line(9, "Is there a snowboard in the image?")]
    found = []
    for name, lines in (("old.json", old), ("new.json", new)):
        benchmark = PopeBenchmark("popular", questions=write(tmp_path / name, "\r\n".join(lines) + "\r\n"))
        found.append({sample.identifier: sample for sample in benchmark.samples("all")})
    assert set(found[0]) == set(found[1]) == {"pope/popular/plain/310196-snowboard", "pope/popular/plain/310196-umbrella"}
    for sample in found[0].values():
        ((start, end, role),) = sample.roles
        assert role == "object"
        assert sample.question[start:end] in ("snowboard", "umbrella")


def test_both_releases_of_coco_qa_are_read(tmp_path: Path) -> None:
    published = write(
        tmp_path / "color.csv", ",train_image_id_count,question_count,answer_count\n0,23004,what is the color of the horses,brown\n"
    )
    (sample,) = CocoQaBenchmark("color", questions=published).samples("all")
    assert (sample.question_id, sample.image_id, sample.answer, sample.competitor, sample.form) == ("0", "23004", "brown", None, "open")
    folder = tmp_path / "test"
    for name, lines in (("questions", "where is it\nhow many"), ("answers", "room\ntwo"), ("img_ids", "5\n6"), ("types", "3\n1")):
        write(folder / f"{name}.txt", lines + "\n")
    official = list(CocoQaBenchmark(questions=folder).samples("all"))
    assert [(one.category, one.level, one.answer) for one in official] == [("location", "relation", "room"), ("number", "attribute", "two")]
    write(folder / "types.txt", "3\n")
    with pytest.raises(InvalidFileError, match="line 2 is not in all of"):
        list(CocoQaBenchmark(questions=folder).samples("all"))
    (folder / "types.txt").unlink()
    with pytest.raises(InvalidFileError, match=r"types\.txt: no such file"):
        list(CocoQaBenchmark(questions=folder).samples("all"))


def test_official_vqa_files_bring_questions_and_answers_together(tmp_path: Path) -> None:
    questions = write(
        tmp_path / "v2_OpenEnded_questions.json", {"questions": [{"question_id": 7, "image_id": 42, "question": "What is it?"}]}
    )
    answers = [{"answer": word, "answer_id": number} for number, word in enumerate(["cat"] * 7 + ["dog"] * 3, 1)]
    given = {"question_id": 7, "multiple_choice_answer": "cat", "answers": answers, "answer_type": "other"}
    annotations = write(tmp_path / "a.json", {"annotations": [given]})
    benchmark = VqaBenchmark("vqav2", questions=questions, annotations=annotations)
    (sample,) = benchmark.samples("all")
    assert (sample.answer, sample.image_id, sample.category) == ("cat", "42", "other")
    assert benchmark.score(sample, "dog") == pytest.approx(0.9)
    assert benchmark.score(sample, "Cat.") == 1.0
    assert benchmark.judge(sample, "dog")
    assert not benchmark.judge(sample, "cow")


def test_mme_folders_clevr_files_and_own_tables_are_read(tmp_path: Path) -> None:
    picture(tmp_path / "mme" / "color" / "0001.jpg")
    write(tmp_path / "mme" / "color" / "0001.txt", "Is it red?\tYes\nIs it blue?\tNo\n")
    mme = list(MmeBenchmark(questions=tmp_path / "mme").samples("all"))
    assert [(one.category, one.answer, one.image.load().size) for one in mme] == [("color", "Yes", (40, 30)), ("color", "No", (40, 30))]
    assert len({one.identifier for one in mme}) == 2
    assert mme[0].image_id == mme[1].image_id
    program = [{"function": "scene"}, {"function": "query_color"}]
    asked = {"question_index": 4, "image_filename": "CLEVR_val_000000.png", "question": "What colour?", "answer": "red"}
    clevr = {"questions": [{**asked, "program": program}]}
    (cube,) = ClevrBenchmark(questions=write(tmp_path / "clevr.json", clevr)).samples("all")
    assert (cube.level, cube.category, cube.question_id) == ("attribute", "query_color", "4")
    table = write(tmp_path / "own.csv", 'q,gold,file,where,thing\nIs the dog red?,yes,1.png,"[1, 2, 11, 22]",dog\n')
    columns = {"question": "q", "answer": "gold", "image": "file", "box": "where", "object": "thing"}
    (own,) = TableBenchmark(questions=table, columns=columns).samples("all")
    assert (own.competitor, own.objects[0].box, own.question[slice(*own.roles[0][:2])]) == ("no", (1, 2, 11, 22), "dog")
    as_an_option = write(tmp_path / "plain.csv", table.read_text(encoding="utf-8").replace("[1, 2, 11, 22]", "1,2,11,22"))
    assert next(iter(TableBenchmark(questions=as_an_option, columns=columns).samples("all"))).objects == own.objects
    with pytest.raises(InvalidFileError, match="columns: unknown part 'anser'"):
        TableBenchmark(columns={"anser": "x"})
    with pytest.raises(InvalidFileError, match="no column 'question'; expected one of q, gold"):
        list(TableBenchmark(questions=table).samples("all"))


def test_a_check_counts_what_is_wrong(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.png")
    (tmp_path / "images" / "2.png").write_bytes(b"no image")
    rows = [
        gqa("1", image="1", fullAnswer="The dog is red."),
        gqa("2", image="1", fullAnswer="The dog is red."),
        gqa("3", image="1", answer="No", fullAnswer="The dog is red."),
        gqa("4", image="2", object_positions=[{"x": 1, "y": 2, "w": 1, "h": 1}]),
        gqa("5", image="3"),
        gqa("6", image="1", question="Is the dog blue?", answer="No", object_positions=[{"x": 35, "y": 2, "w": 10, "h": 20}]),
        gqa("7", answer=""),
    ]
    benchmark = GqaBenchmark("color", questions=write(tmp_path / "c.json", rows), images=tmp_path / "images")
    found = check_dataset(benchmark.samples("all"), open_images=True)
    assert (found.samples, found.images, found.with_objects) == (7, 3, 6)
    assert {name: problem.count for name, problem in found.problems.items()} == {
        "duplicates": 1, "contradictions": 1, "labels against fullAnswer": 1, "unreadable images": 1, "missing images": 1,
        "boxes outside the image": 1, "unusable records": 1,
    }  # fmt: skip
    assert found.problems["contradictions"].examples[0][0] == "gqa/color/plain/3"
    quick = check_dataset(benchmark.samples("all"))
    assert "unreadable images" not in quick.problems
    assert quick.problems["missing images"].count == 1
