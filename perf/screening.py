"""How much faster screening is than the exact scan of all heads, and how well the two agree on the same runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from perf.engine import Bench, Row, seconds
from vseam_core.analysis.screening import agreement, choose_heads, default_top
from vseam_core.engine.attribution import estimate
from vseam_core.engine.replay import ReplayEngine


def screening(bench: Bench, reach: float) -> list[Row]:
    """Estimates of all heads, then the best and a random tenth as many exactly, against all heads exactly."""
    runs = bench.heads(None)
    shape = (bench.shape.layers, bench.shape.heads)
    baseline = ReplayEngine(bench.model).run([bench.run_unchanged()])[0].answer.logit_diff
    ReplayEngine(bench.model).run(list(runs.values())[-2:])

    def screened() -> tuple[Any, Any]:
        engine = ReplayEngine(bench.model)
        estimates = np.array([one.change for one in estimate(engine, list(runs.values()))]).reshape(shape)
        choice = choose_heads({"all": estimates}, default_top(estimates.size), 0)
        engine.run([runs[int(layer), int(head)] for layer, head in np.argwhere(choice.verified)])
        return estimates, choice

    exact_time, results = seconds(lambda: ReplayEngine(bench.model).run(list(runs.values())))
    screened_time, (estimates, choice) = seconds(screened)
    exact = np.array([result.answer.logit_diff - baseline for result in results]).reshape(shape)
    found = agreement(estimates, np.where(choice.verified, exact, np.nan), choice)
    whole = float(np.corrcoef(_ranks(estimates), _ranks(exact))[0, 1])
    best = set(np.argsort(-np.abs(exact), axis=None)[: int(choice.verified.sum())].tolist())
    recall = len(best & set(np.flatnonzero(choice.verified).tolist())) / len(best)
    verified = int(choice.verified.sum())
    remark = f"{verified} of {estimates.size} heads run exactly; over all heads: rank correlation {whole:.2f}, recall {recall:.0%}"
    shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items() if isinstance(value, float) and "correlation" in name)
    return [
        Row(
            work="screening with verification",
            against="exact scan, all positions",
            cells=1,
            slow=exact_time,
            ours=screened_time,
            reach=reach,
            limit=None,
            error=None,
            remark=f"{remark}; {shown}",
        )
    ]


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(values.ravel())  # type: ignore[no-any-return]
