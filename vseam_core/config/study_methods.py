"""What a study file says about stages that are off unless they are listed: comparisons, directions and screened paths.

stages: [compare, directions, screen_paths]
compare: {methods: [vcd, {name: pai, options: {alpha: 0.5}}], split: hard}
directions: {site: mlp_output}
screen_paths: {positions: image, top: 40}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from vseam_core.config.sections import Count, Name, Positive, Section, named

NONE, RESCALE, ABLATE = "none", "rescale", "ablate"
"""What a comparison calls the model as it is, a stored rescaling (`rescale:NAME`) and ablated heads (`ablate:L5H3+L4H1`)."""


class ComparedMethod(Section):
    """A way to generate answers as a comparison names it; options that are left open are chosen."""

    name: Name
    options: dict[str, Any] = Field(default_factory=dict)


class Comparing(Section):
    """Ways to generate answers beside one another, as `vseam compare` measures them.

    Settings are chosen on `sizes.choose` samples of the choose pool and reported on `sizes.test` of the test pool. `split` None is the
    dataset's first one; `timed` test samples are answered once more to measure what an answer costs.
    """

    methods: list[Annotated[ComparedMethod, BeforeValidator(named)]] = Field(
        default=[ComparedMethod(name="vcd"), ComparedMethod(name="pai")], min_length=1
    )
    split: Name | None = None
    timed: Count = 8
    max_new_tokens: Positive = 16


class Directions(Section):
    """Directions between yes and no in every layer, on `sizes.pairs` pairs of the choose pool and as many of the test pool."""

    site: Literal["residual_after", "attention_output", "mlp_output"] = "residual_after"


class PathScreening(Section):
    """All direct paths estimated from gradients, the best and some random ones run exactly, on `sizes.pairs` pairs of the traced pool."""

    positions: Literal["all", "image", "question", "last"] = "all"
    direction: Literal["denoising", "noising"] = "noising"
    top: Positive | None = None
    integrated_steps: Count = 5


def registered_name(name: str) -> str:
    """The name that a way to answer is registered by: `mitigv:opera` is `mitigv/opera`."""
    return name.replace(":", "/")


def is_registered(name: str) -> bool:
    """Whether a comparison looks a name up among the registered ways to answer."""
    return name.partition(":")[0] not in (NONE, RESCALE, ABLATE)
