"""The training command: layouts equal the library's own forward pass, seeds reproduce, interrupted runs go on."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file

from tests.scenes.labels import patch_labels
from vseam_core.errors import UnknownNameError
from vseam_plugins.benchmarks.scenes import questions, world
from vseam_plugins.models.zoo import both_forms, checkpoint_path, training
from vseam_plugins.models.zoo.batches import ABSENT, Mixture, draw_questions, draw_scene, make_sample
from vseam_plugins.models.zoo.card import read_priors
from vseam_plugins.models.zoo.command import zoo
from vseam_plugins.models.zoo.labels import FIELD_NAMES, KIND_NAMES, cell_table, patch_table
from vseam_plugins.models.zoo.networks import NETWORKS
from vseam_plugins.models.zoo.prompts import prompt_for
from vseam_plugins.models.zoo.recipe import ALL_QUESTIONS, RECIPES, Recipe
from vseam_plugins.models.zoo.stages import Progress
from vseam_plugins.models.zoo.training import train

NAMES = tuple(NETWORKS)
TINY_SCALE = 1e-9  # one step per stage, the shortest run there is


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {
        name: Recipe(vision_steps=2, vision_batch=4, bridge_steps=2, bridge_batch=4, early_steps=1, steady_steps=2,
                     decay_steps=1, fade_steps=1, warm_up=1, images=2, questions=3)
        for name in RECIPES
    }  # fmt: skip
    monkeypatch.setattr(training, "RECIPES", short)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("left", [True, False])
def test_laid_out_questions_get_the_logits_of_the_library_s_own_forward_pass(name: str, left: bool) -> None:
    network = NETWORKS[name](name, 3, torch.device("cpu"))
    network.model.eval()
    rng = random.Random(1)
    scenes = [draw_scene(rng, Mixture()) for _ in range(2)]
    asked = [draw_questions(rng, scene, 4, ALL_QUESTIONS) for scene in scenes]
    batch = network.lay_out([make_sample(network.encoder, *pair) for pair in zip(scenes, asked, strict=True)], left=left)
    images = [Image.fromarray(world.render(s)) for s, qs in zip(scenes, asked, strict=True) for _ in qs]
    texts = [prompt_for(name, question.text) for part in asked for question in part]
    with torch.no_grad():
        ours = network.answer(batch, layers=(3,)).logits
        if left:
            inputs = network.processor(images=images, text=texts, return_tensors="pt", padding=True)
            expected = network.model(**inputs).logits[:, -1]
        else:
            single = [network.processor(images=i, text=t, return_tensors="pt") for i, t in zip(images, texts, strict=True)]
            expected = torch.cat([network.model(**inputs).logits[:, -1] for inputs in single])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_two_steps_of_every_stage_run_and_the_seed_reproduces_them(name: str, two_steps: None, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        train(name, 7, tmp_path / folder, log=lambda line: None, evaluate_per_kind=0)
    train(name, 8, tmp_path / "other", log=lambda line: None, evaluate_per_kind=0)
    first, second, other = (weights(tmp_path / folder) for folder in ("first", "second", "other"))
    assert all(first[key].equal(second[key]) for key in first)
    assert not all(first[key].equal(other[key]) for key in first)
    stages = [json.loads(line)["stage"] for line in (tmp_path / "first" / "log.jsonl").read_text().splitlines()]
    assert stages == ["vision", "bridge", "answer"]
    assert "Seed 7" in (tmp_path / "first" / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_teaching_both_forms_goes_on_from_the_shipped_weights_and_the_seed_reproduces_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(both_forms, "RECIPES", {name: Recipe(images=2, questions=3)})
    lines: list[str] = []
    monkeypatch.setattr(both_forms, "LOG_EVERY", 1)
    for folder, seed in (("first", 7), ("second", 7), ("other", 8)):
        both_forms.teach(name, tmp_path / folder, seed=seed, steps=2, log=lines.append, asked=0)
    first, second, other = (weights(tmp_path / folder) for folder in ("first", "second", "other"))
    shipped = weights(checkpoint_path(name))
    assert all(first[key].equal(second[key]) for key in first)
    assert not all(first[key].equal(other[key]) for key in first)
    # Two steps of a warm-up change a weight of half precision by little.
    assert max((first[key].float() - shipped[key].float()).abs().max() for key in first) < 1e-3
    assert len(lines) == 6
    assert f"`vseam zoo teach {name} --seed 7`" in (tmp_path / "first" / "README.md").read_text()


def test_the_shipped_models_answer_in_their_own_forms_and_at_chance_in_another_levels() -> None:
    found = both_forms.form_accuracies(checkpoint_path("llava-tiny"), "llava-tiny", asked=8, seed=0)
    own, other = ([found[category, form] for category in questions.CATEGORIES] for form in both_forms.FORMS)
    assert sum(own) / len(own) > 0.95
    # 56 questions: three standard errors of a half are 20 points.
    assert sum(other) / len(other) < 0.7


def test_an_interrupted_run_goes_on_to_the_same_weights(two_steps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "SAVE_EVERY", 1)
    train("llava-tiny", 7, tmp_path / "whole", log=lambda line: None, evaluate_per_kind=0)

    class Killed(Exception):
        pass

    def kill_in_answer_stage(line: str) -> None:
        if line.startswith("bridge"):
            raise Killed

    with pytest.raises(Killed):
        train("llava-tiny", 7, tmp_path / "broken", log=kill_in_answer_stage, evaluate_per_kind=0)
    lines: list[str] = []
    train("llava-tiny", 7, tmp_path / "broken", log=lines.append, evaluate_per_kind=0)
    assert lines[0].startswith("resuming at stage 1, step 1")
    whole, broken = weights(tmp_path / "whole"), weights(tmp_path / "broken")
    assert all(whole[key].equal(broken[key]) for key in whole)


def test_a_saved_state_of_another_seed_is_not_taken_up(two_steps: None, tmp_path: Path) -> None:
    run = training.Run("llava-tiny", 1, "uniform", training.RECIPES["llava-tiny"], "cpu")
    trainer = training.Trainer(run, tmp_path, lambda line: None)
    trainer._save_state(1, 0, None)
    lines: list[str] = []
    train("llava-tiny", 2, tmp_path, log=lines.append, evaluate_per_kind=0)
    assert not any("resuming" in line for line in lines)


def test_training_leaves_the_global_random_state_alone(two_steps: None, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train("instructblip-tiny", 1, tmp_path, log=lambda line: None, evaluate_per_kind=0)
    assert before.equal(torch.get_rng_state())


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="llava-huge"):
        train("llava-huge", 0, tmp_path)


def test_a_scaled_recipe_keeps_at_least_one_step() -> None:
    recipe = RECIPES["llava-tiny"].scaled(TINY_SCALE)
    assert (recipe.vision_steps, recipe.bridge_steps, recipe.steady_steps, recipe.decay_steps) == (1, 1, 1, 1)


def test_patch_labels_follow_the_world_s_own() -> None:
    rng = random.Random(4)
    for _ in range(20):
        scene = world.sample_scene(rng, pool="train", split="hard")
        ours = patch_table(cell_table(scene))
        assert (ours[:, :3] == patch_labels(scene)).all()
        for action in scene.actions:
            agent, patient = scene.objects[action.agent], scene.objects[action.patient]
            field = FIELD_NAMES.index("pulled_by" if action.name == "pulling" else "carried_by")
            names = {KIND_NAMES[a] for a in cell_table(scene)[patient.row * 3 + patient.column, [field]] - 1}
            agents = [a for a in scene.actions if a.patient == action.patient and a.name == action.name]
            assert agent.kind in names or len(agents) > 1


KIND = ("color", "open")


def test_decay_starts_when_the_running_accuracy_has_settled_and_ends_after_its_steps() -> None:
    recipe = Recipe(early_steps=5, steady_steps=1000, decay_steps=100, fade_steps=50, warm_up=1)
    progress = Progress()
    for step in range(40):
        progress.update(recipe, step, [KIND] * 10, [step > 5] * 10)
    assert 0 < progress.fade_start < progress.settled < 40
    assert progress.rate(recipe, progress.settled) == recipe.answer_rate
    assert progress.rate(recipe, progress.settled + 50) == pytest.approx(recipe.answer_rate / 2)
    assert progress.grounding(recipe, progress.fade_start + 25) == pytest.approx(recipe.ground_weight / 2)
    assert not progress.finished(recipe, progress.settled + 99)
    assert progress.finished(recipe, progress.settled + 100)


def test_a_run_that_never_settles_decays_all_the_same() -> None:
    recipe = Recipe(early_steps=5, steady_steps=20, decay_steps=10)
    progress = Progress()
    for step in range(20):
        progress.update(recipe, step, [KIND], [False])
    assert progress.settled == 20
    assert progress.fade_start == 20


def test_a_kind_that_goes_well_is_asked_less_but_never_dropped() -> None:
    recipe = Recipe(early_steps=0)
    progress = Progress()
    for step in range(50):
        progress.update(recipe, step, [("color", "open"), ("color", "yes_no")], [True, False])
    weights = progress.weights(recipe, 50)
    base = recipe.all_questions
    assert weights["color", "open"] == pytest.approx(recipe.ease_floor * base["color", "open"])
    assert weights["color", "yes_no"] == pytest.approx(base["color", "yes_no"])


def test_words_point_at_the_objects_they_speak_of() -> None:
    objects = (world.SceneObject("dog", "red", "plain", 0, 0), world.SceneObject("car", "blue", "plain", 2, 1))
    scene = world.Scene(objects, (), 0, 1, 0.0, (), "uniform")
    network = NETWORKS["llava-tiny"]("llava-tiny", 0, torch.device("cpu"))
    rng = random.Random(0)
    seen = set()
    for category, form in [("color", "yes_no"), ("spatial", "yes_no"), ("animal", "yes_no"), ("animal", "open")] * 10:
        question = questions.ask(rng, scene, category, form)
        assert question is not None
        encoded = network.encoder.encode(scene, question)
        names = network.processor.tokenizer.convert_ids_to_tokens(list(encoded.ids))
        for word, index, partner in zip(names, encoded.objects, encoded.partners, strict=True):
            if word in ("dog", "car"):
                assert index == ("dog", "car").index(word)
            elif word in ("cat", "bird", "fish"):
                assert index == ABSENT
            elif word == "animal":
                assert index == 0
            elif category == "color" and word == question.value:
                assert index == question.subject
            else:
                assert index == -1
            seen.add((category, partner))
    assert {("spatial", 0), ("spatial", 1), ("color", -1)} <= seen
    assert ("color", 0) not in seen


def test_a_card_of_the_skewed_world_says_its_name_and_counts_prior_mistakes(two_steps: None, tmp_path: Path) -> None:
    train("llava-tiny", 3, tmp_path, world="skewed", log=lambda line: None, evaluate_per_kind=2)
    card = (tmp_path / "README.md").read_text()
    assert "# llava-tiny-skewed\n" in card
    assert "`vseam zoo train llava-tiny --seed 3 --world skewed`" in card
    priors = read_priors(tmp_path)
    assert {(prior.model, prior.split, prior.usual) for prior in priors} == {
        (model, split, usual) for model in ("llava-tiny-skewed", "llava-tiny") for split in ("plain", "hard") for usual in (True, False)
    }
    assert card.count("| another one |") == card.count("| the usual one |") == 4
    assert all(prior.asked == 2 and prior.prior <= prior.wrong for prior in priors)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["llava-tiny"], ("llava-tiny", "uniform", "llava-tiny-seed-5")),
        (["llava-tiny", "--world", "skewed"], ("llava-tiny", "skewed", "llava-tiny-skewed-seed-5")),
        (["llava-tiny-skewed"], ("llava-tiny", "skewed", "llava-tiny-skewed-seed-5")),
        (["instructblip-tiny", "--output", "mine"], ("instructblip-tiny", "uniform", "mine")),
    ],
    ids=" ".join,
)
def test_the_command_trains_what_its_name_and_world_say(
    words: list[str], expected: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str, str, int]] = []

    def record(name: str, seed: int, output: Path, *, world: str, **_: object) -> None:
        calls.append((name, world, str(output), seed))

    monkeypatch.setattr(training, "train", record)
    outcome = CliRunner().invoke(zoo, ["train", *words, "--seed", "5"])
    assert outcome.exit_code == 0, outcome.output
    assert calls == [(*expected, 5)]


def test_the_command_refuses_an_unknown_name_with_the_closest() -> None:
    outcome = CliRunner().invoke(zoo, ["train", "llava-tiny-skewd"])
    assert isinstance(outcome.exception, UnknownNameError)
    assert "did you mean 'llava-tiny-skewed'" in str(outcome.exception)
