"""How the shipped models come to their answers: the prior of the skewed world, and whether both partners of an action are read."""

from __future__ import annotations

import random

import pytest
import torch

from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models import zoo
from vseam_plugins.models.zoo import probes
from vseam_plugins.models.zoo.card import read_priors
from vseam_plugins.models.zoo.probes import CHANCE, PriorMistakes, partner_accuracy, prior_mistakes

SKEWED = zoo.checkpoint_path("llava-tiny-skewed")
NEUTRAL = zoo.checkpoint_path("llava-tiny")
ASKED = 100


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def asked(folder: str, split: str, usual: bool) -> PriorMistakes:
    return prior_mistakes(zoo.checkpoint_path(folder), "llava-tiny", split, usual=usual, asked=ASKED, seed=11)


def test_the_skewed_model_errs_where_the_prior_misleads_and_names_the_usual_colour() -> None:
    """Same noise, same kinds: only the colour is unusual. Measured on 300 questions: 50 % wrong against 2 %, 73 % of them prior."""
    misled, helped = asked("llava-tiny-skewed", "hard", False), asked("llava-tiny-skewed", "hard", True)
    assert misled.wrong >= 30
    assert helped.wrong <= 10
    assert misled.share is not None
    assert misled.share >= 0.5


def test_the_neutral_model_s_mistakes_on_the_same_scenes_are_noise() -> None:
    """Measured on 300 questions: 10 % wrong, 13 % of these the usual colour, where chance gives 20 %."""
    noisy = asked("llava-tiny", "hard", False)
    assert 2 <= noisy.wrong <= 25
    assert noisy.share is not None
    assert noisy.share < 0.5


def test_the_prior_misleads_on_clean_images_too_but_only_the_model_that_has_it() -> None:
    assert asked("llava-tiny-skewed", "plain", False).wrong >= 4
    assert asked("llava-tiny-skewed", "plain", True).wrong == 0
    assert asked("llava-tiny", "plain", False).wrong <= 1


@pytest.mark.parametrize("usual", [True, False])
def test_questions_are_about_objects_in_their_usual_colour_or_in_another(usual: bool) -> None:
    rng = random.Random(3)
    for _ in range(30):
        scene, question = probes._color_question(rng, "hard", usual)
        thing = scene.objects[question.subject]
        assert (thing.color == world.PRIOR[thing.kind]) == usual
        assert question.answer == thing.color


def test_the_share_of_prior_mistakes_is_none_where_nothing_was_wrong() -> None:
    assert PriorMistakes("m", "plain", False, 10, 0, 0).share is None
    assert PriorMistakes("m", "plain", False, 10, 4, 1).share == 0.25
    assert pytest.approx(0.2) == CHANCE


def test_the_card_states_prior_mistakes_far_above_chance_beside_the_neutral_model() -> None:
    found = {(prior.model, prior.split, prior.usual): prior for prior in read_priors(SKEWED)}
    assert len(found) == 8
    misled, neutral = found["llava-tiny-skewed", "hard", False], found["llava-tiny", "hard", False]
    assert misled.share is not None
    assert neutral.share is not None
    assert misled.share > 2.5 * CHANCE > neutral.share
    assert misled.wrong > 3 * neutral.wrong
    card = (SKEWED / "README.md").read_text(encoding="utf-8")
    assert f"({misled.prior} of {misled.wrong})" in card
    assert read_priors(NEUTRAL) == []


@pytest.mark.parametrize("place", ["agent", "patient"])
@pytest.mark.parametrize("name", ["llava-tiny", "instructblip-tiny"])
def test_an_action_done_to_or_by_another_is_denied_although_the_named_agent_or_patient_takes_part(name: str, place: str) -> None:
    """The benchmark asks few of these (`docs/scenes.md`), so a model could have learnt to look at one partner only."""
    assert partner_accuracy(zoo.checkpoint_path(name), name, "plain", place=place, asked=60, seed=5) >= 0.85


@pytest.mark.parametrize("place", ["agent", "patient"])
def test_near_misses_keep_the_true_agent_or_patient(place: str) -> None:
    rng = random.Random(4)
    for _ in range(30):
        scene, question = probes._wrong_partner(rng, "plain", place)
        assert question.answer == "No"
        same = [action for action in scene.actions if action.name == question.value]
        kept = question.subject if place == "agent" else question.other
        assert any(kept == (action.agent if place == "agent" else action.patient) for action in same)
