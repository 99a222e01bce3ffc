"""Small hand-made samples, pairs, units and runs for the store's tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vseam_core.api.prompts import EncodedPrompt
from vseam_core.api.types import HeadEffect, ModelInfo, Pair, RoleSpan, Sample, TraceEffect
from vseam_core.runs.spec import Ablation, Baseline, FittedRescaling, RunSpec, UnitResult

LAYERS, HEADS = 2, 3


@dataclass(frozen=True)
class ImageFile:
    """An image source that only knows where it would lie."""

    path: Path

    def load(self) -> Any:
        raise AssertionError("the store never loads an image")


def model_info(**changes: Any) -> ModelInfo:
    fields = {
        "name": "tiny",
        "family": "llava",
        "source": "/somewhere/tiny",
        "weights_hash": "w" * 8,
        "dtype": "float32",
        "attention": "eager",
        "device": "cpu",
        "layers": LAYERS,
        "heads": HEADS,
        "head_dim": 4,
    }
    return ModelInfo(**{**fields, **changes})


def run_spec(**changes: Any) -> RunSpec:
    fields = {
        "method": "heads",
        "method_version": 1,
        "model": model_info(),
        "dataset": "scenes/color",
        "level": "attribute",
        "category": "color",
        "pool": "score",
        "split": "plain",
        "configuration": {"operation": "resample", "donors": 5},
        "seed": 0,
    }
    return RunSpec(**{**fields, **changes})


def sample(number: int = 0, **changes: Any) -> Sample:
    fields = {
        "identifier": f"scenes/color/score/plain/{number}",
        "dataset": "scenes/color",
        "question_id": str(number),
        "image_id": f"scene-{number}",
        "image": ImageFile(Path(f"pictures/{number}.png")),
        "question": "Is the dog red?",
        "answer": "Yes",
        "competitor": "No",
        "level": "attribute",
        "category": "color",
        "pool": "score",
        "roles": (RoleSpan(7, 10, "object"), RoleSpan(11, 14, "attribute")),
        "metadata": {"objects": 3, "scene": object()},
    }
    return Sample(**{**fields, **changes})


def pair(number: int = 0, kind: str = "edit") -> Pair:
    clean = sample(number)
    answers = {"answer": "No", "competitor": "Yes"} if kind == "edit" else {}
    corrupt = sample(number, identifier=f"{clean.identifier}/{kind}", **answers)
    return Pair(clean, corrupt, ((1, 2, 8, 9),), "scenes", "red", "blue", kind=kind, checks={"outside": 0.0})


def baseline(of: Sample, correct: bool = True, role: str = "", **changes: Any) -> Baseline:
    fields = {
        "predicted": of.answer if correct else "maybe",
        "answer_prob": 0.75,
        "prob_sum": 0.8,
        "logit": 3.5,
        "logit_diff": 1.25,
        "sequence_logprob": -0.3,
        "correct_published": correct,
        "correct_strict": correct,
        "score": float(correct),
    }
    return Baseline(sample=of, pair_role=role, **{**fields, **changes})


def head_effect(value: float = 0.5, **changes: Any) -> HeadEffect:
    values = np.arange(LAYERS * HEADS, dtype=np.float32).reshape(LAYERS, HEADS) + np.float32(value)
    fields = {"operation": "resample", "positions": "all", "measure": "logit_diff", "stack": "decoder"}
    return HeadEffect(**{**fields, "values": values, "base": 2.0, **changes})


def trace_effect(value: float = 0.25, **changes: Any) -> TraceEffect:
    fields = {
        "tracer": "tokenwise",
        "stack": "decoder",
        "site_kind": "attention_output",
        "direction": "denoising",
        "measure": "logit_diff",
        "layers": (0, 1),
        "columns": ("4", "5", "6"),
        "column_kind": "position",
        "roles": ("object", "", "attribute"),
        "values": np.full((2, 3), value, dtype=np.float32),
        "clean": 4.0,
        "corrupt": -3.0,
    }
    return TraceEffect(**{**fields, **changes})


def prompt(key: str = "prompt") -> EncodedPrompt:
    return EncodedPrompt(
        inputs={},
        ids=(1, 9, 9, 9, 20, 21),
        tokens=("<s>", "<image>", "<image>", "<image>", "red", "?"),
        classes=("structural_before", "image", "image", "image", "question", "last"),
        roles=("", "", "", "", "attribute", ""),
        text="<image> red?",
        key=key,
    )


def head_unit(number: int = 0, value: float = 0.5, **changes: Any) -> UnitResult:
    """A unit as a head scan leaves it: a sample, its baseline, its prompt, its effects."""
    one = sample(number)
    fields = {
        "key": f"key-{number}",
        "identifier": one.identifier,
        "samples": (one,),
        "prompts": ((one, prompt(f"prompt-{number}")),),
        "baselines": (baseline(one),),
        "head_effects": ((one, head_effect(value)), (one, head_effect(value, measure="published_prob"))),
    }
    return UnitResult(**{**fields, **changes})


def trace_unit(number: int = 0, kind: str = "edit", **changes: Any) -> UnitResult:
    """A unit as a tracer leaves it: a pair, both baselines, both directions."""
    both = pair(number, kind)
    role = "corrupt" if kind == "edit" else "control"
    fields = {
        "key": f"trace-{kind}-{number}",
        "identifier": both.identifier,
        "pairs": (both,),
        "baselines": (baseline(both.clean, role="clean"), baseline(both.corrupt, role=role)),
        "trace_effects": ((both, trace_effect()), (both, trace_effect(0.5, direction="noising"))),
    }
    return UnitResult(**{**fields, **changes})


def ablation(**changes: Any) -> Ablation:
    fields = {
        "condition": "selected",
        "sign": "positive",
        "operation": "resample",
        "size": 2,
        "trial": -1,
        "heads": ("L0H1", "L1H2"),
        "n": 40,
        "accuracy": 0.75,
        "mean_probability": 0.6,
        "mean_logit_diff": 1.0,
        "drop": 0.2,
    }
    return Ablation(**{**fields, **changes})


def modulation(**changes: Any) -> FittedRescaling:
    fields = {
        "recipe": "ours",
        "role": "fitted",
        "scales": {"L0H1": 1.5, "L1H2": 0.5},
        "strength": 0.5,
        "top_k": 1,
        "clip": None,
        "chosen_on": "choose",
        "evaluated_on": "test/hard",
        "n": 40,
        "accuracy": 0.9,
        "base_accuracy": 0.85,
        "gain": 0.05,
        "gain_error": None,
        "p_value": None,
    }
    return FittedRescaling(**{**fields, **changes})


def score_row(layer: int, head: int, sign: str = "none", **changes: Any) -> dict[str, Any]:
    """One row of head_scores with every statistic that a claim has."""
    mean = 0.1 * (1 + head + HEADS * layer)
    fields: dict[str, Any] = {
        "pool": "score",
        "operation": "resample",
        "positions": "all",
        "measure": "logit_diff",
        "stack": "decoder",
        "layer": layer,
        "head": head,
        "n": 50,
        "n_sampled": 40,
        "n_correct": 40,
        "n_wrong": 10,
        "positive": mean,
        "negative": mean / 2,
        "signed": mean,
        "support": mean,
        "low_support": mean - 0.05,
        "high_support": mean + 0.05,
        "mean_correct": mean,
        "mean_wrong": -mean,
        "low_wrong": -mean - 0.05,
        "high_wrong": -mean + 0.05,
        "q_positive": 0.01,
        "q_negative": 0.02,
        "claim_positive": sign == "positive",
        "claim_negative": sign == "negative",
        "reliability_support": 0.9,
        "reliability_wrong": 0.8,
        "sign": sign,
        "resolved": 1,
    }
    return {**fields, **changes}
