"""What a report shows of a tracer's effects, as the tracer's stored presentation says: which rows, in which unit, in which view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from vseam_core.analysis.traces import NAT_MEASURES, beside_own
from vseam_core.api.presentation import Presentation
from vseam_core.report.tasks import Task, in_order, model_rows, only, present, task_rows
from vseam_core.report.words import ROLE_WORDS, SITE_WORDS

if TYPE_CHECKING:
    import pandas as pd

DIRECTIONS = ("denoising", "noising", "clean", "corrupt")
PATCHED = ("denoising", "noising")
MEASURE_WORDS = {"logit_diff": "logit difference", "logprob": "log-probability", "logit": "logit", "prob_sum": "probability"}
UNITS = {"logit_diff": "nats", "logprob": "nats", "prob_sum": "probability"}


@dataclass(frozen=True, eq=False)
class Traced:
    """The rows of one tracer and model that are shown: of one stack and one measure, in all directions and subsets.

    `view` is the presentation's, made definite. Patching in nats is shown as shares of the gap (`normalised`, in percent), everything
    else as it was measured (`mean`, in `unit`).
    """

    tracer: str
    model: str
    presentation: Presentation
    rows: pd.DataFrame
    measure: str

    @cached_property
    def view(self) -> Literal["map", "curve", "readout"]:
        """Map, curve or readout; where the tracer leaves it open, its columns decide."""
        view = self.presentation.view
        if view == "by columns":
            return "map" if "role" in present(self.rows, "column_kind") else "curve"
        return view

    @cached_property
    def directions(self) -> list[str]:
        """The directions that were traced, the one that is shown first in front."""
        return in_order(present(self.rows, "direction"), DIRECTIONS)

    @cached_property
    def sites(self) -> list[str]:
        """The site kinds in the order in which they are shown."""
        return in_order(present(self.rows, "site_kind"), dict.fromkeys((*SITE_WORDS, *self.presentation.sites)))

    @property
    def in_shares(self) -> bool:
        """Whether values are shares of the gap between the two images."""
        return self.measure in NAT_MEASURES and self.directions[0] in PATCHED and self.view != "readout"

    @property
    def quantity(self) -> tuple[str, str, str]:
        """The columns of the value and of both ends of its interval."""
        return ("normalised", "normalised_low", "normalised_high") if self.in_shares else ("mean", "low", "high")

    @property
    def factor(self) -> float:
        """What a value is multiplied by to be in `unit`."""
        return 100.0 if self.in_shares else 1.0

    @property
    def unit(self) -> str:
        """The unit of shown values."""
        return "%" if self.in_shares else self.base_unit

    @property
    def base_unit(self) -> str:
        """The unit of `mean`."""
        return UNITS.get(self.measure, self.measure)

    @property
    def measure_words(self) -> str:
        """The measure as readers see it."""
        return MEASURE_WORDS.get(self.measure, self.measure)

    @property
    def stack(self) -> str:
        """The stack that is shown."""
        return str(self.rows["stack"].iloc[0])

    @property
    def title(self) -> str:
        """What one value is."""
        return self.presentation.title or f"what {self.tracer} finds"

    def of_task(self, task: Task) -> pd.DataFrame:
        """The rows of one task."""
        return task_rows(self.rows, self.model, task)

    def tasks(self, tasks: Iterable[Task]) -> list[Task]:
        """Those of the tasks that were traced."""
        return [task for task in tasks if len(self.of_task(task))]

    def site_words(self, site: str) -> str:
        """A site kind as readers see it."""
        return self.presentation.sites.get(site) or SITE_WORDS.get(site, site.replace("_", " "))

    def column_words(self, label: str) -> str:
        """A column as readers see it."""
        # Groups of positions may be called as roles are, and mean something else.
        known = ROLE_WORDS if "role" in present(self.rows, "column_kind") else {}
        return self.presentation.columns.get(label) or known.get(label, label)

    def columns(self) -> list[str]:
        """The columns that are drawn: those the presentation names, else all; never the check of all positions at once."""
        found = [label for label in present(self.rows, "column_label") if label != self.presentation.everything]
        named = [label for label in self.presentation.columns if label in found]
        return named or in_order(found, ROLE_WORDS)

    def everything_restored(self) -> tuple[float, float] | None:
        """The smallest and largest share restored by patching all positions at once, which must be 1; None where not traced."""
        if not self.presentation.everything or not self.in_shares:
            return None
        rows = only(self.rows, direction=self.directions[0], subset="all", column_label=self.presentation.everything)
        shares = [] if rows.empty else rows["normalised"].dropna().tolist()
        return (min(shares), max(shares)) if shares else None

    def bands(self, bands: pd.DataFrame) -> pd.DataFrame:
        """The random models' range here, with the model's own value on the same pairs: `beside_own`, empty without any."""
        keys = {"tracer": self.tracer, "stack": self.stack, "measure": self.measure}
        near = only(model_rows(bands, self.model), **keys)
        return near if near.empty else beside_own(near, self.rows)


def traced(traces: pd.DataFrame, presentations: Mapping[str, Presentation], model: str) -> list[Traced]:
    """What every tracer found about a model, in the order in which a study traced."""
    rows = model_rows(traces, model)
    found = (_traced(rows, presentations, model, tracer) for tracer in present(rows, "tracer"))
    return [each for each in found if each is not None]


def _traced(rows: pd.DataFrame, presentations: Mapping[str, Presentation], model: str, tracer: str) -> Traced | None:
    """The decoder's rows where there are any; of the measure that shares are of, else the one that most sites have."""
    rows = only(rows, tracer=tracer)
    rows = only(rows, stack=in_order(present(rows, "stack"), ("decoder",))[0])
    rows = rows[rows["n"] > 0]
    if rows.empty:
        return None
    measure = in_order(present(rows, "measure"), (*NAT_MEASURES, "logit"))[0]
    return Traced(tracer, model, presentations.get(tracer, Presentation()), only(rows, measure=measure), measure)
