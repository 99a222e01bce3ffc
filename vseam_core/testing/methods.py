"""The suites for tracers and head interventions: what they plan is run on a tiny model, by both engines."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from vseam_core.errors import UnsupportedError
from vseam_core.interfaces import HeadContext, HeadIntervention, Needs, TraceContext, Tracer
from vseam_core.interventions import AnswerScore, Run, RunResult, SiteEdit
from vseam_core.testing.pictures import SIZE, pair, sample
from vseam_core.testing.promises import promise, promise_plain
from vseam_core.types import HeadId, TraceEffect

_TOLERANCE = 1e-3


class TracerConformance:
    """Inherit, name it Test…, and let `make` return the tracer."""

    @abstractmethod
    def make(self) -> Tracer:
        """The tracer under test."""

    def _context(self) -> TraceContext:
        from vseam_core.engine.decoder import find_decoder
        from vseam_core.testing.tiny import TinyModel

        model = TinyModel()
        edited = pair()
        clean, corrupt = (model.encode(one.image.load(), one.question, one.roles) for one in (edited.clean, edited.corrupt))
        answer = model.answer_ids(clean, edited.clean.answer, edited.corrupt.answer)
        self._model = model
        return TraceContext(edited, clean, corrupt, answer, find_decoder(model.module).shape, SIZE)

    def _traced(self, reference: bool = False) -> tuple[TraceContext, list[TraceEffect]]:
        from vseam_core.engine.reference import ReferenceEngine
        from vseam_core.engine.replay import ReplayEngine

        context, tracer = self._context(), self.make()
        runs = list(tracer.plan(context))
        results: list[RunResult] = (ReferenceEngine(self._model) if reference else ReplayEngine(self._model)).run(runs)
        return context, tracer.effects(context, results)

    def test_it_plans_runs(self) -> None:
        context, tracer = self._context(), self.make()
        runs = list(tracer.plan(context))
        promise(isinstance(tracer, Tracer) and tracer.name, "make returns a Tracer with a name")
        promise(runs and all(isinstance(run, Run) and run.readouts for run in runs), "it plans runs, each with something to read")
        known = {context.clean.key, context.corrupt.key}
        promise(
            all(run.base.key in known and (run.donor is None or run.donor.key in known) for run in runs), "runs are on the pair's prompts"
        )
        promise(len(runs) == len(list(self.make().plan(context))), "the plan is the same each time")

    def test_effects_are_layers_by_columns(self) -> None:
        context, effects = self._traced()
        promise(effects, "there are effects")
        for effect in effects:
            promise(effect.values.shape == (len(effect.layers), len(effect.columns)), "values are layers × columns")
            promise(len(effect.roles) == len(effect.columns), "every column has a role")
            promise(np.isfinite(effect.values).all() and np.isfinite([effect.clean, effect.corrupt]).all(), "effects are finite")
            promise(all(layer < context.shape.layers for layer in effect.layers), "layers are the model's")

    def test_effects_do_not_depend_on_the_engine(self) -> None:
        (_, fast), (_, slow) = self._traced(), self._traced(reference=True)
        promise(len(fast) == len(slow), "both engines give as many effects")
        for one, other in zip(fast, slow, strict=True):
            difference = float(np.abs(one.values - other.values).max())
            promise(difference <= _TOLERANCE, f"replay gives what full forward passes give (differs by {difference:.2g})")

    def test_its_options_are_plain(self) -> None:
        promise_plain(self.make().options(), "a tracer's options")


class HeadInterventionConformance:
    """Inherit, name it Test…, and let `make` return the head intervention. `heads` are those it is tried on."""

    heads: Sequence[HeadId] = (HeadId(0, 1), HeadId(2, 3))

    @abstractmethod
    def make(self) -> HeadIntervention:
        """The head intervention under test."""

    def _runs(self) -> tuple[Any, list[Run]]:
        from vseam_core.engine.decoder import find_decoder
        from vseam_core.testing.tiny import TinyModel

        model, method = TinyModel(), self.make()
        shape = find_decoder(model.module).shape
        needs: Needs = method.needs()

        def prompt(seed: int) -> Any:
            one = sample(seed)
            return model.encode(one.image.load(), one.question, one.roles)

        base = prompt(0)
        means = {layer: np.full((len(base), shape.heads, shape.head_dim), 0.1, np.float32) for layer in range(shape.layers)}
        context = HeadContext(
            base,
            shape,
            donors=tuple(prompt(seed) for seed in range(1, needs.donors + 1)),
            means=means if needs.means else None,
            other=prompt(99) if needs.pair else None,
        )
        variants = list(method.interventions(self.heads, context))
        promise(variants, "there is at least one variant")
        promise(not needs.donors or len(variants) <= needs.donors, "there are no more variants than donors")
        answer = model.answer_ids(base, "Yes", "No")
        return model, [Run(base, (AnswerScore(answer),), variant.edits, variant.donor) for variant in variants]

    def test_it_edits_the_heads_and_no_others(self) -> None:
        _, runs = self._runs()
        for run in runs:
            sites = [edit.site for edit in run.interventions if isinstance(edit, SiteEdit)]
            edited = {HeadId(site.layer, site.head, site.stack) for site in sites if site.head is not None}
            promise(edited == set(self.heads), "every variant edits all the heads and no others")

    def test_effects_are_finite_and_do_not_depend_on_the_engine(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine
        from vseam_core.engine.replay import ReplayEngine

        model, runs = self._runs()
        fast, slow = (np.array([one.answer.logit_diff for one in engine(model).run(runs)]) for engine in (ReplayEngine, ReferenceEngine))
        promise(np.isfinite(fast).all(), "answers are finite")
        difference = float(np.abs(fast - slow).max())
        promise(difference <= _TOLERANCE, f"replay gives what full forward passes give (differs by {difference:.2g})")

    def test_it_is_the_same_each_time(self) -> None:
        _, first = self._runs()
        _, second = self._runs()
        promise(len(first) == len(second), "the same variants each time")

    def test_weights_that_carry_it_compute_what_its_edits_compute(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine

        model, runs = self._runs()
        plain = Run(runs[0].base, runs[0].readouts)
        before = ReferenceEngine(model).run([plain])[0].answer.logit_diff
        try:
            with self.make().folded(model):
                folded = ReferenceEngine(model).run([plain])[0].answer.logit_diff
        except UnsupportedError:
            return
        edited = ReferenceEngine(model).run(runs)[0].answer.logit_diff
        promise(abs(folded - edited) <= _TOLERANCE, f"folded weights compute what the edits compute (differ by {abs(folded - edited):.2g})")
        after = ReferenceEngine(model).run([plain])[0].answer.logit_diff
        promise(before == after, "the weights are back as they were")

    def test_its_options_are_plain(self) -> None:
        promise_plain(self.make().options(), "a head intervention's options")
