"""Edits of the scenes world: they change what they say, nothing else, and the answer as promised."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vseam_plugins.benchmarks.scenes import edits, questions, world
from vseam_plugins.benchmarks.scenes.edits import Edited
from vseam_plugins.benchmarks.scenes.questions import CATEGORIES, Question
from vseam_plugins.benchmarks.scenes.world import Action, Scene, SceneObject

Answers = Callable[[Scene, str], set[str]]
SPLITS = ["plain", "hard"]
MAKERS = {"edit": edits.edit_scene, "control": edits.control_edit}


def asked(category: str, split: str, count: int = 60, seed: int = 0) -> Iterator[tuple[random.Random, Scene, Question]]:
    """Questions of both forms and answers about random scenes."""
    rng = random.Random(seed)
    for _ in range(count):
        scene = world.sample_scene(rng, pool="choose", split=split)
        for form, want in (("yes_no", "Yes"), ("yes_no", "No"), ("open", None)):
            question = questions.ask(rng, scene, category, form, want)
            if question is not None:
                yield rng, scene, question


def differences(before: Scene, after: Scene) -> list[str]:
    """Names of what differs between two scenes: a field of an object, or actions."""
    found = []
    for a, b in zip(before.objects, after.objects, strict=True):
        found += [name for name in ("kind", "color", "material") if getattr(a, name) != getattr(b, name)]
        found += ["cell"] * ((a.row, a.column) != (b.row, b.column))
    return found + ["actions"] * (before.actions != after.actions)


def outside(boxes: tuple[world.Box, ...]) -> np.ndarray:
    mask = np.ones((world.IMAGE, world.IMAGE), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = False
    return mask


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_an_edit_always_turns_the_true_answer(category: str, split: str, answers: Answers) -> None:
    done = 0
    for rng, scene, question in asked(category, split):
        edited = edits.edit_scene(rng, scene, question)
        if edited is not None:
            done += 1
            assert answers(edited.scene, question.text) == {edited.answer}
            assert edited.answer != question.answer
            assert edited.answer in question.alternatives
    assert done > 50


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_a_control_edit_never_turns_the_true_answer(category: str, split: str, answers: Answers) -> None:
    done = 0
    for rng, scene, question in asked(category, split):
        edited = edits.control_edit(rng, scene, question)
        if edited is not None:
            done += 1
            assert answers(edited.scene, question.text) == {question.answer} == {edited.answer}
            assert edited.scene != scene
    assert done > 50


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_pixels_outside_the_boxes_stay_identical_and_every_box_shows_a_change(category: str, split: str, maker: str) -> None:
    for rng, scene, question in asked(category, split, 30):
        edited = MAKERS[maker](rng, scene, question)
        if edited is None:
            continue
        changed = np.any(world.render(scene) != world.render(edited.scene), axis=-1)
        assert not changed[outside(edited.boxes)].any(), (scene, question.text)
        assert all(changed[y0:y1, x0:x1].any() for x0, y0, x1, y1 in edited.boxes)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("category", "allowed"),
    [
        ("animal", ["kind"]),
        ("vehicle", ["kind"]),
        ("indoor", ["kind"]),
        ("color", ["color"]),
        ("material", ["material"]),
        ("spatial", ["cell"]),
    ],
)
def test_exactly_one_thing_of_the_right_sort_changes(category: str, allowed: list[str], maker: str) -> None:
    for split in SPLITS:
        for rng, scene, question in asked(category, split):
            edited = MAKERS[maker](rng, scene, question)
            if edited is not None:
                assert differences(scene, edited.scene) == allowed


def test_an_action_edit_changes_one_glyph_only() -> None:
    for split in SPLITS:
        for rng, scene, question in asked("action", split):
            edited = edits.edit_scene(rng, scene, question)
            if edited is None or question.form == "open":
                continue
            assert differences(scene, edited.scene) == ["actions"]
            assert len(set(scene.actions) - set(edited.scene.actions)) <= 1
            assert len(set(edited.scene.actions) - set(scene.actions)) <= 1


def test_an_open_action_edit_gives_the_same_agent_another_patient() -> None:
    ways = set()
    for split in SPLITS:
        for rng, scene, question in asked("action", split, 200):
            if question.form != "open":
                continue
            edited = edits.edit_scene(rng, scene, question)
            assert edited is not None
            assert (edited.source_term, edited.target_term) == (question.answer, edited.answer)
            ways.add(tuple(sorted(set(differences(scene, edited.scene)))))
    assert ways == {("actions",), ("actions", "cell"), ("kind",)}


@pytest.mark.parametrize("maker", MAKERS)
def test_edited_scenes_stay_valid_and_in_their_pool(maker: str) -> None:
    for category in CATEGORIES:
        for rng, scene, question in asked(category, "hard", 40):
            edited = MAKERS[maker](rng, scene, question)
            if edited is None:
                continue
            objects = edited.scene.objects
            assert len({thing.kind for thing in objects}) == len({(o.row, o.column) for o in objects}) == len(objects)
            assert set(edited.scene.actions) <= set(world.possible_actions(objects))
            assert world.pool_of(edited.scene) == world.pool_of(scene)
            assert edited.scene.occluders == scene.occluders


def test_an_absent_kind_replaces_one_of_its_own_group_where_there_is_one() -> None:
    for rng, scene, question in asked("animal", "plain"):
        if question.answer != "No":
            continue
        edited = edits.edit_scene(rng, scene, question)
        assert edited is not None
        assert edited.target_term == question.value
        animals = [thing.kind for thing in scene.objects if thing.kind in world.GROUPS["animal"]]
        assert edited.source_term in (animals or [thing.kind for thing in scene.objects])


def test_a_present_kind_becomes_an_absent_one_of_its_group_or_of_another_where_none_is_free() -> None:
    kinds = ("dog", "cat", "bird", "fish", "car")
    things = tuple(SceneObject(kind, "red", "plain", i // 3, i % 3) for i, kind in enumerate(kinds))
    scene = Scene(things, (), 100, 1, 0.0, (), "uniform")
    rng = random.Random(0)
    question = questions.ask(rng, scene, "animal", "yes_no", "Yes")
    assert question is not None
    full = edits.edit_scene(rng, scene, question)
    assert full is not None
    assert full.target_term not in kinds
    pair = Scene(things[:2], (), 100, 1, 0.0, (), "uniform")
    question = questions.ask(rng, pair, "animal", "yes_no", "Yes")
    assert question is not None
    half = edits.edit_scene(rng, pair, question)
    assert half is not None
    assert half.target_term in ("bird", "fish")


@pytest.mark.parametrize("category", ["color", "material"])
def test_a_false_value_is_painted_on_the_object_asked_about(category: str) -> None:
    for rng, scene, question in asked(category, "plain"):
        if question.answer != "No" or question.subject is None:
            continue
        edited = edits.edit_scene(rng, scene, question)
        assert edited is not None
        assert edited.target_term == question.value == getattr(edited.scene.objects[question.subject], category)
        assert edited.boxes == (world.object_box(scene, question.subject),)


def test_a_spatial_edit_reverses_the_relation_and_never_moves_an_object_in_an_action() -> None:
    for split in SPLITS:
        for rng, scene, question in asked("spatial", split):
            edited = edits.edit_scene(rng, scene, question)
            if edited is None:
                continue
            assert question.subject is not None
            assert question.other is not None
            assert questions.OPPOSITE[edited.source_term] == edited.target_term
            assert questions.holds(scene, question.subject, edited.source_term, question.other)
            assert questions.holds(edited.scene, question.subject, edited.target_term, question.other)
            moved = [i for i, (a, b) in enumerate(zip(scene.objects, edited.scene.objects, strict=True)) if a != b]
            assert not any(questions.in_action(scene, i) for i in moved)


def test_a_spatial_edit_moves_the_subject_when_it_can() -> None:
    dog, car = SceneObject("dog", "red", "plain", 0, 0), SceneObject("car", "blue", "plain", 0, 1)
    scene = Scene((dog, car), (), 100, 1, 0.0, (), "uniform")
    rng = random.Random(0)
    left = Question("", "Yes", questions.YES_NO, "spatial", "yes_no", (), 0, 1, "left")
    edited = edits.edit_scene(rng, scene, left)
    assert edited is not None
    assert (edited.scene.objects[0].column, edited.scene.objects[1]) == (2, car)


def _row_of_three(actions: tuple[Action, ...]) -> Scene:
    things = tuple(SceneObject(kind, "red", "plain", 1, i) for i, kind in enumerate(("dog", "car", "cup")))
    return Scene(things, actions, 100, 1, 0.0, (), "uniform")


def _action_question(agent: int, patient: int, answer: str, name: str = "pulling") -> Question:
    return Question("", answer, questions.YES_NO, "action", "yes_no", (), agent, patient, name)


def test_a_true_pulling_is_removed_or_reversed() -> None:
    scene = _row_of_three((Action("pulling", 0, 1),))
    results = {_edit(scene, _action_question(0, 1, "Yes"), seed).scene.actions for seed in range(20)}
    assert results == {(), (Action("pulling", 1, 0),)}


def test_a_false_action_is_drawn_or_the_rope_is_turned() -> None:
    scene = _row_of_three((Action("pulling", 0, 1),))
    drawn, turned = _edit(scene, _action_question(2, 1, "No")), _edit(scene, _action_question(1, 0, "No"))
    assert drawn.scene.actions == (Action("pulling", 0, 1), Action("pulling", 2, 1))
    assert turned.scene.actions == (Action("pulling", 1, 0),)


def test_an_action_that_no_glyph_can_make_true_has_no_edit() -> None:
    scene = _row_of_three(())
    assert edits.edit_scene(random.Random(0), scene, _action_question(0, 2, "No")) is None
    assert edits.edit_scene(random.Random(0), scene, _action_question(0, 1, "No", "carrying")) is None


def test_an_action_control_toggles_a_glyph_between_another_pair() -> None:
    question = _action_question(0, 1, "Yes")
    for seed in range(10):
        edited = edits.control_edit(random.Random(seed), _row_of_three((Action("pulling", 0, 1),)), question)
        assert edited is not None
        (added,) = set(edited.scene.actions) - {Action("pulling", 0, 1)}
        assert {added.agent, added.patient} == {1, 2}


def test_the_same_seed_gives_the_same_edit() -> None:
    for category in CATEGORIES:
        for _, scene, question in asked(category, "hard", 10):
            for maker in MAKERS.values():
                assert maker(random.Random(7), scene, question) == maker(random.Random(7), scene, question)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("category", CATEGORIES)
def test_few_questions_are_without_an_edit_and_fewer_without_a_control(category: str, split: str) -> None:
    drawn = list(asked(category, split, 250, seed=3))
    missing = {name: np.mean([make(*item) is None for item in drawn]) for name, make in MAKERS.items()}
    assert missing["edit"] < 0.12
    assert missing["control"] < 0.06


def _edit(scene: Scene, question: Question, seed: int = 0) -> Edited:
    edited = edits.edit_scene(random.Random(seed), scene, question)
    assert edited is not None
    return edited
