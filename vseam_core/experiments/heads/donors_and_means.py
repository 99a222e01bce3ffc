"""What head interventions are given beside the sample: resampling donors and dataset means, from a fixed reference set."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vseam_core.api.interventions import SiteKind
from vseam_core.api.prompts import EncodedPrompt, role_of_positions, same_template
from vseam_core.engine.base import Engine
from vseam_core.errors import SampleError, UnsupportedError
from vseam_core.experiments.encoding import Prepared, prepare
from vseam_core.runs.workspace import Workspace


@dataclass(frozen=True, eq=False)
class ReferenceSet:
    """Samples of the score pool that lend their activations: donors for resampling, means for `dataset_mean`."""

    engine: Engine
    members: tuple[Prepared, ...]

    @property
    def identity(self) -> list[str]:
        """What the reference set contributes to the identity of a unit."""
        return [member.prompt.key for member in self.members]

    def donors(self, prepared: Prepared, count: int, seed: int, stack: str = "") -> tuple[EncodedPrompt, ...]:
        """`count` seeded prompts of other images with the same template and length; in another `stack` than the prompt's, whose decoder
        starts with as many tokens too.

        The choice depends on the sample and the seed only. Raises `SampleError` where fewer fit.
        """
        fitting = [
            member.prompt
            for member in self.members
            if member.sample.image_id != prepared.sample.image_id
            and same_template(member.prompt, prepared.prompt)
            and (stack in ("", self.engine.shape.stack) or _starts(member.prompt) == _starts(prepared.prompt))
        ]
        if len(fitting) < count:
            raise SampleError(
                f"{prepared.sample.identifier}: {len(fitting)} donors with its template, {count} needed: enlarge the reference set"
            )
        digest = hashlib.sha256(f"{seed}/{prepared.sample.identifier}".encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        return tuple(fitting[index] for index in generator.choice(len(fitting), count, replace=False))

    @cached_property
    def means(self) -> RoleMeans:
        """The mean head outputs of every token role over the whole reference set."""
        shape = self.engine.shape
        heads = {layer: shape.heads_in(layer) for layer in range(shape.layers) if shape.heads_in(layer)}
        sites: list[tuple[int, SiteKind]] = [(layer, "head_output") for layer in heads]
        sums: dict[str, np.ndarray] = {}
        counts: dict[str, int] = defaultdict(int)
        widths: dict[int, int] = {}
        for member in self.members:
            activations = self.engine.activations(member.prompt, sites)
            widths = {layer: activations[layer, kind].shape[-1] for layer, kind in sites}
            # The layers side by side: they may differ in width.
            joined = np.concatenate([activations[site].double().cpu().numpy() for site in sites], axis=1)
            for position, role in enumerate(role_of_positions(member.prompt, range(len(member.prompt)))):
                sums[role] = sums.get(role, 0.0) + joined[position]
                counts[role] += 1
        return RoleMeans({role: total / counts[role] for role, total in sums.items()}, heads, widths)


@dataclass(frozen=True, eq=False)
class RoleMeans:
    """Mean head outputs by token role, each float64 `[width]` of all layers side by side: layer after layer, its `heads × head_dim`.

    `heads` and `widths` say of each layer with heads how many it has and how wide they are together.
    """

    by_role: dict[str, np.ndarray]
    heads: dict[int, int]
    widths: dict[int, int]

    def resolve(self, prompt: EncodedPrompt) -> dict[int, np.ndarray]:
        """The means laid out over a prompt's positions: layer → float32 `[positions, heads, head_dim]`."""
        roles = role_of_positions(prompt, range(len(prompt)))
        missing = sorted(set(roles) - set(self.by_role))
        if missing:
            raise SampleError(f"the reference set has no token with role {', '.join(missing)}")
        joined = np.stack([self.by_role[role] for role in roles]).astype(np.float32)
        parts = np.split(joined, np.cumsum(list(self.widths.values()))[:-1], axis=1)
        return {layer: part.reshape(len(roles), self.heads[layer], -1) for layer, part in zip(self.widths, parts, strict=True)}


def _starts(prompt: EncodedPrompt) -> int:
    """How many tokens a decoder beside an encoder starts with: what both answers begin with stands there."""
    return int(prompt.inputs["decoder_input_ids"].shape[-1]) if "decoder_input_ids" in prompt.inputs else 0


def reference_set(workspace: Workspace, model: str, dataset: str, size: int) -> ReferenceSet:
    """Those of the first `size` samples of the score pool that can be encoded: fixed, whatever the limit of the experiment.

    Experiments on the same model and dataset share one, as long as its images are the same.
    """
    loaded, benchmark = workspace.model(model), workspace.benchmark(dataset)
    members = []
    for sample in benchmark.samples("score", benchmark.splits()[0], size, workspace.seed):
        try:
            members.append(prepare(loaded, sample))
        except (SampleError, UnsupportedError):
            continue
    made = ReferenceSet(loaded.engine, tuple(members))
    return workspace.kept(("reference set", model, dataset, *made.identity), lambda: made)


def head_positions(prompt: EncodedPrompt, name: str) -> tuple[int, ...] | None:
    """Where heads are replaced: `all` positions (None), or those of the `question`, the `image`, or the `last` one."""
    if name == "all":
        return None
    if name == "last":
        return (prompt.last,)
    positions = prompt.positions("image") if name == "image" else prompt.positions("question")
    if not positions:
        raise SampleError(f"this prompt has no {name} positions")
    return positions
