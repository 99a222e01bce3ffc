"""Both engines on tiny models of every family, against one full forward pass per run with plain hooks.

The default tests spread a pairwise set of runs over attention implementations and dtypes; `make test-all` runs the full grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch

from tests.engine.families import FAMILIES, Padding, TinyVLM, softmax_in_float64
from tests.engine.grids import KINDS, TOKENS, Grid, prompts
from tests.engine.independent import plain_logits
from vseam_core.api.interventions import Run, RunResult, SiteEdit
from vseam_core.engine.base import Engine
from vseam_core.engine.reference import ReferenceEngine
from vseam_core.engine.replay import ReplayEngine
from vseam_core.errors import UnsupportedError

DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOLERANCE = {"float32": 1e-4, "float64": 1e-10}
ENGINES: dict[str, type[Engine]] = {"reference": ReferenceEngine, "replay": ReplayEngine}
SETTINGS = tuple(itertools.product(("eager", "sdpa"), DTYPES))
CASES = [
    pytest.param(family, attention, dtype, id=f"{family}-{attention}-{dtype}")
    for family, chosen in FAMILIES.items()
    for attention, dtype in SETTINGS
    if attention in chosen.attentions
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True, eq=False)
class Expected:
    """Runs on prompts of two lengths, mixed, with their logits `[runs, tokens]` and those of the untouched base."""

    model: TinyVLM
    runs: list[Run]
    logits: np.ndarray
    untouched: np.ndarray


@cache
def expected(family: str, attention: str, dtype: str, full: bool = False) -> Expected:
    model = TinyVLM(family, attention, DTYPES[dtype])
    grids = [Grid(model, base, donor) for base, donor in prompts(model).values()]
    by_length = list(zip(*(grid.full() if full else grid.pairwise() for grid in grids), strict=True))
    # Every setting takes its share of the pairwise runs, and all of the full grid; on the two lengths in turn.
    settings = [setting for setting in SETTINGS if setting[0] in FAMILIES[family].attentions]
    mine = range(len(by_length)) if full else range(settings.index((attention, dtype)), len(by_length), len(settings))
    runs = [by_length[index][turn % 2] for turn, index in enumerate(mine)]
    runs += [grid.run() for grid in grids]
    with softmax_in_float64(model):
        plain = {run.base.key: _read(model, Run(run.base, run.readouts)) for run in runs}
        logits = np.stack([_read(model, run) for run in runs])
    return Expected(model, runs, logits, np.stack([plain[run.base.key] for run in runs]))


def _read(model: TinyVLM, run: Run) -> np.ndarray:
    return plain_logits(model, run)[list(TOKENS)].numpy()


def assert_equal(found: Iterable[RunResult], wanted: Expected, tolerance: float, chosen: Sequence[int] | None = None) -> None:
    """Every logit within `tolerance`, absolutely and in units of the median effect. NaN anywhere fails."""
    logits = np.array([[readout[0].logit for readout in result.readouts] for result in found])
    assert np.isfinite(wanted.logits).all()
    assert np.isfinite(logits).all(), f"not finite in runs {np.unique(np.argwhere(~np.isfinite(logits))[:, 0])}"
    effects = np.abs(wanted.logits - wanted.untouched).max(1)
    reached = effects[effects > 1e-9]
    assert len(reached) > len(effects) / 2, "most runs change nothing: this comparison shows little"
    rows = list(range(len(wanted.runs))) if chosen is None else list(chosen)
    errors = np.abs(logits - wanted.logits[rows]).max(1)
    allowed = tolerance * min(1.0, float(np.median(reached)))
    # Written as "not (… <= …)" so that NaN fails too.
    wrong = [(rows[index], float(error)) for index, error in enumerate(errors) if not error <= allowed]
    names = [(error, wanted.runs[index].interventions) for index, error in sorted(wrong, key=lambda entry: -entry[1])[:3]]
    assert not wrong, f"{len(wrong)} of {len(rows)} runs differ by more than {allowed:.1e}; the worst: {names}"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("family", "attention", "dtype"), CASES)
def test_an_engine_equals_full_forwards_with_plain_hooks(engine: str, family: str, attention: str, dtype: str) -> None:
    wanted = expected(family, attention, dtype)
    alone = range(0, len(wanted.runs), 5)
    with softmax_in_float64(wanted.model):
        made = ENGINES[engine](wanted.model)
        # All runs in one call: prompts of two lengths, every site and operation in one batch.
        together, single = made.run(wanted.runs), [made.run([wanted.runs[index]])[0] for index in alone]
    assert_equal(together, wanted, TOLERANCE[dtype])
    assert_equal(single, wanted, TOLERANCE[dtype], alone)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("family", "attention", "dtype"), CASES)
def test_an_engine_equals_full_forwards_on_the_full_grid(engine: str, family: str, attention: str, dtype: str) -> None:
    wanted = expected(family, attention, dtype, full=True)
    with softmax_in_float64(wanted.model):
        found = ENGINES[engine](wanted.model).run(wanted.runs)
    assert_equal(found, wanted, TOLERANCE[dtype])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_of_the_tiny_model_equals_single_prompts(family: str, side: Padding) -> None:
    model = TinyVLM(family, FAMILIES[family].attentions[-1], padding=side)
    chosen = [base for base, _ in prompts(model).values()]
    with torch.no_grad():
        together = model.module(**model.collate(chosen), use_cache=False).logits
        for row, prompt in enumerate(chosen):
            alone = model.module(**model.collate([prompt]), use_cache=False).logits[0, -1]
            last = prompt.last if side == "right" and model.family.stack == "decoder" else -1
            assert bool(torch.isfinite(alone).all())
            assert not float((together[row, last] - alone).abs().max()) > 1e-4


def test_the_pairwise_runs_meet_every_pair_of_site_operation_and_setting() -> None:
    pairs: set[tuple[tuple[int, str], ...]] = set()
    for attention, dtype in SETTINGS:
        for run in expected("llava", attention, dtype).runs:
            for edit in run.interventions:
                if isinstance(edit, SiteEdit):
                    values = (edit.site.kind, type(edit.operation).__name__, str(edit.site.layer), attention, dtype)
                    pairs.update(itertools.combinations(enumerate(values), 2))
    operations = ("Patch", "Zero", "Scale", "Add", "Replace")
    for kind, operation in itertools.product(KINDS, operations):
        assert ((0, kind), (1, operation)) in pairs
    for column, names in enumerate((KINDS, operations)):
        for name, (other, choices) in itertools.product(names, ((2, "0123"), (3, ("eager", "sdpa")), (4, DTYPES))):
            missing = [choice for choice in choices if ((column, name), (other, choice)) not in pairs]
            assert not missing, (name, missing)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_cross_attention_layer_lacks_is_refused(engine: str) -> None:
    model = TinyVLM("mllama")
    base, donor = prompts(model)["short"]
    grid = Grid(model, base, donor)
    for bad in (grid.edit(1, "key", "zero", "last"), grid.edit(3, "value", "zero", "last"), grid.block((0, 1), "last", "mixed")):
        with pytest.raises(UnsupportedError, match=r"layer [13] .*(projection|cross-attention)"):
            ENGINES[engine](model).run([grid.run(bad)])
