"""How long and how fast each stage of training runs; budgets are in steps, never in time, so that a seed reproduces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vseam_plugins.models.zoo.batches import QuestionKind
from vseam_plugins.models.zoo.prompts import INSTRUCTBLIP, LLAVA

OBJECT_CATEGORIES = ("animal", "vehicle", "indoor")


def _weights(objects: float, color: float, material: float, spatial: float, action: float) -> dict[str, float]:
    return {**dict.fromkeys(OBJECT_CATEGORIES, objects), "color": color, "material": material, "spatial": spatial, "action": action}


def _kinds(yes_no: Mapping[str, float], open_form: Mapping[str, float]) -> dict[QuestionKind, float]:
    both = {(category, "yes_no"): weight for category, weight in yes_no.items()}
    both |= {(category, "open"): weight for category, weight in open_form.items()}
    return {kind: weight for kind, weight in both.items() if weight > 0}


# Open and existence questions come first: they can only be answered by looking, so attention to the image forms early.
EARLY_QUESTIONS = _kinds(_weights(1, 0, 0, 0, 0), _weights(0.7, 4, 3, 4, 3))
ALL_QUESTIONS = _kinds(_weights(0.7, 2, 2, 4, 4), _weights(0.4, 1, 1, 2, 1.5))


@dataclass(frozen=True)
class Recipe:
    """Steps, batch sizes and rates of the three stages.

    vision: the tower reads the labels of each patch. bridge: image tokens agree with the word embeddings. answer: questions;
    at a constant rate until the running accuracy reaches `settled_accuracy` (or for `steady_steps` at most), then decaying
    to zero over `decay_steps`; the grounding losses fade over `fade_steps` once accuracy reaches `fade_accuracy`. Accuracy is
    the mean over the kinds of question; a kind is asked the less often the better it goes, down to `ease_floor` of its weight.
    Layers are counted from 0: after `ground_layer` words about an object carry what is true of it, after `relation_layer` the
    second of two objects carries on which side of it the first stands. Whether a named colour or material is the object's is
    the last thing to be learnt: from step `truth_start` until accuracy has settled, its word must carry that after
    `relation_layer`.
    """

    vision_steps: int = 700
    vision_batch: int = 48
    vision_rate: float = 1e-3
    bridge_steps: int = 250
    bridge_batch: int = 32
    bridge_rate: float = 1e-3
    early_steps: int = 300
    steady_steps: int = 2600
    decay_steps: int = 1000
    fade_steps: int = 500
    fade_accuracy: float = 0.85
    settled_accuracy: float = 0.94
    answer_rate: float = 1.5e-3
    warm_up: int = 150
    images: int = 8
    questions: int = 10
    ground_layer: int = 3
    relation_layer: int = 4
    ease_floor: float = 0.3
    ground_weight: float = 1.0
    relation_weight: float = 0.5
    truth_start: int = 1600
    truth_weight: float = 0.5
    image_weight: float = 0.2
    ending_weight: float = 0.1
    weight_decay: float = 0.02
    early_questions: Mapping[QuestionKind, float] = field(default_factory=lambda: EARLY_QUESTIONS)
    all_questions: Mapping[QuestionKind, float] = field(default_factory=lambda: ALL_QUESTIONS)

    def scaled(self, scale: float) -> Recipe:
        """Lengthen or shorten every stage; no stage falls below one step."""
        names = (
            "vision_steps",
            "bridge_steps",
            "early_steps",
            "truth_start",
            "steady_steps",
            "decay_steps",
            "fade_steps",
            "warm_up",
        )
        return replace(self, **{name: max(1, round(getattr(self, name) * scale)) for name in names})


RECIPES: dict[str, Recipe] = {
    LLAVA: Recipe(),
    INSTRUCTBLIP: Recipe(bridge_steps=500, images=6, answer_rate=1.2e-3, image_weight=0.3, fade_accuracy=0.93, truth_start=1200),
}
