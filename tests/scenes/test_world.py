"""The scenes world: sampling, rendering, labels and scene graph."""

from __future__ import annotations

import itertools
import pickle
import random
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.scenes.labels import patch_labels, scene_graph
from vseam_plugins.benchmarks.scenes import sprites, world
from vseam_plugins.benchmarks.scenes.world import Action, Scene, SceneObject


def scenes(count: int, *, split: str = "plain", pool: str = "test", seed: int = 0, variant: str = "uniform") -> list[Scene]:
    rng = random.Random(seed)
    return [world.sample_scene(rng, pool=pool, split=split, world=variant) for _ in range(count)]


def quiet(objects: tuple[SceneObject, ...], actions: tuple[Action, ...] = ()) -> Scene:
    return Scene(objects, actions, 100, 1, 0.0, (), "uniform")


DOG = SceneObject("dog", "red", "plain", 1, 0)
CAR = SceneObject("car", "blue", "striped", 1, 1)
CUP = SceneObject("cup", "green", "dotted", 0, 1)


def test_the_same_seed_gives_the_same_scenes_and_pixels() -> None:
    first, second = scenes(20, split="hard", seed=4), scenes(20, split="hard", seed=4)
    assert first == second
    assert all(np.array_equal(world.render(a), world.render(b)) for a, b in zip(first, second, strict=True))
    assert first != scenes(20, split="hard", seed=5)


def test_a_pickled_scene_renders_the_same() -> None:
    scene = scenes(1, split="hard")[0]
    assert np.array_equal(world.render(pickle.loads(pickle.dumps(scene))), world.render(scene))


def test_an_image_has_the_size_and_type_models_expect() -> None:
    image = world.render(scenes(1)[0])
    assert image.shape == (120, 120, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("split", ["plain", "hard"])
def test_kinds_and_cells_are_unique_and_actions_fit_the_layout(split: str) -> None:
    for scene in scenes(400, split=split):
        kinds = [thing.kind for thing in scene.objects]
        cells = [(thing.row, thing.column) for thing in scene.objects]
        pairs = [frozenset((a.agent, a.patient)) for a in scene.actions]
        assert len(set(kinds)) == len(kinds) == len(set(cells))
        assert len(set(pairs)) == len(pairs) <= 2
        assert set(scene.actions) <= set(world.possible_actions(scene.objects))


def test_hard_scenes_hold_more_objects_more_noise_and_occluders() -> None:
    plain, hard = scenes(200), scenes(200, split="hard")
    assert {len(scene.objects) for scene in plain} == {2, 3, 4}
    assert {len(scene.objects) for scene in hard} == {5, 6}
    assert not any(scene.occluders for scene in plain)
    assert all(scene.occluders for scene in hard)
    assert min(scene.noise for scene in hard) > max(scene.noise for scene in plain)


def test_an_occluder_covers_at_most_35_percent_of_a_sprite() -> None:
    for scene in scenes(200, split="hard"):
        for x0, y0, x1, y1 in scene.occluders:
            assert (x1 - x0) * (y1 - y0) <= 0.35 * sprites.SPRITE**2


def test_the_number_of_objects_and_the_noise_can_be_fixed() -> None:
    scene = world.sample_scene(random.Random(0), pool="train", split="hard", objects=3, noise=12.5)
    assert (len(scene.objects), scene.noise) == (3, 12.5)


@pytest.mark.parametrize(
    "options",
    [{"pool": "dev", "split": "plain"}, {"pool": "test", "split": "soft"}, {"pool": "test", "split": "plain", "objects": 7}],
)
def test_unknown_pools_splits_and_counts_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"unknown pool, split or world|2 to 6 objects"):
        world.sample_scene(random.Random(0), **options)


def test_pools_own_disjoint_backgrounds_that_look_different() -> None:
    owned = [set(backgrounds) for backgrounds in world.POOL_BACKGROUNDS.values()]
    assert sum(map(len, owned)) == len(set().union(*owned))
    for pool in world.POOL_BACKGROUNDS:
        assert {world.pool_of(scene) for scene in scenes(50, pool=pool)} == {pool}
    empty = [world.render(Scene((), (), number, 0, 0.0, (), "uniform")).tobytes() for number in range(112)]
    assert len(set(empty)) == 112


def test_a_background_of_no_pool_is_refused() -> None:
    with pytest.raises(ValueError, match="no pool"):
        world.pool_of(replace(quiet((DOG,)), background=500))


def test_an_object_changes_only_pixels_in_its_box() -> None:
    scene = quiet((DOG, CAR, CUP))
    changed = np.any(world.render(scene) != world.render(quiet(())), axis=-1)
    inside = np.zeros_like(changed)
    for i in range(3):
        x0, y0, x1, y1 = world.object_box(scene, i)
        assert changed[y0:y1, x0:x1].mean() > 0.25
        inside[y0:y1, x0:x1] = True
    assert not changed[~inside].any()


@pytest.mark.parametrize("action", [Action("pulling", 0, 1), Action("pulling", 1, 0), Action("carrying", 1, 2)])
def test_a_glyph_is_plainly_visible_and_stays_in_its_box(action: Action) -> None:
    objects = (DOG, CAR, CUP)
    scene = quiet(objects, (action,))
    difference = np.abs(world.render(scene).astype(int) - world.render(quiet(objects)).astype(int)).max(-1)
    x0, y0, x1, y1 = world.action_box(scene, 0)
    assert (difference[y0:y1, x0:x1] > 60).sum() >= 60
    difference[y0:y1, x0:x1] = 0
    assert not difference.any()


def test_the_direction_of_pulling_is_visible() -> None:
    one = world.render(quiet((DOG, CAR), (Action("pulling", 0, 1),))).astype(int)
    other = world.render(quiet((DOG, CAR), (Action("pulling", 1, 0),))).astype(int)
    assert (np.abs(one - other).max(-1) > 60).sum() >= 40


def test_every_kind_color_and_material_gives_a_clearly_different_sprite() -> None:
    pictures = {}
    for key in itertools.product(sprites.KINDS, sprites.COLORS, sprites.MATERIALS):
        colors, transparent = sprites.sprite(*key)
        pictures[key] = (colors + 200 * transparent).reshape(-1)
    stacked = np.stack(list(pictures.values())).astype(np.float64)
    squares = (stacked**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * stacked @ stacked.T, 0) / stacked.shape[1])
    np.fill_diagonal(distances, np.inf)
    assert distances.min() > 8  # root mean square, in grey levels over the whole 32 x 32 window


def test_noise_depends_on_the_pixel_and_the_seed_but_not_on_the_content() -> None:
    full, bare = replace(quiet((DOG, CAR)), noise=5.0), replace(quiet((DOG,)), noise=5.0)
    x0, y0, x1, y1 = world.object_box(full, 1)
    same = np.ones((120, 120), bool)
    same[y0:y1, x0:x1] = False
    assert np.array_equal(world.render(full)[same], world.render(bare)[same])
    assert not np.array_equal(world.render(full), world.render(replace(full, noise_seed=2)))


def test_the_noise_has_the_asked_standard_deviation() -> None:
    scene = replace(quiet(()), noise=8.0)
    noise = world.render(scene).astype(float) - world.render(replace(scene, noise=0.0))
    assert abs(noise.std() - 8.0) < 0.5


def test_the_four_patches_of_a_cell_carry_its_objects_labels() -> None:
    labels = patch_labels(quiet((DOG, CAR))).reshape(6, 6, 3)
    dog = [sprites.KINDS.index("dog") + 1, sprites.COLORS.index("red") + 1, sprites.MATERIALS.index("plain") + 1]
    assert (labels[2:4, 0:2] == dog).all()
    assert labels[2:4, 2:4, 1].tolist() == [[sprites.COLORS.index("blue") + 1] * 2] * 2
    assert not labels[0:2].any()
    assert not labels[:, 4:].any()


def test_the_scene_graph_has_gqas_form_and_names_the_true_relations() -> None:
    graph = scene_graph(quiet((DOG, CAR, CUP), (Action("pulling", 0, 1),)))
    assert (graph["width"], graph["height"]) == (120, 120)
    objects = graph["objects"]
    assert isinstance(objects, dict)
    dog = objects["0"]
    assert (dog["name"], dog["attributes"]) == ("dog", ["red", "plain"])
    assert (dog["x"], dog["y"], dog["w"], dog["h"]) == (4, 44, 32, 32)
    relations = {(relation["name"], relation["object"]) for relation in dog["relations"]}
    assert relations == {
        ("to the left of", "1"), ("pulling", "1"), ("to the left of", "2"), ("below", "2"),
    }  # fmt: skip


def test_the_skewed_world_follows_its_prior_in_training_and_breaks_it_in_evaluation() -> None:
    def share(pool: str) -> float:
        drawn = scenes(1500, pool=pool, variant="skewed")
        things = [thing for scene in drawn for thing in scene.objects if thing.kind in world.PRIOR]
        return float(np.mean([thing.color == world.PRIOR[thing.kind] for thing in things]))

    assert 0.93 < share("train") < 0.97
    assert 0.45 < share("test") < 0.55


def test_counter_prior_objects_are_flagged_in_the_skewed_world_only() -> None:
    fish = (SceneObject("fish", "red", "plain", 0, 0), SceneObject("bus", "yellow", "plain", 2, 2), DOG)
    scene = quiet(fish)
    assert world.counter_prior(scene) == ()
    assert world.counter_prior(replace(scene, world="skewed")) == (0,)


def test_rendering_keeps_up_with_training() -> None:
    drawn = scenes(300)
    for scene in drawn:
        world.render(scene)  # fills the caches
    best = np.inf
    for _ in range(3):
        start = time.process_time()
        for scene in drawn:
            world.render(scene)
        best = min(best, time.process_time() - start)
    assert len(drawn) / best > 1000  # far below the usual rate: only a lost cache or a slow loop fails
