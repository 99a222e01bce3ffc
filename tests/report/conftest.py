"""A made-up study with known truth, put together by the real analysis functions, for the tests of the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vseam_core.analysis.heads import HeadScores, score_heads, with_verdicts
from vseam_core.analysis.shared import SplitHalfCeiling, level_test, shared_heads, similarity_matrix, split_half_ceiling
from vseam_core.analysis.traces import PairTrace, aggregate_random_model, aggregate_traces, random_model_band, strongest_cells
from vseam_core.api.presentation import Replacement
from vseam_core.api.types import TraceEffect
from vseam_core.evaluation.summary import summarise
from vseam_core.results.study_results import HeadMap, StudyMaterial
from vseam_plugins.tracers.groups import GroupPatching
from vseam_plugins.tracers.knockout import AttentionKnockout
from vseam_plugins.tracers.lens import LogitLens
from vseam_plugins.tracers.regions import RegionPatching
from vseam_plugins.tracers.tokenwise import TokenwisePatching

TRACERS = (TokenwisePatching, GroupPatching, RegionPatching, AttentionKnockout, LogitLens)
LAYERS, HEADS = 6, 8
LEVEL_OF = {
    "animal": "object",
    "vehicle": "object",
    "indoor": "object",
    "color": "attribute",
    "material": "attribute",
    "spatial": "relation",
    "action": "relation",
}
GROUPS = ("image", "question", "template", "last", "text_published", "all")
ROLES = ("structural_before", "question", "object", "question", "attribute", "template", "template", "last")
GAP = 8.0
PLANTED = (2, 5)
"""The head (layer 2, head 5) that supports right answers in every made-up task."""


@dataclass(frozen=True)
class Made:
    """The parts of one made-up task."""

    labels: dict[str, str]
    traces: pd.DataFrame
    band: pd.DataFrame
    strongest: pd.DataFrame
    scan: HeadMap
    parity: HeadMap
    ceilings: dict[str, SplitHalfCeiling]


BuildStudy = Callable[..., StudyMaterial]


@pytest.fixture(scope="session")
def build_study() -> BuildStudy:
    """Makes a study of the given models and categories."""
    return made_study


@pytest.fixture(scope="session")
def material() -> StudyMaterial:
    """One model on two categories of one level and one of another; the last has hardly any wrong answer and noise for heads."""
    return made_study(("instructblip-tiny",), ("animal", "indoor", "color"), noise_only=("color",))


def made_study(
    models: Sequence[str], categories: Sequence[str], *, noise_only: Sequence[str] = (), pairs: int = 30, drop: Sequence[str] = ()
) -> StudyMaterial:
    """A whole study; `noise_only` categories have head effects of noise alone and three wrong answers. `drop` empties tables."""
    made = [
        made_task(model, category, 10 * index + place, category in noise_only, pairs)
        for index, model in enumerate(models)
        for place, category in enumerate(categories)
    ]
    shared, tests = made_sharing(models, made)
    scales = [rescaling_rows(part.labels, index) for index, part in enumerate(made)]
    tables = {
        "accuracy": made_accuracy(models, categories),
        "traces": pd.concat([part.traces for part in made], ignore_index=True),
        "bands": pd.concat([part.band for part in made], ignore_index=True),
        "strongest": pd.concat([part.strongest for part in made], ignore_index=True),
        "ablations": pd.concat([ablation_rows(part.labels, index) for index, part in enumerate(made)], ignore_index=True),
        "modulations": pd.concat(scales, ignore_index=True),
        "shared": shared,
        "skips": pd.DataFrame(
            [
                {"run": run, "identifier": name, "reason": f"{name}: the image cannot be read"}
                for run in (1, 2)
                for name in ("scenes/animal/score/plain/7", "scenes/animal/score/plain/9")
            ]
        ),
    }
    for name in drop:
        if name in tables:
            tables[name] = pd.DataFrame()
    return StudyMaterial(
        name="made up",
        models=tuple(models),
        datasets=tuple(f"scenes/{category}" for category in categories),
        heads=[] if "heads" in drop else [scan for part in made for scan in (part.scan, part.parity)],
        level_tests=[] if "level_tests" in drop else tests,
        notes=["Random models: 5 per shape."],
        presentations={tracer.name: tracer().presentation() for tracer in TRACERS},
        **tables,
    )


def made_task(model: str, category: str, seed: int, noise_only: bool, pairs: int) -> Made:
    """Traces, head scores and ceilings of one model on one category."""
    labels = {"model": model, "dataset": f"scenes/{category}", "category": category, "level": LEVEL_OF[category]}
    random = np.random.default_rng(seed)
    traces = [trace for pair in range(pairs) for trace in pair_traces(random, pair)]
    bands = [aggregate_random_model(random_model_traces(np.random.default_rng(1000 + index))) for index in range(5)]
    # Random models are traced on ten pairs only: on these the model is held against them.
    first = [trace for trace in traces if trace.effect.tracer == "groups" and trace.cluster in {f"image-{pair}" for pair in range(10)}]
    effects, base, correct, gold, images = head_effects(random, noise_only)
    claims = score_heads(effects, base, correct, gold, images, measure="logit_diff", seed=0)
    claims = with_verdicts(claims, dict.fromkeys(claims.with_verdict("candidate"), "confirmed"))
    published = score_heads(effects / 300, base / 10, correct, gold, images, measure="published_prob", seed=0, splits=10)
    ceilings = {
        sign: split_half_ceiling(effects, correct if sign == "positive" else ~correct, images, sign=sign, k=2, seed=0)
        for sign in ("positive", "negative")
    }
    return Made(
        labels=labels,
        traces=labelled(pd.concat([aggregate_traces(traces), aggregate_random_model(first)], ignore_index=True), labels),
        band=labelled(random_model_band(bands), labels),
        strongest=labelled(strongest_cells(traces, seed=0, count=100), labels),
        scan=HeadMap(**labels, operation="resample", claims=claims, published=None, replacement=Replacement("another image's activation")),
        parity=HeadMap(
            **labels,
            operation="mean_of_others",
            claims=claims,
            published=published,
            replacement=Replacement("the mean of the layer's other heads", parity=True),
        ),
        ceilings=ceilings,
    )


def labelled(frame: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
    return frame.assign(**labels)[[*labels, *frame.columns]]


def pair_traces(random: np.random.Generator, pair: int) -> list[PairTrace]:
    """One pair's effects: attention at layer 2 restores 60 % at the object word, the image matters until layer 3."""
    attention = random.normal(0, 0.2, (LAYERS, len(ROLES)))
    attention[2, 2] += 0.6 * GAP
    mlp = random.normal(0, 0.2, (LAYERS, len(ROLES)))
    mlp[4, -1] -= 0.2 * GAP
    for values in (attention, mlp):
        values[:, 0] = 0.0
    fading = np.linspace(1, 0, LAYERS + 1)
    groups = np.column_stack([fading**3, 0.4 * np.sin(np.pi * fading), 0.1 * fading * (1 - fading), 1 - fading, 1 - fading**3])
    groups = groups * GAP + random.normal(0, 0.5, groups.shape)
    groups[-1, :3] = 0.0
    everything = np.column_stack([groups, np.full(LAYERS + 1, GAP)])
    positions = tuple(str(index + 16) for index in range(len(ROLES)))
    parts: list[dict[str, Any]] = [
        {
            "site_kind": kind,
            "values": values,
            "columns": positions,
            "roles": ROLES,
            "column_kind": "position",
            "tracer": "tokenwise",
        }
        for kind, values in (("attention_output", attention), ("mlp_output", mlp))
    ]
    parts.append({"values": everything, "columns": GROUPS, "roles": GROUPS, **_GROUP_SITE, "tracer": "groups"})
    regions = np.column_stack([groups[:, 0] * 0.8, groups[:, 0] * 0.15, groups[:, 0] * 0.05])
    names = ("region", "complement", "random")
    parts.append({"values": regions, "columns": names, "roles": names, **_GROUP_SITE, "tracer": "regions"})
    traces = []
    for part in parts:
        for direction, sign in (("denoising", 1), ("noising", -1)):
            effect = made_effect(direction=direction, clean=GAP / 2, corrupt=-GAP / 2, **{**part, "values": sign * part["values"]})
            traces.append(PairTrace(effect, f"image-{pair}", True, pair % 5 != 0, noise_floor=0.01))
            if part["tracer"] == "groups":
                probability = dataclasses.replace(effect, measure="prob_sum", values=effect.values / 100, clean=0.9, corrupt=0.1)
                traces.append(PairTrace(probability, f"image-{pair}", True, pair % 5 != 0))
    return traces + other_traces(random, pair)


def other_traces(random: np.random.Generator, pair: int) -> list[PairTrace]:
    """Effects that are no shares: cut attention (every edge carries 3 nats at layer 1) and readings that part from layer 3 on."""
    edges = ("last<-image", "last<-question")
    cut = random.normal(0, 0.05, (LAYERS, 2))
    cut[1] -= 3.0
    everywhere = random.normal(0, 0.05, (1, 2)) - 4.0
    group: dict[str, Any] = {"columns": edges, "roles": edges, "column_kind": "group", "tracer": "knockout", "direction": "clean"}
    group |= {"clean": GAP / 2, "corrupt": -GAP / 2}
    effects = [
        dataclasses.replace(made_effect(values=cut, site_kind="attention", **group), layers=tuple(range(LAYERS))),
        dataclasses.replace(made_effect(values=everywhere, site_kind="attention_all_layers", **group), layers=(-1,)),
    ]
    for direction, sign in (("clean", 1), ("corrupt", -1)):
        for kind, rows in (("residual_after", LAYERS + 1), ("attention_output", LAYERS)):
            layers = np.arange(LAYERS + 1 - rows, LAYERS + 1) - 1 if rows == LAYERS else np.arange(rows) - 1
            values = sign * np.where(layers >= 3, layers - 2.0, 0.0)[:, None] + random.normal(0, 0.3, (rows, 1))
            lens = made_effect(
                values=values, columns=("30",), roles=("last",), column_kind="position", tracer="lens", direction=direction,
                site_kind=kind, clean=GAP / 2, corrupt=-GAP / 2,
            )  # fmt: skip
            effects.append(dataclasses.replace(lens, layers=tuple(int(layer) for layer in layers)))
    return [PairTrace(effect, f"image-{pair}", True, pair % 5 != 0) for effect in effects]


_GROUP_SITE = {"site_kind": "residual_after", "column_kind": "group"}


def random_model_traces(random: np.random.Generator) -> list[PairTrace]:
    """A random model on ten pairs: a tiny gap, and an image effect that falls to 0 as in any causal decoder."""
    fading = np.linspace(1, 0, LAYERS + 1) ** random.uniform(0.4, 1.5)
    shares = np.column_stack([fading, 0.2 * fading * (1 - fading), 0.1 * (1 - fading) * fading, 1 - fading, 1 - fading, fading**0])
    traces = []
    for pair in range(10):
        gap = random.choice([-0.02, 0.02])
        effect = made_effect(
            values=shares * gap,
            columns=GROUPS,
            roles=GROUPS,
            tracer="groups",
            direction="denoising",
            clean=gap,
            corrupt=0.0,
            **_GROUP_SITE,
        )
        traces.append(PairTrace(effect, f"image-{pair}", True, True))
        traces.append(PairTrace(dataclasses.replace(effect, measure="prob_sum"), f"image-{pair}", True, True))
    return traces


def made_effect(**fields: Any) -> TraceEffect:
    rows = len(fields["values"])
    layers = tuple(range(-1, rows - 1)) if fields["column_kind"] == "group" else tuple(range(rows))
    return TraceEffect(stack="decoder", measure="logit_diff", layers=layers, **fields)


def head_effects(random: np.random.Generator, noise_only: bool) -> tuple[np.ndarray, ...]:
    """Effects `[samples, layers, heads]`, base, correct, gold yes and images: planted heads, or noise alone."""
    samples = 90
    correct = np.arange(samples) >= (3 if noise_only else 30)
    gold = np.arange(samples) % 2 == 0
    effects = random.normal(0, 0.4, (samples, LAYERS, HEADS))
    if not noise_only:
        effects[:, *PLANTED] += 1.2
        effects[:, 3, int(random.integers(HEADS))] += 0.7
        effects[~correct, 4, 1] -= 1.0
        effects[~correct, 5, int(random.integers(HEADS))] -= 0.8
    return effects, np.where(correct, 3.0, -2.0), correct, gold, np.array([f"image-{index}" for index in range(samples)])


def made_sharing(models: Sequence[str], made: Sequence[Made]) -> tuple[pd.DataFrame, list[Any]]:
    frames, tests = [], []
    for model in models:
        parts = [part for part in made if part.labels["model"] == model]
        scores: dict[str, HeadScores] = {part.labels["dataset"]: part.scan.claims for part in parts}
        levels = {part.labels["dataset"]: part.labels["level"] for part in parts}
        for sign in ("positive", "negative"):
            ceilings = {part.labels["dataset"]: part.ceilings[sign] for part in parts}
            frame = shared_heads(scores, sign=sign, k=2, seed=0, ceilings=ceilings)
            names, matrix = similarity_matrix(frame)
            frames.append(frame.assign(model=model))
            tests.append((model, sign, level_test(matrix, [levels[name] for name in names], seed=0)))
    return pd.concat(frames, ignore_index=True), tests


def made_accuracy(models: Sequence[str], categories: Sequence[str]) -> pd.DataFrame:
    rows = []
    for index, model in enumerate(models):
        for split, right in (("plain", 0.97), ("hard", 0.85)):
            random = np.random.default_rng(index)
            for category in categories:
                for sample in range(100):
                    gold = "Yes" if sample % 2 else "No"
                    labels = {"model": model, "category": category, "split": split, "form": "yes_no"}
                    name = f"{category}/{split}/{sample}"
                    for role, answer in (("", gold), ("corrupt", "No" if gold == "Yes" else "Yes")):
                        correct = bool(random.random() < right)
                        said = answer if correct else {"Yes": "No", "No": "Yes"}[answer]
                        rows.append(
                            labels
                            | {"identifier": name + role, "image_id": name, "pair_role": role, "answer": answer, "predicted": said}
                            | {"correct": correct, "score": float(correct), "clean_identifier": name if role else None}
                        )
    return summarise(pd.DataFrame(rows))


def ablation_rows(labels: dict[str, str], seed: int) -> pd.DataFrame:
    """The store's table of ablations: the selected positive heads cost a quarter of the answers, random ones next to nothing."""
    random, rows = np.random.default_rng(seed), []
    for sign, operation in (("positive", "resample"), ("positive", "zero"), ("negative", "resample")):
        heads = ["L2H5", "L3H0"] if sign == "positive" else ["L4H1", "L5H0"]
        drop = 0.25 if sign == "positive" else -0.05
        conditions = [("base", -1, [], 0.0), ("selected", -1, heads, drop)]
        conditions += [
            ("random", trial, [f"L0H{trial % 8}", f"L{1 + trial // 8 % 5}H{trial // 40}"], float(random.integers(-1, 3)) / 40)
            for trial in range(99 if operation != "zero" else 0)
        ]
        for condition, trial, members, lost in conditions:
            values = {
                "n": 40,
                "accuracy": 0.95 - lost,
                "mean_probability": 0.9 - lost,
                "mean_logit_diff": 4 - 10 * lost,
                "drop": lost,
                "drop_error": 0.06,
            }
            rows.append(
                {
                    "run_id": seed,
                    "split": "plain" if sign == "positive" else "hard",
                    **labels,
                    "condition": condition,
                    "sign": sign,
                    "operation": operation,
                    "size": len(members),
                    "trial": trial,
                    "heads": members,
                    **values,
                    "pair_accuracy": 0.8 - 1.5 * lost,
                }
            )
    return pd.DataFrame(rows)


def rescaling_rows(labels: dict[str, str], seed: int) -> pd.DataFrame:
    """The store's table of modulations: the chosen scales gain 4 points on hard images, a bias gains 1."""
    random, rows = np.random.default_rng(seed), []
    scales = {"L2H5": 1.5, "L4H1": 0.6}
    rows.append(_modulation("grid", "choose", scales, 0.02, None))
    for split, gain in (("plain", 0.0), ("hard", 0.04)):
        where = f"{labels['dataset']}/test/{split}"
        rows.append(_modulation("fitted", where, scales, gain, 0.015))
        rows.append(_modulation("bias", where, {}, gain / 4, 0.01))
        rows.append(_modulation("published", where, {"L0H0": 1.003}, 0.0, 0.0))
        rows += [_modulation(f"shuffled {index}", where, scales, float(random.integers(-2, 2)) / 100, 0.01) for index in range(3)]
        rows.append(_modulation("transfer scenes/other", f"scenes/other/test/{split}", scales, -0.01, 0.01))
    return pd.DataFrame([{"run_id": seed, **labels, **row} for row in rows])


def _modulation(role: str, where: str, scales: dict[str, float], gain: float, error: float | None) -> dict[str, Any]:
    return {
        "recipe": "published" if role == "published" else "fitted",
        "role": role,
        "scales": scales,
        "strength": 0.5,
        "top_k": 2,
        "clip": None,
        "chosen_on": "choose",
        "evaluated_on": where,
        "n": 100,
        "accuracy": 0.85 + gain,
        "base_accuracy": 0.85,
        "gain": gain,
        "gain_error": error,
        "gain_low": None if error is None else gain - 2 * error,
        "gain_high": None if error is None else gain + 3 * error,
        "p_value": None if error is None else 0.5,
        "pair_accuracy": None,
    }
