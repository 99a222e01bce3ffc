"""The suites for tracers and head interventions: what they plan is run on a tiny model, by both engines."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import numpy as np

from vseam_core.api.interfaces import HeadContext, HeadIntervention, Needs, TraceContext, Tracer
from vseam_core.api.interventions import MEASURES, READINGS, AnswerScore, Run, RunResult, SiteEdit
from vseam_core.api.presentation import Presentation, Replacement, presentation_of, replacement_of
from vseam_core.api.types import Direction, HeadId, TraceEffect
from vseam_core.errors import UnsupportedError, VseamError
from vseam_core.testing.images import SIZE, pair, sample
from vseam_core.testing.promises import promise, promise_identified, promise_plain

_TOLERANCE = 1e-3


class TracerConformance:
    """Inherit, name it Test…, and let `make` return the tracer.

    `not_in_identity` are constructor options that change no result, or that `options()` says by another name.
    """

    not_in_identity: Sequence[str] = ()

    @abstractmethod
    def make(self) -> Tracer:
        """The tracer under test."""

    def other(self) -> Tracer | None:
        """The tracer with options that change its result, or None where it has none."""
        return None

    def _context(self) -> TraceContext:
        from vseam_core.engine.decoder import find_decoder
        from vseam_core.testing.tiny import TinyModel

        model = TinyModel()
        edited = pair()
        clean, corrupt = (model.encode(one.image.load(), one.question, one.roles) for one in (edited.clean, edited.corrupt))
        answer = model.answer_ids(clean, edited.clean.answer, edited.corrupt.answer)
        self._model = model
        return TraceContext(
            pair=edited, clean=clean, corrupt=corrupt, answer=answer, shape=find_decoder(model.module).shape, image_size=SIZE
        )

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
        again = list(self.make().plan(context))
        promise([*map(_described, runs)] == [*map(_described, again)], "the plan is the same each time: results are read in its order")

    def test_effects_are_layers_by_columns(self) -> None:
        context, effects = self._traced()
        promise(effects, "there are effects")
        for effect in effects:
            promise(effect.values.shape == (len(effect.layers), len(effect.columns)), "values are layers × columns")
            promise(effect.values.dtype == np.float32, "values are float32")
            promise(effect.tracer == self.make().name, "effects carry the tracer's name")
            promise(effect.direction in get_args(Direction), f"the direction is among {', '.join(get_args(Direction))}")
            promise(effect.measure in MEASURES + READINGS, f"the measure is among {', '.join(MEASURES + READINGS)}")
            promise(len(effect.roles) == len(effect.columns), "every column has a role")
            promise(np.isfinite(effect.values).all() and np.isfinite([effect.clean, effect.corrupt]).all(), "effects are finite")
            promise(all(layer < context.shape.layers for layer in effect.layers), "layers are the model's")

    def test_no_two_effects_are_stored_under_one_key(self) -> None:
        keys = [(one.stack, one.site_kind, one.direction, one.measure) for one in self._traced()[1]]
        promise(len(set(keys)) == len(keys), "stack, site kind, direction and measure tell effects apart")

    def test_clean_and_corrupt_are_the_unchanged_runs(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine

        context, effects = self._traced()
        runs = [Run(prompt, (AnswerScore(context.answer),)) for prompt in (context.clean, context.corrupt)]
        plain = [result.answer for result in ReferenceEngine(self._model).run(runs)]
        # Readings are no scores of the answer: they have no unchanged value to be held against.
        for effect in (one for one in effects if one.measure in MEASURES):
            for name, found, answer in (("clean", effect.clean, plain[0]), ("corrupt", effect.corrupt, plain[1])):
                difference = abs(found - getattr(answer, effect.measure))
                promise(difference <= _TOLERANCE, f"{name} is the measure without any change (differs by {difference:.2g})")

    def test_prompts_that_do_not_match_are_refused(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine

        context, tracer = self._context(), self.make()
        if all(run.donor is None for run in tracer.plan(context)):
            return  # nothing is copied from one prompt to the other
        longer = replace(context, corrupt=self._model.encode(context.pair.corrupt.image.load(), f"{context.pair.clean.question} Is it?"))
        try:
            tracer.effects(longer, ReferenceEngine(self._model).run(list(tracer.plan(longer))))
        except (VseamError, ValueError):
            return
        raise AssertionError("broken promise: prompts of different length are refused, with the reason")

    def test_effects_do_not_depend_on_the_engine(self) -> None:
        (_, fast), (_, slow) = self._traced(), self._traced(reference=True)
        promise(len(fast) == len(slow), "both engines give as many effects")
        for one, other in zip(fast, slow, strict=True):
            difference = float(np.abs(one.values - other.values).max())
            promise(difference <= _TOLERANCE, f"replay gives what full forward passes give (differs by {difference:.2g})")

    def test_it_says_how_its_effects_are_shown(self) -> None:
        shown = self.make().presentation()
        promise(isinstance(shown, Presentation), "presentation() returns a Presentation")
        promise_plain(shown.record(), "the fields of a presentation")
        promise(presentation_of(json.loads(json.dumps(shown.record()))) == shown, "a presentation is stored and read back as it is")
        labels = {label for effect in self._traced()[1] for label in (*effect.columns, *effect.roles)}
        promise(not shown.columns or labels & set(shown.columns), "the columns that a presentation names are among those of the effects")

    def test_its_options_are_plain(self) -> None:
        options = self.make().options()
        promise_plain(options, "a tracer's options")
        other = self.other()
        promise(other is None or dict(other.options()) != dict(options), "options() holds every option that changes the result")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)


class HeadInterventionConformance:
    """Inherit, name it Test…, and let `make` return the head intervention. `heads` are those it is tried on.

    `not_in_identity` are constructor options that change no result, or that `options()` says by another name.
    """

    not_in_identity: Sequence[str] = ()
    heads: Sequence[HeadId] = (HeadId(0, 1), HeadId(2, 3))

    @abstractmethod
    def make(self) -> HeadIntervention:
        """The head intervention under test."""

    def identity(self) -> HeadIntervention | None:
        """The intervention with options under which it changes nothing, or None where there are none."""
        return None

    def _runs(
        self, method: HeadIntervention | None = None, heads: Sequence[HeadId] = (), positions: tuple[int, ...] | None = None
    ) -> tuple[Any, list[Run]]:
        from vseam_core.engine.decoder import find_decoder
        from vseam_core.testing.tiny import TinyModel

        model, method = TinyModel(), method or self.make()
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
            positions,
            donors=tuple(prompt(seed) for seed in range(1, needs.donors + 1)),
            means=means if needs.means else None,
            other=prompt(99) if needs.pair else None,
        )
        variants = list(method.interventions(heads or self.heads, context))
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

    def test_it_keeps_to_the_positions_of_the_context(self) -> None:
        _, runs = self._runs(positions=(3, 5))
        edits = [edit for run in runs for edit in run.interventions if isinstance(edit, SiteEdit)]
        promise(all(edit.positions == (3, 5) for edit in edits), "heads are replaced at the positions of the context and nowhere else")

    def test_a_head_that_does_not_exist_is_refused(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine

        try:
            model, runs = self._runs(heads=[HeadId(99, 0)])
            ReferenceEngine(model).run(runs)
        except (VseamError, ValueError):
            return
        raise AssertionError("broken promise: a head that the model does not have is refused")

    def test_it_changes_the_answer_unless_it_is_meant_not_to(self) -> None:
        from vseam_core.engine.reference import ReferenceEngine

        model, runs = self._runs()
        engine = ReferenceEngine(model)
        base = engine.run([Run(runs[0].base, runs[0].readouts)])[0].answer.logit_diff
        promise(any(abs(one.answer.logit_diff - base) > 1e-6 for one in engine.run(runs)), "replacing heads changes the answer")
        neutral = self.identity()
        if neutral is not None:
            for one in engine.run(self._runs(neutral)[1]):
                promise(abs(one.answer.logit_diff - base) <= _TOLERANCE, "identity() changes nothing")

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

    def test_it_says_what_stands_in_place_of_a_head(self) -> None:
        said = self.make().replacement()
        promise(isinstance(said, Replacement), "replacement() returns a Replacement")
        promise_plain(said.record(), "the fields of a replacement")
        promise(replacement_of(json.loads(json.dumps(said.record()))) == said, "a replacement is stored and read back as it is")

    def test_its_options_are_plain(self) -> None:
        promise_plain(self.make().options(), "a head intervention's options")

    def test_it_says_what_identifies_its_results(self) -> None:
        promise_identified(self.make(), self.not_in_identity)


def _described(run: Run) -> tuple[object, ...]:
    return run.base.key, run.donor and run.donor.key, repr(run.interventions), repr(run.readouts)
