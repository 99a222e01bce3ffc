"""Every head intervention through the reference engine, held against full forward passes with plain hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.heads.scene import MEASURES, Scene
from tests.tracers.support import CLASSES
from tests.tracers.tiny_llava import (
    HEAD_DIM,
    HEADS,
    LAYERS,
    assert_equal,
    build,
    of_head,
)
from vseam_core.api.types import HeadId
from vseam_plugins.heads.ablation import DatasetMean, MeanOfOthers, PatchFromPair, Resample, Zero
from vseam_plugins.heads.rescaling import Scale

ALL_HEADS = [HeadId(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
SETS = [[head] for head in ALL_HEADS] + [[HeadId(0, 1), HeadId(0, 3), HeadId(2, 0)], [HeadId(1, 0), HeadId(1, 1), HeadId(1, 2)]]
FACTORS = {head: 0.4 + 0.3 * index for index, head in enumerate(ALL_HEADS)}
POSITIONS = {
    "all": None,
    "image": tuple(index for index, name in enumerate(CLASSES) if name == "image"),
    "question": tuple(index for index, name in enumerate(CLASSES) if name == "question"),
    "last": (len(CLASSES) - 1,),
}
METHODS = {
    "zero": Zero(),
    "mean_of_others": MeanOfOthers(),
    "dataset_mean": DatasetMean(),
    "resample": Resample(),
    "patch": PatchFromPair(),
    "scale": Scale(FACTORS),
}


class Replacing(Scene):
    """The scene with every replacement written out."""

    def by_hand(self, name, heads, positions):
        """Base minus replaced for one set of heads, every replacement written out."""
        sources = {"resample": self.donors, "patch": (self.other,)}.get(name, (None,))
        found = []
        for source in sources:
            layers = {head.layer for head in heads}
            found.append(self.changed({layer: self.change(name, layer, heads, positions, source) for layer in layers}))
        return np.mean(found, axis=0)

    def change(self, name, layer, heads, positions, source):
        mine = [head.head for head in heads if head.layer == layer]
        rows = list(range(len(CLASSES))) if positions is None else list(positions)

        def change(z):
            changed = z.clone()
            for head in mine:
                live = of_head(z, head)[rows]
                if name == "zero":
                    new = torch.zeros_like(live)
                elif name == "mean_of_others":
                    new = sum(of_head(z, other)[rows] for other in range(HEADS) if other not in mine) / (HEADS - len(mine))
                elif name == "dataset_mean":
                    new = torch.tensor(self.means[layer][:, head])[rows]
                elif name == "scale":
                    new = live * FACTORS[HeadId(layer, head)]
                else:
                    new = of_head(self.sites[source.key][layer, "z"], head)[rows]
                of_head(changed, head)[rows] = new
            return changed

        return change


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scene(one_thread):
    return Replacing(build())


@pytest.mark.parametrize("where", POSITIONS)
@pytest.mark.parametrize("name", METHODS)
def test_every_operation_equals_plain_hooks_for_single_heads_and_sets(scene, name, where):
    found = scene.effects(METHODS[name], SETS, POSITIONS[where])
    expected = np.array([scene.by_hand(name, heads, POSITIONS[where]) for heads in SETS])
    for index in range(len(MEASURES)):
        assert_equal(found[:, index], expected[:, index])


def plant(layer, head):
    """A model in which one head alone writes to the residual stream: every other slice of every W_O is zero."""
    module = build(seed=layer)
    with torch.no_grad():
        for index, block in enumerate(module.model.language_model.layers):
            for other in range(HEADS):
                if (index, other) != (layer, head):
                    of_head(block.self_attn.o_proj.weight, other).zero_()
    return module


@pytest.mark.parametrize("layer", range(LAYERS))
@pytest.mark.parametrize("head", [0, 3])
def test_the_only_head_that_can_matter_is_found_by_every_operation(layer, head):
    planted = ALL_HEADS.index(HeadId(layer, head))
    scene = Replacing(plant(layer, head))
    for name, method in METHODS.items():
        effects = np.abs(scene.effects(method, [[each] for each in ALL_HEADS], None)[:, 0])
        assert effects[planted] > 1e-3, name
        assert np.delete(effects, planted).max() < 1e-9, name


def rotate_values_against_output(module, seed):
    """Rotates each value head and counter-rotates the W_O slices that read it: the model computes exactly what it did."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for block in module.model.language_model.layers:
            attention = block.self_attn
            shared = HEADS // (attention.v_proj.out_features // HEAD_DIM)
            for value_head in range(HEADS // shared):
                rotation, _ = torch.linalg.qr(torch.randn(HEAD_DIM, HEAD_DIM, generator=generator, dtype=torch.float64))
                rows = attention.v_proj.weight[value_head * HEAD_DIM : (value_head + 1) * HEAD_DIM]
                rows.copy_(rotation.T @ rows)
                for head in range(value_head * shared, (value_head + 1) * shared):
                    columns = of_head(attention.o_proj.weight, head)
                    columns.copy_(columns @ rotation)
    return module


@pytest.fixture(scope="module")
def rotated(one_thread):
    return Replacing(rotate_values_against_output(build(), seed=3))


@pytest.mark.parametrize("name", ["zero", "dataset_mean", "resample", "patch", "scale"])
def test_effects_do_not_depend_on_the_basis_that_a_head_writes_its_values_in(scene, rotated, name):
    before, after = (each.effects(METHODS[name], SETS, None) for each in (scene, rotated))
    for index in range(len(MEASURES)):
        assert_equal(after[:, index], before[:, index])


def test_mean_of_others_does_depend_on_that_basis_and_is_parity_only(scene, rotated):
    before, after = (each.effects(METHODS["mean_of_others"], SETS, None) for each in (scene, rotated))
    np.testing.assert_allclose(list(rotated.unchanged.values()), list(scene.unchanged.values()), rtol=1e-9)
    assert np.abs(after - before)[:, 0].max() > 0.05 * np.abs(before)[:, 0].max()
