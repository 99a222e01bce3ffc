"""How a question is asked: the family's own prompt, a model's template, a dataset's instruction, and what each word then counts as."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from vseam_cli.main import execute
from vseam_core.api.types import RoleSpan
from vseam_core.errors import VseamError
from vseam_core.plugins.discovery import build_plugins
from vseam_core.plugins.registry import Registry, load_registry
from vseam_plugins.models import hf, llava
from vseam_plugins.models.family_prompts import FamilyPrompt
from vseam_plugins.models.hf import HuggingFaceModel

from .builders import picture
from .checkpoints import build_checkpoint

QUESTION = "Is the dog red?"
HARNESS = "{question}\nAnswer the question using a single word or phrase."
REGISTRY = f"""
datasets:
  asked-otherwise:
    plugin: scenes/color
    options: {{instruction: {HARNESS!r}}}
  asked-as-ever:
    plugin: scenes/color
""".replace("'", '"')


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    (tmp_path / "registry.yaml").write_text(REGISTRY)
    monkeypatch.chdir(tmp_path)
    return load_registry(build_plugins())


def test_a_family_is_asked_in_the_papers_prompt_unless_told_otherwise(
    llava_words: HuggingFaceModel, instructblip_words: HuggingFaceModel
) -> None:
    assert llava_words.encode(picture(), QUESTION).text == f"USER: <image>\n{QUESTION} Please answer with a single word.\nASSISTANT:"
    assert instructblip_words.encode(picture(), QUESTION).text == f"Question: {QUESTION} Answer using a single word."


def test_an_instruction_takes_the_place_of_the_familys_own(llava_words: HuggingFaceModel, instructblip_words: HuggingFaceModel) -> None:
    asked = f"{QUESTION}\nAnswer the question using a single word or phrase."
    assert llava_words.encode_instructed(picture(), QUESTION, HARNESS).text == f"USER: <image>\n{asked}\nASSISTANT:"
    assert instructblip_words.encode_instructed(picture(), QUESTION, HARNESS).text == asked


def test_an_instruction_stands_inside_a_chat_template_and_a_template_of_the_users(checkpoints: dict[str, Path]) -> None:
    folder = str(checkpoints["llava-words"])
    chat = hf.load("chat", folder, device="cpu")
    assert chat.encode_instructed(picture(), QUESTION, "Look: {question}").text == f"USER: <image>\nLook: {QUESTION}\nASSISTANT:"
    own = llava.load("own", folder, device="cpu", prompt_template="<image>Q: {question} A:")
    assert own.encode_instructed(picture(), QUESTION, "Look: {question}").text == f"<image>Q: Look: {QUESTION} A:"


def test_an_instruction_takes_the_place_of_whatever_words_a_family_declares(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    class Own(HuggingFaceModel):
        """A family whose words are not among those of the V-SEAM scripts."""

        family_prompt = FamilyPrompt("<image>{question} A:", "answer en {question}")

    own = Own.load("own", str(checkpoints["llava-words"]), device="cpu")
    assert own.encode(picture(), QUESTION).text == f"<image>answer en {QUESTION} A:"
    assert own.encode_instructed(picture(), QUESTION, "Look: {question}").text == f"<image>Look: {QUESTION} A:"
    relative = llava.load("relative", str(build_checkpoint("vipllava", tmp_path)), device="cpu")
    assert relative.encode_instructed(picture(), QUESTION, "Look: {question}").text == f"USER: <image>\nLook: {QUESTION}\nASSISTANT:"


def test_only_the_question_counts_as_question(llava_words: HuggingFaceModel) -> None:
    prompt = llava_words.encode_instructed(picture(), QUESTION, "Answer a question . {question} Answer .", [RoleSpan(7, 10, "object")])
    words = [(token, name) for token, name in zip(prompt.tokens, prompt.classes, strict=True) if name in ("question", "template")]
    assert [token for token, name in words if name == "question"] == ["Is", "the", "dog", "red", "?"]
    assert ("Answer", "template") in words
    assert [token for token, role in zip(prompt.tokens, prompt.roles, strict=True) if role] == ["dog"]


def test_answers_come_after_the_separator_that_the_prompt_needs(checkpoints: dict[str, Path]) -> None:
    model = llava.load("own", str(checkpoints["llava-subwords"]), device="cpu", prompt_template="<image> {question}")
    plain, asked = model.encode(picture(), QUESTION), model.encode_instructed(picture(), QUESTION, "{question} Answer:\n")
    assert model.answer_tokens(plain, "No") == (model.tokenizer.convert_tokens_to_ids("▁No"),)
    assert model.answer_tokens(asked, "No") != model.answer_tokens(plain, "No")


def test_a_dataset_of_the_registry_carries_its_instruction(registry: Registry) -> None:
    asked, plain = registry.load_dataset("asked-otherwise"), registry.load_dataset("asked-as-ever")
    one, other = next(asked.samples("score")), next(plain.samples("score"))
    assert (one.instruction, other.instruction) == (HARNESS, "")
    assert one.identifier.removeprefix("asked-otherwise/").startswith(f"{other.identifier.removeprefix('asked-as-ever/')}@")
    assert (one.dataset, other.dataset) == ("asked-otherwise", "asked-as-ever")
    assert (asked.name, asked.level, asked.category) == ("asked-otherwise", "attribute", "color")
    assert (one.question, one.answer, one.image_id) == (other.question, other.answer, other.image_id)
    assert asked.judge(one, one.answer)
    assert asked.splits() == plain.splits()


@pytest.mark.parametrize("instruction", ["no place", 3, "{question} {question}"])
def test_an_instruction_without_one_place_for_the_question_is_refused(registry: Registry, instruction: object) -> None:
    with pytest.raises(VseamError, match=r"instruction must be a text with \{question\} in it once"):
        registry.load_dataset("scenes/color", instruction=instruction)


def test_both_ways_of_asking_are_answered_and_kept_apart(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "models: [llava-tiny]\ndatasets: [asked-otherwise, asked-as-ever]\nstages: [evaluate]\nrandom_models: 0\n"
    )
    assert execute(["run", "study.yaml", "--limit", "2", "--db", "r.db", "--device", "cpu", "-q"]) == 0
    with sqlite3.connect(tmp_path / "r.db") as connection:
        tokens = dict(
            connection.execute(
                "SELECT s.identifier LIKE '%@%', group_concat(p.token, ' ') FROM prompt_tokens p JOIN samples s ON s.id = p.sample_id "
                "GROUP BY 1"
            ).fetchall()
        )
        probabilities = connection.execute(
            "SELECT s.question_id || s.split || s.pool, count(DISTINCT b.answer_prob), count(*) FROM baselines b "
            "JOIN samples s ON s.id = b.sample_id WHERE b.pair_role IN ('', 'clean') GROUP BY 1"
        ).fetchall()
    assert set(tokens) == {0, 1}
    assert tokens[0] != tokens[1]
    assert len(probabilities) >= 2
    assert all(different == total == 2 for _, different, total in probabilities), "another prompt, another probability"
