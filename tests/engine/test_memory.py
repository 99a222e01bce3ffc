"""The memory budget: what is measured, that it is kept, and what happens when memory runs out all the same."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from tests.engine.families import TinyVLM
from vseam_core.api.interventions import AnswerIds, AnswerScore, MeanOfOthers, Patch, Run, Site, SiteEdit
from vseam_core.config.bytes import parse_bytes, readable_bytes
from vseam_core.engine.attribution import estimate
from vseam_core.engine.budgeted import FullPassEngine
from vseam_core.engine.memory import BatchSizer, MemoryBudgetError, PeakMemory
from vseam_core.engine.replay import ReplayEngine

ANSWER = AnswerIds((20,), (21,), (20,))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> TinyVLM:
    torch.set_num_threads(1)
    return TinyVLM("llava", "sdpa")


@pytest.fixture(scope="module")
def runs(model: TinyVLM) -> list[Run]:
    base, donor = (model.prompt(image, range(11, 31)) for image in (0, 1))
    edits = [SiteEdit(Site(layer, "head_output", head), MeanOfOthers()) for layer in range(4) for head in range(4)]
    edits += [SiteEdit(Site(layer, "mlp_output"), Patch(), (len(base) - back,)) for layer in range(4) for back in (1, 5, 9)]
    return [Run(base, (AnswerScore(ANSWER),), (edit,), donor) for edit in edits]


def values(model: TinyVLM, runs: list[Run], **settings: Any) -> list[float]:
    return [result.answer.logit_diff for result in ReplayEngine(model, **settings).run(runs)]


def test_the_peak_is_the_most_that_was_held_at_one_time() -> None:
    with PeakMemory(CPU) as peak:
        first = torch.zeros(1000)
        second = first + 1
        del first
        third = second * 2
        del second, third
        torch.zeros(10)
    # The first two together, or the last two: 2 × 4,000 bytes, never all three.
    assert peak.bytes == 8000


def test_views_hold_no_memory_of_their_own() -> None:
    with PeakMemory(CPU) as peak:
        whole = torch.zeros(1000)
        parts = [whole[index:] for index in range(10)]
    assert peak.bytes == 4000, parts


def test_a_small_budget_makes_more_batches_and_the_same_numbers(model: TinyVLM, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = values(model, runs)
    sizes: list[int] = []
    original = ReplayEngine._replay

    def counted(self: ReplayEngine, plans: Any) -> Any:
        sizes.append(len(plans))
        return original(self, plans)

    monkeypatch.setattr(ReplayEngine, "_replay", counted)
    assert values(model, runs, memory_budget=2**20) == pytest.approx(expected, abs=1e-5)
    assert sizes[0] == 1, "the first batch is a probe"
    assert len(sizes) > 4


@pytest.mark.parametrize("budget", [2**20, 2**21, 2**23])
def test_a_sweep_never_holds_more_than_its_budget(model: TinyVLM, runs: list[Run], budget: int) -> None:
    engine = ReplayEngine(model, memory_budget=budget)
    with PeakMemory(CPU) as peak:
        engine.run(runs)
    assert 0 < peak.bytes <= budget


def test_a_sweep_with_many_donors_keeps_to_its_budget_where_a_batch_can_be_smaller(model: TinyVLM) -> None:
    bases, donors = ([model.prompt(image, range(11, 31)) for image in images] for images in (range(6), range(10, 16)))
    runs = [
        Run(base, (AnswerScore(ANSWER),), (SiteEdit(Site(layer, "head_output", 1), Patch()),), donor)
        for base in bases
        for donor in donors
        for layer in range(3)
    ]
    budget = 6 * 2**20
    engine = ReplayEngine(model, memory_budget=budget)
    with PeakMemory(CPU) as peak:
        engine.run(runs)
    assert peak.bytes <= budget


def test_what_a_recording_holds_is_counted_again_when_replay_adds_keys_and_values(model: TinyVLM, runs: list[Run]) -> None:
    engine = ReplayEngine(model)
    engine.run(runs)
    (recording,) = [kept for kept in engine._cache._kept.values() if kept.keys_values]
    for layers in (set(recording.keys_values), set[int]()):
        recording.keys_values = {layer: recording.keys_values[layer] for layer in layers}
        held = [*recording.sites.values(), *recording.between.values(), *(part for pair in recording.keys_values.values() for part in pair)]
        assert recording.bytes == sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in held}.values())
    smaller = recording.bytes
    engine.run(runs)
    assert recording.keys_values
    assert engine._cache.bytes == sum(kept.bytes for kept in engine._cache._kept.values()) > smaller


def test_answers_keep_to_the_budget_too(model: TinyVLM) -> None:
    prompts = [model.prompt(image, range(11, 31)) for image in range(32)]
    wide, narrow = ReplayEngine(model), ReplayEngine(model, memory_budget=2**21)
    expected = [value.logit_diff for value in wide.answers(prompts, [ANSWER] * 32)]
    with PeakMemory(CPU) as peak:
        found = [value.logit_diff for value in narrow.answers(prompts, [ANSWER] * 32)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert peak.bytes <= 2**21


class Generating(TinyVLM):
    """Counts the prompts of every call; its text is the most likely next token."""

    def __init__(self) -> None:
        super().__init__("llava", "sdpa")
        self.batches: list[int] = []

    def generate(self, prompts: Any, max_new_tokens: int = 8) -> list[str]:  # type: ignore[override]
        self.batches.append(len(prompts))
        logits = self.module(**self.collate(prompts), use_cache=False).logits[:, -1]
        return [str(int(row.argmax())) for row in logits]


def test_generating_keeps_to_the_budget_too() -> None:
    model = Generating()
    prompts = [model.prompt(image, range(11, 31)) for image in range(32)]
    expected = ReplayEngine(model).generate(prompts)
    assert max(model.batches) == 32
    model.batches.clear()
    with PeakMemory(CPU) as peak:
        found = ReplayEngine(model, memory_budget=2**21).generate(prompts)
    assert found == expected
    assert max(model.batches) < 32
    assert peak.bytes <= 2**21


def test_models_that_run_by_full_passes_keep_to_the_budget_too(model: TinyVLM, runs: list[Run]) -> None:
    engine = FullPassEngine(model, memory_budget=2**21)
    with PeakMemory(CPU) as peak:
        found = [result.answer.logit_diff for result in engine.run(runs)]
    assert found == pytest.approx(values(model, runs), abs=1e-4)
    assert peak.bytes <= 2**21


def test_a_backward_pass_beyond_the_budget_is_refused_in_one_line(model: TinyVLM, runs: list[Run]) -> None:
    wide = estimate(ReplayEngine(model), runs)
    narrow = estimate(ReplayEngine(model, memory_budget=2**23), runs)
    assert [one.change for one in narrow] == [one.change for one in wide]
    with pytest.raises(MemoryBudgetError, match="raise --memory-budget, or scan with --method exact"):
        estimate(ReplayEngine(model, memory_budget=2**18), runs)


def test_integrated_steps_take_one_row_at_a_time_where_four_do_not_fit(model: TinyVLM, runs: list[Run]) -> None:
    patched = runs[-3:]
    wide = [one.change for one in estimate(ReplayEngine(model), patched, integrated_steps=4)]
    needed = next(size for size in (2**power for power in range(18, 28)) if _fits(model, patched, size))
    found = [one.change for one in estimate(ReplayEngine(model, memory_budget=needed), patched, integrated_steps=4)]
    assert found == pytest.approx(wide, abs=1e-5)


def _fits(model: TinyVLM, runs: list[Run], budget: int) -> bool:
    try:
        estimate(ReplayEngine(model, memory_budget=budget), runs)
    except MemoryBudgetError:
        return False
    return True


def test_few_runs_are_made_once_although_they_are_tried_first(model: TinyVLM, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = ReplayEngine._replay

    def counted(self: ReplayEngine, plans: Any) -> Any:
        made.extend(plan.index for plan in plans)
        return original(self, plans)

    monkeypatch.setattr(ReplayEngine, "_replay", counted)
    few = runs[:11]
    assert values(model, few) == pytest.approx(values(model, runs)[:11], abs=1e-5)
    assert sorted(made[:11]) == list(range(11)), "each once"


def test_a_budget_too_small_for_one_run_says_so(model: TinyVLM, runs: list[Run]) -> None:
    with pytest.raises(MemoryBudgetError, match="raise --memory-budget"):
        ReplayEngine(model, memory_budget=2**14).run(runs)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_running_out_of_memory_halves_the_batch_and_goes_on(
    model: TinyVLM, runs: list[Run], monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    expected = values(model, runs)
    sizes: list[int] = []
    original = ReplayEngine._replay

    def limited(self: ReplayEngine, plans: Any) -> Any:
        sizes.append(len(plans))
        if len(plans) > 3:
            raise error
        return original(self, plans)

    monkeypatch.setattr(ReplayEngine, "_replay", limited)
    assert values(model, runs) == pytest.approx(expected, abs=1e-5)
    assert max(sizes) > 3
    assert sizes[-1] <= 3


def test_a_single_run_that_does_not_fit_is_one_clear_line(model: TinyVLM, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: ReplayEngine, plans: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ReplayEngine, "_replay", never)
    with pytest.raises(MemoryBudgetError, match="memory ran out on a single run"):
        values(model, runs)


def test_another_error_is_not_taken_for_a_lack_of_memory(model: TinyVLM, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: ReplayEngine, plans: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(ReplayEngine, "_replay", broken)
    with pytest.raises(RuntimeError, match="something else"):
        values(model, runs)


def test_a_single_run_and_a_few_say_what_a_batch_takes() -> None:
    sizer = BatchSizer(1_000_000, CPU, most_tokens=100_000)
    assert not sizer.knows("kind")
    # 80,000 bytes whatever the size, and 400 for each position.
    sizer.try_out("kind", [(10, lambda: torch.zeros(21_000)), (80, lambda: torch.zeros(28_000))])
    assert sizer.knows("kind")
    assert sizer.tokens("kind") == 1024, "the power of two below (800,000 - 80,000) / 400"
    sizer.measured("kind", 1000, lambda: torch.zeros(170_000))
    assert sizer.tokens("kind") == 1024, "600 for each position are more than expected, but fit"
    sizer.measured("kind", 1024, lambda: torch.zeros(250_000))
    assert sizer.tokens("kind") == 512
    sizer.halve("kind", 100)
    assert sizer.tokens("kind") == 50


def test_weights_are_no_part_of_what_a_batch_takes_and_keep_nothing_of_a_measurement() -> None:
    layer, given = torch.nn.Linear(1000, 1000, bias=False).requires_grad_(False), torch.randn(10, 1000)
    with PeakMemory(CPU) as peak:
        made = layer(given)
        added = made + 1
        del made
        added.mul_(2)
        halves = added.split(5)
    assert peak.bytes == 2 * 10 * 1000 * 4, "two results at one time; what is a view, or changed in place, takes nothing"
    del halves
    seen = weakref.ref(peak)
    del peak
    gc.collect()
    assert seen() is None


def test_only_what_comes_near_the_budget_is_measured() -> None:
    sizer = BatchSizer(16_000_000, CPU, most_tokens=100_000)
    sizer.try_out("kind", [(10, lambda: torch.zeros(1_000)), (80, lambda: torch.zeros(8_000))])

    def watched() -> bool:
        return isinstance(_get_current_dispatch_mode(), PeakMemory)

    assert not sizer.measured("kind", 9_000, watched), "3.6 of 16 million bytes are expected"
    assert sizer.measured("kind", 11_000, watched), "4.4 of 16 million are not far within it"
    assert not sizer.measured("kind", 11_000, watched), "as large a batch was seen"


def test_how_batches_are_made_does_not_depend_on_what_ran_before(model: TinyVLM, runs: list[Run]) -> None:
    fresh, used = ReplayEngine(model), ReplayEngine(model)
    used.run(runs[3:9])
    used.run(runs[-1:])
    assert [result.answer for result in fresh.run(runs)] == [result.answer for result in used.run(runs)], "to the last digit"


@pytest.mark.parametrize(("text", "size"), [("2GB", 2**31), ("512 MiB", 2**29), ("1.5g", 3 * 2**29), ("100", 100), ("7k", 7168)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-2GB", "two", "0", "1XB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_bytes(text)


def test_sizes_are_written_with_a_unit() -> None:
    assert readable_bytes(3 * 2**29) == "1.5 GB"
    assert readable_bytes(2**29) == "512 MB"
