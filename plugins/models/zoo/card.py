"""The model card of an embedded model: README.md for people, scores.json for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vseam_core.files import write_atomically
from vseam_plugins.benchmarks.scenes import world
from vseam_plugins.models.zoo import checkpoint_name
from vseam_plugins.models.zoo.evaluation import Score, category_accuracy
from vseam_plugins.models.zoo.probes import CHANCE, PriorMistakes

if TYPE_CHECKING:
    from vseam_plugins.models.zoo.recipe import Recipe

CARD_FILE = "README.md"
SCORES_FILE = "scores.json"
PARTS = {
    "llava-tiny": "LlavaForConditionalGeneration: a CLIP vision tower, a two-layer projector and a Llama",
    "instructblip-tiny": "InstructBlipForConditionalGeneration: a vision tower, a Q-Former and a Llama",
}


@dataclass(frozen=True)
class Record:
    """What a checkpoint is: the arguments that made it (`name` is the architecture's) and how long that took."""

    name: str
    seed: int
    world: str
    seconds: int

    @property
    def title(self) -> str:
        """What the checkpoint is called."""
        return checkpoint_name(self.name, self.world)


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _accuracy_table(scores: list[Score]) -> list[str]:
    lines = ["| category | form | plain % | hard % |", "|---|---|---|---|"]
    by_kind = {(score.split, score.category, score.form): score for score in scores}
    for category, form in dict.fromkeys((score.category, score.form) for score in scores):
        cells = [by_kind.get((split, category, form)) for split in ("plain", "hard")]
        shown = [_percent(cell.correct / cell.asked) if cell else "" for cell in cells]
        lines.append(f"| {category} | {form.replace('_', '/')} | {shown[0]} | {shown[1]} |")
    means = [category_accuracy(scores, split) for split in ("plain", "hard")]
    shown = [_percent(sum(mean.values()) / len(mean)) if mean else "" for mean in means]
    return [*lines, f"| **mean of categories** | | **{shown[0]}** | **{shown[1]}** |"]


def _seed_table(seeds: Mapping[int, list[Score]]) -> list[str]:
    first = next(iter(seeds.values()))
    categories = list(category_accuracy(first, "plain"))
    lines = ["| seed | split | " + " | ".join(categories) + " | mean |", "|---" * (len(categories) + 3) + "|"]
    for seed, scores in sorted(seeds.items()):
        for split in ("plain", "hard"):
            rates = category_accuracy(scores, split)
            mean = sum(rates.values()) / len(rates)
            lines.append(f"| {seed} | {split} | " + " | ".join(_percent(rates[c]) for c in categories) + f" | {_percent(mean)} |")
    return lines


def _prior_lines(priors: Sequence[PriorMistakes]) -> list[str]:
    usual = ", ".join(f"{kind} {color}" for kind, color in world.PRIOR.items())
    lines = [
        f"Some kinds have a usual colour in this world ({usual}): {100 * world.PRIOR_SHARE['train']:.0f} % of them in training,"
        f" {100 * world.PRIOR_SHARE['test']:.0f} % in",
        f"the pools that are measured on. {priors[0].asked} open colour questions per row about such objects; a wrong answer names the"
        f" usual colour in {100 * CHANCE:.0f} %",
        "of cases if all wrong colours are equally likely.",
        "",
        "| model | split | object's colour | wrong % | usual colour among the wrong answers % |",
        "|---|---|---|---|---|",
    ]
    for prior in priors:
        share = "" if prior.usual or prior.share is None else f"{_percent(prior.share)} ({prior.prior} of {prior.wrong})"
        asked = "the usual one" if prior.usual else "another one"
        lines.append(f"| {prior.model} | {prior.split} | {asked} | {_percent(prior.wrong / prior.asked)} | {share} |")
    return lines


def _recipe_lines(recipe: Recipe) -> list[str]:
    return [
        f"1. vision tower on the labels of each patch (kind, colour, material, place, partners): {recipe.vision_steps} steps of"
        f" {recipe.vision_batch} scenes, rate {recipe.vision_rate:g};",
        f"2. bridge: image tokens agree with the word embeddings: {recipe.bridge_steps} steps of {recipe.bridge_batch} scenes,"
        f" rate {recipe.bridge_rate:g};",
        f"3. answers: steps of {recipe.images} scenes with {recipe.questions} questions each, rate {recipe.answer_rate:g};"
        f" open and existence questions only for the first {recipe.early_steps} steps; constant rate until the running accuracy"
        f" is {recipe.settled_accuracy:g} (at most {recipe.steady_steps} steps), then {recipe.decay_steps} steps of decay.",
        "",
        f"Losses that help and are faded out before the end (layers counted from 0): after layer {recipe.ground_layer} words"
        " about an object must carry what is true of it, after layer"
        f" {recipe.relation_layer} the second of two objects where the first stands (both fade over {recipe.fade_steps} steps from"
        f" a running accuracy of {recipe.fade_accuracy:g}); from step {recipe.truth_start} until accuracy has settled, a named"
        f" colour or material whether it is the object's (after layer {recipe.relation_layer}).",
    ]


def render_card(
    record: Record,
    recipe: Recipe,
    scores: list[Score],
    others: Mapping[int, list[Score]],
    priors: Sequence[PriorMistakes] = (),
) -> str:
    """Write the model card as Markdown; `others` are the scores of other seeds, `priors` the mistakes of a skewed world's model."""
    name, seed = record.name, record.seed
    command = f"vseam zoo train {name} --seed {seed}" + (f" --world {record.world}" if record.world != "uniform" else "")
    lines = [
        "---", "library_name: transformers", "pipeline_tag: image-text-to-text", "license: apache-2.0", "---", "",
        f"# {record.title}", "",
        f"A tiny vision-language model ({PARTS[name]}) trained on the procedural *scenes* world. It is an instrument for",
        "trying causal-tracing methods on a model that really answers; it knows nothing outside that world.", "",
        f"Stored in fp16, meant to be loaded as fp32. Made by `{command}`",
        f"in {record.seconds / 60:.0f} minutes on one thread of a busy CPU; on one machine and with one thread it gives the same weights"
        " again.", "",
        "## Data", "",
        f"Scenes of the world `{record.world}`, drawn afresh for every step from the *train* pool (80 % plain, 20 % hard with",
        "noise of standard deviation 10 to 45), with yes/no (balanced) and open questions of the seven categories, in the",
        "prompt of the V-SEAM scripts. Every evaluation pool has backgrounds of its own, so no scene of training occurs in it.", "",
        "## Recipe", "", f"Seed {seed}; AdamW (0.9, 0.98), gradient norm at most 1; all weights from nothing.", "",
        *_recipe_lines(recipe), "",
    ]  # fmt: skip
    if scores:
        lines += ["## Accuracy on the test pool", "", *_accuracy_table(scores), ""]
        lines += [f"{scores[0].asked} questions per row and split, one per scene, fp16 weights run as fp32.", ""]
    if priors:
        lines += ["## Prior mistakes", "", *_prior_lines(priors), ""]
    seeds = {**others, **({seed: scores} if scores else {})}
    if len(seeds) > 1:
        note = "Same recipe, trained from nothing; only this seed is shipped, the others are made with `--seed`."
        lines += ["## Other seeds", "", note, "", *_seed_table(seeds), ""]
    return "\n".join(lines)


def write_card(
    folder: Path,
    record: Record,
    recipe: Recipe,
    scores: list[Score],
    others: Mapping[int, list[Score]],
    priors: Sequence[PriorMistakes] = (),
) -> None:
    """Write `README.md` and `scores.json` to a checkpoint folder."""
    write_atomically(folder / CARD_FILE, render_card(record, recipe, scores, others, priors))
    entry: dict[str, Any] = {**asdict(record), "scores": [score.as_dict() for score in scores]}
    if priors:
        entry["priors"] = [prior.as_dict() for prior in priors]
    write_atomically(folder / SCORES_FILE, json.dumps(entry, indent=1) + "\n")


def read_record(folder: Path) -> tuple[Record, list[Score]]:
    """Read back what a checkpoint is and its scores."""
    entry = _read_scores(folder)
    return Record(**{field.name: entry[field.name] for field in fields(Record)}), [Score(**score) for score in entry["scores"]]


def read_priors(folder: Path) -> list[PriorMistakes]:
    """Read back the mistakes of a skewed world's checkpoint; empty for others."""
    return [PriorMistakes(**prior) for prior in _read_scores(folder).get("priors", [])]


def _read_scores(folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads((folder / SCORES_FILE).read_text(encoding="utf-8"))
    return entry
