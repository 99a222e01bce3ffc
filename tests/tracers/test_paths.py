"""The tracer of paths, held against forward passes with plain hooks, and what its ends may be called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vseam_core.errors import UnknownNameError, UnsupportedError
from vseam_plugins.tracers.paths import PathPatching

from .scene import Scene
from .support import SHAPE
from .tiny_llava import HEADS, LAYERS, assert_equal, build, measures, of_head


@pytest.fixture(scope="module")
def scene():
    return Scene(build())


def by_hand(scene, direction, senders, receiver=None):
    """Senders are sites such as `(1, "mlp")` or `(1, "z", head)`; the receiver is the logits, or a layer whose MLP reads."""
    base, donor = ("corrupt", "clean") if direction == "denoising" else ("clean", "corrupt")
    given, found = scene.prompts[base], {}

    def first(site):
        def change(live):
            if site == (receiver, "mlp"):
                found[site] = live.clone()
            value = scene.sites[base][site].clone()
            for sender in senders:
                if sender[:2] == site:
                    part = of_head(value, sender[2]) if len(sender) == 3 else value
                    other = scene.sites[donor][site]
                    part[:] = of_head(other, sender[2]) if len(sender) == 3 else other
            return value

        return change

    held = [(layer, name) for layer in range(LAYERS) for name in ("z", "mlp")]
    starts = [sender for sender in senders if sender[1] == "before"]
    logits = scene.plain.logits(given, {site: first(site) for site in [*held, *starts]})
    if receiver is not None:
        logits = scene.plain.logits(given, {(receiver, "mlp"): lambda _: found[receiver, "mlp"]})
    return measures(logits, scene.answer)["logit_diff"] - scene.base[base]["logit_diff"]


@pytest.mark.parametrize("direction", ["denoising", "noising"])
def test_every_heads_path_to_the_logits_stands_in_its_cell(scene, direction):
    effect = scene.traced(PathPatching())["L*H*->logits", direction, "logit_diff"]
    assert (effect.layers, effect.columns) == (tuple(range(LAYERS)), tuple(f"H{head}" for head in range(HEADS)))
    expected = [[by_hand(scene, direction, [(layer, "z", head)]) for head in range(HEADS)] for layer in range(LAYERS)]
    assert_equal(effect.values, expected)


def test_receivers_that_stand_for_many_have_the_rows_that_a_sender_leads_to(scene):
    found = scene.traced(PathPatching(["L1H2", "L0.mlp", "embeddings", "L0H1+L1.mlp"], ["L*.mlp"], directions=["noising"]))
    senders = {"L1H2": [(1, "z", 2)], "L0.mlp": [(0, "mlp")], "embeddings": [(0, "before")], "L0H1+L1.mlp": [(0, "z", 1), (1, "mlp")]}
    rows = {"L1H2": (1, 2), "L0.mlp": (1, 2), "embeddings": (0, 1, 2), "L0H1+L1.mlp": (2,)}
    for name, sites in senders.items():
        effect = found[f"{name}->L*.mlp", "noising", "logit_diff"]
        assert (effect.layers, effect.columns) == (rows[name], ("mlp",))
        assert_equal(effect.values, [[by_hand(scene, "noising", sites, layer)] for layer in rows[name]])


def test_positions_limit_where_senders_change(scene):
    image, everywhere = (
        scene.traced(PathPatching(["L0.mlp"], ["L*H*.q"], positions=where, directions=["noising"])) for where in ("image", "all")
    )
    (name,) = image
    assert np.abs(image[name].values - everywhere[name].values).max() > 1e-3
    direct = scene.traced(PathPatching(["L0.mlp"], ["logits"], positions="image", directions=["noising"]))
    reached = np.abs(direct["L0.mlp->logits", "noising", "logit_diff"].values).max()
    assert reached < 1e-12, "nothing but the last position reaches the logits directly: what is left is rounding"


@pytest.mark.parametrize(
    ("senders", "receivers", "reason"),
    [
        ("L3", "logits", "'L3' is no end of a path: a sender is a head"),
        ("L1H2.mlp", "logits", "is no end of a path"),
        ("logits", "logits", "'logits' is no sender"),
        ("L1H2.q", "logits", "'L1H2.q' is no sender"),
        ("L1H2", "embeddings", "'embeddings' is no receiver"),
        ("L1H2", "head 3", "'head 3' is no end of a path: a receiver is"),
        ("L*H*", "L*.mlp", r"L\*H\* and L\*.mlp both stand for many"),
        ("L*H*+L1H2", "logits", "senders that change together are named one by one"),
        ([], "logits", "name a sender and a receiver"),
    ],
)
def test_an_end_that_means_nothing_is_refused_with_what_there_is(senders, receivers, reason):
    with pytest.raises(UnknownNameError, match=reason):
        PathPatching(senders, receivers)


@pytest.mark.parametrize(
    ("senders", "receivers", "reason"),
    [
        ("L2H0", "L*H*.q", "no path leads from L2H0 to L\\*H\\*.q"),
        ("L1.mlp", "L1.mlp", "no path leads"),
        ("L7H0", "logits", "layer 7 does not exist: the model has layers 0 to 2"),
        ("L0H9", "logits", "head 9 does not exist: there are heads 0 to 3"),
        ("L0H1", "L2H3.k", "head 3 does not exist: there are heads 0 to 1"),
        ("L0H1", "L2H3", "4 heads of this model share 2 keys and values: say L2H3.q"),
    ],
)
def test_an_end_that_this_model_lacks_is_refused_with_the_reason(scene, senders, receivers, reason):
    given = replace(scene.context, shape=replace(SHAPE, key_value_heads=2))
    with pytest.raises(UnsupportedError, match=reason):
        PathPatching(senders, receivers).plan(given)


def test_ends_are_shown_in_words():
    shown = PathPatching(["L1H2 + L1.mlp", "embeddings"], ["L*H*.q", "L2H0.v"]).presentation()
    assert dict(shown.sites) == {
        "L1H2+L1.mlp->L*H*.q": "L1H2 + MLP of L1 → query of every head",
        "L1H2+L1.mlp->L2H0.v": "L1H2 + MLP of L1 → value of L2H0",
        "embeddings->L*H*.q": "embeddings → query of every head",
        "embeddings->L2H0.v": "embeddings → value of L2H0",
    }
