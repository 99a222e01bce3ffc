"""What the published V-SEAM scripts compute, written again from the paper's definitions with plain Hugging Face and hooks, and held
against the numbers that a study stores: head scores by masking, and token-wise traces.

Nothing of vseam is used here but the dataset's images and the database. Prompts are written out by hand, heads are slices of the input
of the attention output projection, the head count comes from the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoProcessor

from vseam_core.api.types import Sample
from vseam_core.config.study import HeadScan, Method, Sizes, Study
from vseam_core.experiments.study.run import run_study
from vseam_core.runs.workspace import Workspace, open_workspace

TOLERANCE = 1e-4
PROMPTS = {
    "llava-tiny": "USER: <image>\n{question} Please answer with a single word.\nASSISTANT:",
    "instructblip-tiny": "Question: {question} Answer using a single word.",
}
LAYERS_OF = {"llava-tiny": "model.language_model.layers", "instructblip-tiny": "language_model.model.layers"}
SIZES = Sizes(
    pairs=1, random_model_pairs=0, score=12, hard=40, scan_sampled=2, scan_wrong=1, choose=1, test=1, ablation=1, random_sets=1, reference=8
)


@dataclass(frozen=True)
class Published:
    """A model as the published scripts use it."""

    name: str
    module: Any
    processor: Any

    @property
    def layers(self) -> Any:
        return self.module.get_submodule(LAYERS_OF[self.name])

    @property
    def heads(self) -> int:
        return int(self.module.config.text_config.num_attention_heads)

    def inputs(self, sample: Sample) -> dict[str, torch.Tensor]:
        text = PROMPTS[self.name].format(question=sample.question)
        encoded = self.processor(images=[sample.image.load().convert("RGB")], text=[text], return_tensors="pt")
        return {name: value for name, value in encoded.items() if isinstance(value, torch.Tensor)}

    def answer(self, sample: Sample) -> list[int]:
        """A: the token ids of the answer alone, without the beginning of text."""
        return list(self.processor.tokenizer(sample.answer, add_special_tokens=False)["input_ids"])

    @torch.no_grad()
    def logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        last: torch.Tensor = self.module(**inputs).logits[0, -1]
        return last.double()

    @contextmanager
    def masked(self, layer: int, head: int) -> Iterator[None]:
        """One head's slice replaced, at every position, by the mean of the layer's other heads."""

        def replace(_: Any, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            z = args[0].clone()
            split = z.view(*z.shape[:-1], self.heads, -1)
            others = [index for index in range(self.heads) if index != head]
            split[..., head, :] = sum(split[..., index, :] for index in others) / len(others)
            return (z, *args[1:])

        handle = self.layers[layer].self_attn.o_proj.register_forward_pre_hook(replace)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def output(self, layer: int, part: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
        """What attention (`self_attn`) or the MLP (`mlp`) of a layer puts out, passed through `change`."""

        def hook(_: Any, __: Any, output: Any) -> Any:
            if isinstance(output, tuple):
                return (change(output[0]), *output[1:])
            return change(output)

        handle = getattr(self.layers[layer], part).register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()


@pytest.fixture(scope="module", params=PROMPTS)
def studied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Published, Workspace]]:
    """The model loaded by the library alone, and a finished study of it."""
    name: str = request.param
    study = Study(
        name="parity",
        models=[name],
        datasets=["scenes/color"],
        stages=["evaluate", "trace", "scan"],
        tracers=[Method(name="tokenwise")],
        heads=[HeadScan(operation="mean_of_others", protocol="published")],
        random_models=0,
        sizes=SIZES,
    )
    with open_workspace(tmp_path_factory.mktemp("parity") / "results.db", device="cpu") as workspace:
        run_study(workspace, study)
        folder = Path(workspace.model(name).model.info.source)
        module = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        processor = AutoProcessor.from_pretrained(folder)
        processor.image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
        yield Published(name, module, processor), workspace


def samples_of(workspace: Workspace) -> dict[str, Sample]:
    dataset = workspace.benchmark("scenes/color")
    return {sample.identifier: sample for split in dataset.splits() for sample in dataset.samples("score", split, 200)}


def scan_of(workspace: Workspace) -> int:
    runs = workspace.store.runs()
    return int(runs[runs["method"].str.contains("scan")]["id"].iloc[0])


def test_the_prompt_is_the_published_one(studied: tuple[Published, Workspace]) -> None:
    published, workspace = studied
    sample = next(iter(samples_of(workspace).values()))
    prompt = workspace.model(published.name).model.encode(sample.image.load(), sample.question)
    inputs = published.inputs(sample)
    assert inputs["input_ids"][0].tolist() == list(prompt.ids)
    for name, value in inputs.items():
        assert torch.allclose(value.float(), prompt.inputs[name].float(), atol=1e-6), name


def test_head_scores_are_those_of_the_published_formulas(studied: tuple[Published, Workspace]) -> None:
    """positive = mean over right answers of max(0, base − masked), negative = mean over wrong ones of max(0, masked − base), signed =
    mean over all of base − masked, all in p[A[0]]; right means that the most likely token is in A."""
    published, workspace = studied
    run = scan_of(workspace)
    found = workspace.store.head_effects(run, "mean_of_others", "published_prob")
    known = samples_of(workspace)
    effects, right = [], []
    for identifier, stored in zip(found.samples["identifier"], found.values, strict=True):
        sample = known[identifier]
        inputs, answer = published.inputs(sample), published.answer(sample)
        logits = published.logits(inputs)
        base = float(logits.softmax(-1)[answer[0]])
        right.append(int(logits.argmax()) in answer)
        effect = np.zeros((len(published.layers), published.heads))
        for layer in range(len(published.layers)):
            for head in range(published.heads):
                with published.masked(layer, head):
                    effect[layer, head] = base - float(published.logits(inputs).softmax(-1)[answer[0]])
        np.testing.assert_allclose(stored, effect, atol=TOLERANCE, rtol=1e-3)
        effects.append(effect)
    assert 0 < sum(right) < len(right), "right and wrong answers both take part"
    all_effects, is_right = np.array(effects), np.array(right)
    expected = {
        "positive": np.maximum(0, all_effects[is_right]).mean(0),
        "negative": np.maximum(0, -all_effects[~is_right]).mean(0),
        "signed": all_effects.mean(0),
    }
    scores = workspace.store.scores("head_scores", run)
    scores = scores[(scores["measure"] == "published_prob") & (scores["operation"] == "mean_of_others")]
    assert len(scores) == all_effects[0].size
    for name, values in expected.items():
        for row in scores.itertuples():
            assert getattr(row, name) == pytest.approx(values[row.layer, row.head], abs=TOLERANCE), (name, row.layer, row.head)
    assert {row.n_correct for row in scores.itertuples()} == {int(is_right.sum())}


def test_traces_are_the_published_sums_of_probability_and_mean_logits(studied: tuple[Published, Workspace]) -> None:
    """Clean activations into the corrupt run, one layer and text position at a time: Σ p over A, and the mean logit over A."""
    published, workspace = studied
    runs = workspace.store.runs()
    run = int(runs[runs["method"].str.contains("trace|tokenwise")]["id"].iloc[0])
    records = [
        record for record in workspace.store.trace_effects(run, tracer="tokenwise", direction="denoising")
        if record.effect.measure in ("prob_sum", "logit")
    ]  # fmt: skip
    assert {(record.effect.site_kind, record.effect.measure) for record in records} == {
        (site, measure) for site in ("attention_output", "mlp_output") for measure in ("prob_sum", "logit")
    }
    sample = next(sample for identifier, sample in samples_of(workspace).items() if records[0].pair.startswith(f"{identifier}#"))
    pair = workspace.plugins.editor("scenes").edit(sample, 0)
    clean, corrupt, answer = published.inputs(pair.clean), published.inputs(pair.corrupt), published.answer(pair.clean)
    for record in records:
        effect = record.effect
        part = {"attention_output": "self_attn", "mlp_output": "mlp"}[effect.site_kind]
        before = _measure(published.logits(corrupt), answer, effect.measure)
        assert effect.corrupt == pytest.approx(before, abs=TOLERANCE)
        assert effect.clean == pytest.approx(_measure(published.logits(clean), answer, effect.measure), abs=TOLERANCE)
        for row, layer in enumerate(effect.layers):
            kept: list[torch.Tensor] = []
            with published.output(layer, part, lambda value, kept=kept: kept.append(value.clone()) or value):  # type: ignore[misc]
                published.logits(clean)
            for column, position in enumerate(int(name) for name in effect.columns):
                with published.output(layer, part, lambda value, kept=kept, at=position: _replaced(value, kept[0], at)):  # type: ignore[misc]
                    patched = _measure(published.logits(corrupt), answer, effect.measure)
                assert float(effect.values[row, column]) == pytest.approx(patched - before, abs=TOLERANCE)


def _replaced(value: torch.Tensor, clean: torch.Tensor, position: int) -> torch.Tensor:
    changed = value.clone()
    changed[:, position] = clean[:, position]
    return changed


def _measure(logits: torch.Tensor, answer: list[int], measure: str) -> float:
    return float(logits.softmax(-1)[answer].sum() if measure == "prob_sum" else logits[answer].mean())
