"""What is no file, no text, no number or no option is refused in one line by the guard at its door; one bad record ends no dataset."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.store.builders import run_spec
from vseam_core.runs.spec import UnitResult
from vseam_core.store import open_store
from vseam_plugins.benchmarks.table import TableBenchmark

from .test_mutated_inputs import ended
from .test_mutated_inputs import folder as folder

GOOD = {"image": "0.png", "question": "Is the dog red?", "answer": "yes"}


def one_line(*arguments: str) -> str:
    """What a command that must be refused said."""
    code, said = ended(arguments)
    assert (code, said.count("\n")) == (2, 1), said
    return said


@pytest.fixture
def pipe(folder: Path) -> str:
    """A pipe that nobody writes to: whoever opens it waits without end."""
    os.mkfifo(folder / "pipe")
    return "pipe"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "arguments",
    [
        ("study", "check", "{}"),
        ("run", "{}"),
        ("--registry", "{}", "datasets"),
        ("db", "info", "--db", "{}"),
        ("query", "SELECT 1", "--db", "{}"),
        ("db", "migrate", "--db", "{}"),
        ("datasets", "check", "{}.jsonl"),
    ],
    ids=" ".join,
)
def test_a_pipe_a_device_or_a_folder_in_place_of_a_file_is_refused_at_once(arguments: tuple[str, ...], pipe: str) -> None:
    for place in (pipe, "/dev/zero", "images"):
        Path(f"{Path(place).name}.jsonl").symlink_to(place)
        said = one_line(*(word.replace("{}", place if word == "{}" else Path(place).name) for word in arguments))
        assert any(word in said for word in ("pipe, device or socket", "a folder", "is a directory")), said


@pytest.mark.timeout(20)
def test_questions_and_images_in_a_pipe_are_refused_at_once(pipe: str, folder: Path) -> None:
    os.mkfifo(folder / "images" / "2.png")
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, (GOOD, {**GOOD, "image": "2.png"}))))
    entries = {name: {"plugin": "table", "options": {"questions": name, "images": "images"}} for name in ("q.jsonl", "pipe")}
    (folder / "registry.yaml").write_text(yaml.safe_dump({"datasets": entries}))
    one_line("datasets", "check", "pipe")
    assert ended(("datasets", "check", "q.jsonl", "--images"))[0] == 3


def test_half_a_character_in_a_record_costs_that_record_at_most(folder: Path) -> None:
    fields = ("image", "question", "answer", "id", "other")
    bad = [{**GOOD, "question": f"Is the cat {field}?", field: "a\ud800b"} for field in fields]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, (GOOD, *bad, {**GOOD, "question": "Is the bird red?"}))))
    assert ended(("datasets", "check", "lines"))[0] == 3
    samples = list(TableBenchmark("t", questions=folder / "q.jsonl", images=folder / "images").samples("all"))
    usable = [sample.question for sample in samples if "problem" not in sample.metadata]
    assert usable == [GOOD["question"], "Is the cat other?", "Is the bird red?"]
    with open_store(folder / "kept.db") as store:
        run = store.ensure_run(run_spec())
        store.save(run, [UnitResult(sample.identifier, sample.identifier, samples=(sample,)) for sample in samples])
        assert len(store.unit_statuses(run)) == 7


@pytest.mark.parametrize("option", ["timeout=abc", "detect_types=z", "check_same_thread=maybe"])
def test_an_option_of_a_database_url_that_cannot_be_understood_is_refused(option: str, folder: Path) -> None:
    assert "an option of the URL" in one_line("db", "info", "--db", f"sqlite:///results.db?{option}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--memory-budget", "9" * 400),
        ("--memory-budget", "1e3GB"),
        ("--model-option", "revision=&a [*a]"),
        ("--model-option", "revision=" + "[" * 1200),
        ("--model-option", "revision=2020-01-01"),
        ("--model-option", "revision=!!binary aGk="),
        ("--model-option", "revision={[1]: 2}"),
        ("--log-samples", "a\0b"),
    ],
    ids=lambda value: value[:20].replace("\0", "0"),
)
def test_an_option_that_does_not_parse_is_refused(option: str, value: str, folder: Path) -> None:
    one_line("eval", "--model", "llava-tiny", "--dataset", "scenes/color", option, value)
