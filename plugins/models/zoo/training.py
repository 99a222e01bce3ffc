"""From nothing to a checkpoint folder: the work behind `vseam zoo train NAME --seed S --output DIR`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vseam_core.files import write_atomically
from vseam_plugins.models.zoo import checkpoint_path
from vseam_plugins.models.zoo.batches import Mixture
from vseam_plugins.models.zoo.card import Record, write_card
from vseam_plugins.models.zoo.evaluation import Score, evaluate_checkpoint
from vseam_plugins.models.zoo.networks import NETWORKS, Network
from vseam_plugins.models.zoo.objectives import FieldHead, RelationHead, TruthHead, WordAlignment
from vseam_plugins.models.zoo.probes import PriorMistakes, compare_priors
from vseam_plugins.models.zoo.recipe import RECIPES, Recipe
from vseam_plugins.models.zoo.stages import AnswerStage, BridgeStage, Stage, VisionStage

STATE_FILE = "training-state.pt"
LOG_FILE = "log.jsonl"
LOG_EVERY = 50
SAVE_EVERY = 200
Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """What identifies a training run; a saved state is only resumed by the same run."""

    name: str
    seed: int
    world: str
    recipe: Recipe
    device: str

    def key(self) -> str:
        """Describe the run so that two runs can be compared."""
        recipe = {key: repr(value) for key, value in asdict(self.recipe).items()}
        return json.dumps([self.name, self.seed, self.world, self.device, recipe], sort_keys=True)


class Trainer:
    """Runs the stages of one run in order, logging and saving as it goes."""

    def __init__(self, run: Run, output: Path, log: Log) -> None:
        self.run = run
        self.output = output
        self.log = log
        self.device = torch.device(run.device)
        self.network: Network = NETWORKS[run.name](run.name, run.seed, self.device)
        self.stages = self._build_stages()
        self.seconds = 0.0
        self._loaded: dict[str, Any] | None = self._load_state()
        self._trim_log()

    def _build_stages(self) -> list[Stage]:
        network, run = self.network, self.run
        config: Any = network.model.config
        width = config.text_config.hidden_size
        vision_width = config.vision_config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed)
            heads = [FieldHead(size).to(self.device) for size in (vision_width, width, width)]
            relations = RelationHead(width).to(self.device)
            truths = TruthHead(width).to(self.device)
        common = (network, run.recipe, Mixture(world=run.world), run.seed)
        vision = VisionStage(*common, head=heads[0])
        bridge = BridgeStage(*common, head=heads[1], alignment=WordAlignment(network.words))
        answer = AnswerStage(*common, bridge=bridge, head=heads[2], relations=relations, truths=truths)
        return [vision, bridge, answer]

    def train(self) -> nn.Module:
        """Run what is left of the stages and return the trained model."""
        start = self._loaded["stage"] if self._loaded else 0
        for index in range(start, len(self.stages)):
            self._run_stage(index)
        return self.network.model

    def _run_stage(self, index: int) -> None:
        stage = self.stages[index]
        optimizer = stage.optimizer()
        step = 0
        if self._loaded is not None and self._loaded["stage"] == index:
            step = self._loaded["step"]
            if step:
                optimizer.load_state_dict(self._loaded["optimizer"])
        began = time.monotonic()
        while not stage.finished(step):
            metrics = stage.take_step(optimizer, step)
            step += 1
            if step % LOG_EVERY == 0 or stage.finished(step):
                now = time.monotonic()
                self.seconds += now - began
                began = now
                tally = {"kinds": stage.tally.take()} if isinstance(stage, AnswerStage) else {}
                self._write({"stage": stage.name, "step": step, "seconds": round(self.seconds, 1), **metrics, **tally})
            if step % SAVE_EVERY == 0:
                self._save_state(index, step, optimizer)
        self._save_state(index + 1, 0, None)

    def _write(self, line: dict[str, Any]) -> None:
        with (self.output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        accuracy = f", accuracy {line['accuracy']:.3f}" if "accuracy" in line else ""
        self.log(f"{line['stage']} step {line['step']}: loss {line['loss']:.3f}{accuracy} ({line['seconds']:.0f} s)")

    def _trim_log(self) -> None:
        """Drop the lines of steps that will be taken again, or of another run altogether."""
        path = self.output / LOG_FILE
        if not path.is_file():
            return
        names = [stage.name for stage in self.stages]
        place = (self._loaded["stage"], self._loaded["step"]) if self._loaded else (0, 0)
        kept = []
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            if (names.index(line["stage"]), line["step"]) <= place:
                kept.append(text + "\n")
        write_atomically(path, "".join(kept))

    def _save_state(self, index: int, step: int, optimizer: torch.optim.Optimizer | None) -> None:
        answer = self.stages[2]
        assert isinstance(answer, AnswerStage)
        state = {
            "run": self.run.key(),
            "stage": index,
            "step": step,
            "seconds": self.seconds,
            "model": self.network.model.state_dict(),
            "relations": answer.relations.state_dict(),
            "truths": answer.truths.state_dict(),
            "heads": [stage.head.state_dict() for stage in self.stages],
            "optimizer": optimizer.state_dict() if optimizer else None,
            "progress": vars(answer.progress),
        }
        write_atomically(self.output / STATE_FILE, lambda file: torch.save(state, file))

    def _load_state(self) -> dict[str, Any] | None:
        """Take up the state of an interrupted run, if the folder holds one of exactly this run."""
        path = self.output / STATE_FILE
        if not path.is_file():
            return None
        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        if state["run"] != self.run.key():
            return None
        self.network.model.load_state_dict(state["model"])
        answer = self.stages[2]
        assert isinstance(answer, AnswerStage)
        for stage, weights in zip(self.stages, state["heads"], strict=True):
            stage.head.load_state_dict(weights)
        answer.relations.load_state_dict(state["relations"])
        answer.truths.load_state_dict(state["truths"])
        for key, value in state["progress"].items():
            setattr(answer.progress, key, value)
        self.seconds = state["seconds"]
        self.log(f"resuming at stage {state['stage']}, step {state['step']}")
        return state


def save_checkpoint(network: Network, output: Path) -> None:
    """Write model (fp16 safetensors) and processor to a folder that the `Auto*` classes load."""
    model: Any = network.model
    generation = model.generation_config
    generation.max_new_tokens = 4
    generation.pad_token_id = network.words["<pad>"]
    generation.bos_token_id = network.words["<s>"]
    generation.eos_token_id = network.words["</s>"]
    model.to(torch.float16).save_pretrained(output)
    network.processor.save_pretrained(output)


def score_checkpoint(folder: Path, record: Record, per_kind: int, device: str = "cpu") -> list[Score]:
    """Ask a checkpoint `per_kind` questions of every category and form on the plain and the hard test pool."""
    scores: list[Score] = []
    for split in ("plain", "hard"):
        scores += evaluate_checkpoint(
            folder, record.name, split, per_kind=per_kind, seed=record.seed, world_name=record.world, device=device
        )
    return scores


def measure_priors(folder: Path, record: Record, asked: int, device: str = "cpu") -> list[PriorMistakes]:
    """The prior mistakes of a checkpoint of the skewed world, beside those of the shipped one that never saw it; else none."""
    if record.world != "skewed":
        return []
    models = [(record.title, folder), (record.name, checkpoint_path(record.name))]
    return compare_priors(models, record.name, asked=asked, seed=record.seed, device=device)


def train(
    name: str,
    seed: int,
    output: Path,
    world: str = "uniform",
    log: Log = print,
    steps_scale: float = 1.0,
    device: str = "cpu",
    evaluate_per_kind: int = 150,
    other_seeds: dict[int, list[Score]] | None = None,
) -> Path:
    """Train an embedded model from nothing and save checkpoint, processor, `log.jsonl` and model card under `output`.

    The result depends on `name`, `seed`, `world` and `steps_scale` alone (on one machine with one thread count); an
    interrupted run that is started again with the same arguments goes on where it stood.
    `evaluate_per_kind` questions of every category and form are asked on the plain and the hard test pool afterwards;
    0 leaves that out. `other_seeds` are the scores of other trained seeds, for the card.
    Raises KeyError if the zoo has no model of that name.
    """
    recipe = RECIPES[name].scaled(steps_scale)
    output.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(Run(name, seed, world, recipe, device), output, log)
    trainer.train()
    save_checkpoint(trainer.network, output)
    record = Record(name, seed, world, round(trainer.seconds))
    scores = score_checkpoint(output, record, evaluate_per_kind, device) if evaluate_per_kind else []
    priors = measure_priors(output, record, evaluate_per_kind, device) if evaluate_per_kind else []
    write_card(output, record, recipe=recipe, scores=scores, others=other_seeds or {}, priors=priors)
    (output / STATE_FILE).unlink(missing_ok=True)
    return output
