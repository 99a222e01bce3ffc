"""What a stored study leaves for its report, read back from the database alone: no model, no plugin and no dataset is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vseam_core.analysis.frames import frame_records
from vseam_core.analysis.heads import HeadScores
from vseam_core.analysis.shared import LevelTest
from vseam_core.api.presentation import Presentation, Replacement, presentation_of, replacement_of
from vseam_core.errors import UnknownNameError, did_you_mean
from vseam_core.results.study_results import EDGES, HeadMap, StudyMaterial
from vseam_core.runs.identity import canonical_json

if TYPE_CHECKING:
    import pandas as pd

    from vseam_core.store.store import Store

_METHODS = ("reading_tests", "comparisons", "direction_scores", "path_screenings", "screened_paths")


@dataclass(frozen=True, eq=False)
class StoredStudy:
    """Which part of a database a report is about: the runs, and the study that they belong to (None: runs by number)."""

    name: str
    study: int | None
    configuration: Mapping[str, Any]
    runs: pd.DataFrame
    models: tuple[str, ...]
    datasets: tuple[str, ...]

    @property
    def run_ids(self) -> list[int]:
        """The numbers of its runs, those of random models among them."""
        return [int(number) for number in self.runs["id"]]


def find_study(store: Store, names: Sequence[str]) -> StoredStudy:
    """The study of that name or number (`names` empty: the latest), or the runs with these numbers.

    Of several studies of one name the latest. Raises `UnknownNameError`.
    """
    studies = store.studies()
    if names and all(name.isdecimal() for name in names):
        return _of_runs(store, [int(name) for name in names])
    if len(names) > 1:
        raise UnknownNameError(f"expected one study or numbers of runs, got {', '.join(names)}")
    found = studies[studies["name"] == names[0]] if names else studies
    if found.empty:
        known = list(dict.fromkeys(studies["name"]))
        said = did_you_mean(names[0], known) if names else "it holds no study; runs are named by number, such as `vseam report 1`"
        raise UnknownNameError(f"no study {names[0]!r} in {store.label}: {said}" if names else f"{store.label}: {said}")
    return study_of(store, int(found["id"].iloc[-1]))


def study_of(store: Store, number: int) -> StoredStudy:
    """The study with this number."""
    row = next(row for row in frame_records(store.studies()) if row["id"] == number)
    runs = store.runs(study=number)
    given = row["configuration"]
    models = tuple(given.get("models") or dict.fromkeys(_plain_models(runs)))
    datasets = tuple(given.get("datasets") or dict.fromkeys(runs["dataset"]))
    return StoredStudy(row["name"], number, given, _in_order(runs, models, datasets, given.get("heads", ())), models, datasets)


def _of_runs(store: Store, numbers: Sequence[int]) -> StoredStudy:
    runs = store.runs()
    missing = [number for number in numbers if number not in set(runs["id"])]
    if missing:
        known = f"it has {len(runs)}, the latest is {runs['id'].max()}" if len(runs) else "it has none"
        raise UnknownNameError(f"no run {missing[0]} in {store.label}: {known}")
    runs = runs[runs["id"].isin(numbers)]
    models, datasets = tuple(dict.fromkeys(_plain_models(runs))), tuple(dict.fromkeys(runs["dataset"]))
    name = f"run{'' if len(numbers) == 1 else 's'} {' '.join(map(str, numbers))}"
    return StoredStudy(name, None, {}, _in_order(runs, models, datasets), models, datasets)


def _in_order(runs: pd.DataFrame, models: Sequence[str], datasets: Sequence[str], scans: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """Runs by model, dataset and what they do, head scans as the study lists them. Their numbers say nothing: several workers open runs."""
    place = {name: index for index, name in enumerate((*models, *datasets))}
    turn = {(scan.get("operation"), scan.get("positions")): index for index, scan in reversed(list(enumerate(scans)))}

    def order(row: Mapping[str, Any]) -> tuple[Any, ...]:
        model, _, seed = row["model"].partition("@random-")
        names = (place.get(model, len(place)), model, seed, place.get(row["dataset"], len(place)), row["dataset"])
        settings = row["configuration"]
        operation = settings.get("operation")  # a name alone in runs of before
        scanned = turn.get((operation["name"] if isinstance(operation, dict) else operation, settings.get("positions")), len(turn))
        return (*names, row["method"], scanned, row["pool"], row["split"], canonical_json(settings), row["id"])

    rows = frame_records(runs)
    return runs.iloc[sorted(range(len(rows)), key=lambda index: order(rows[index]))].reset_index(drop=True)


def _plain_models(runs: pd.DataFrame) -> list[str]:
    """Models by name, without the randomly initialised ones that stand beside them."""
    return [name for name in runs["model"] if "@random-" not in name]


def read_material(store: Store, chosen: StoredStudy) -> StudyMaterial:
    """The tables of a stored study, as running it would gather them."""
    runs, ids = chosen.runs, chosen.run_ids
    about: dict[str, Any] = {"model": list(chosen.models), "dataset": list(chosen.datasets)}
    traces = store.scores("trace_scores", ids)
    traces = traces[traces["tracer"] != EDGES] if len(traces) else traces
    shown = {row["id"]: row["presentation"] for row in frame_records(runs[["id", "presentation"]])}
    skips, notes = _skips(store, chosen)
    shared = _shared(store, chosen)
    return StudyMaterial(
        name=chosen.name,
        models=chosen.models,
        datasets=chosen.datasets,
        accuracy=_ordered(store.scores("accuracies", **about), chosen),
        traces=_ordered(traces, chosen),
        bands=_ordered(store.scores("random_bands", **about), chosen),
        strongest=_ordered(store.scores("strongest_cells", ids), chosen),
        heads=_head_maps(store, chosen),
        ablations=_ordered(store.ablations(ids), chosen),
        modulations=_ordered(store.modulations(ids), chosen),
        shared=shared,
        level_tests=_level_tests(store, chosen) if len(shared) else [],
        skips=skips,
        notes=notes,
        screenings=_ordered(store.scores("screenings", ids), chosen),
        presentations=_presentations(traces, shown),
        confirmations=_ordered(store.scores("head_confirmations", ids), chosen),
        study=chosen.study,
        evaluations=_evaluations(store, chosen),
        **{name: _ordered(store.scores(name, ids), chosen) for name in _METHODS},
    )


def _evaluations(store: Store, chosen: StoredStudy) -> pd.DataFrame | None:
    """The figures of evaluations among runs by number, and of those that they are held against; a study has tables of its own."""
    if chosen.study is not None:
        return None
    found = store.scores("evaluations", chosen.run_ids)
    against = sorted({int(run) for run in found["compared_with"]} - {0, *chosen.run_ids}) if len(found) else []
    return store.scores("evaluations", [*chosen.run_ids, *against]) if against else found


def _ordered(frame: pd.DataFrame, chosen: StoredStudy) -> pd.DataFrame:
    """Rows in the study's order of models and datasets, those of one run together."""
    if frame.empty:
        return frame
    place = {name: index for index, name in enumerate((*chosen.models, *chosen.datasets))}
    keys = frame["model"].map(place).fillna(len(place)).to_numpy(), frame["dataset"].map(place).fillna(len(place)).to_numpy()
    return frame.iloc[np.lexsort((keys[1], keys[0]))].reset_index(drop=True)


def _presentations(traces: pd.DataFrame, shown: Mapping[int, Any]) -> dict[str, Presentation]:
    pairs = traces[["run_id", "tracer"]].drop_duplicates().itertuples(index=False) if len(traces) else ()
    return {str(tracer): presentation_of(shown.get(int(run))) for run, tracer in reversed(list(pairs))}


def _skips(store: Store, chosen: StoredStudy) -> tuple[pd.DataFrame, list[str]]:
    """Skipped samples, and a remark for each method that a family does not allow, which is no list of broken samples."""
    import pandas as pd

    frame = store.skips(chosen.run_ids)
    refused: dict[tuple[str, str, str], list[str]] = {}
    kept = []
    for row in frame_records(chosen.runs[["id", "method", "model", "dataset", "configuration", "units_done"]]):
        rows = frame[frame["run_id"] == row["id"]]
        reasons = set(rows["reason"])
        if row["method"] == "trace" and not row["units_done"] and len(reasons) == 1:
            tracer = str(row["configuration"]["tracer"]["name"])
            refused.setdefault((row["model"], tracer, reasons.pop()), []).append(row["dataset"])
        else:
            kept.append(rows)
    found = pd.concat(kept) if kept else frame.iloc[:0]
    skips = found.rename(columns={"run_id": "run"})[["run", "identifier", "reason"]].reset_index(drop=True)
    order, notes = chosen.datasets, []
    for model in dict.fromkeys((*chosen.models, *(name for name, _, _ in refused))):
        if model in chosen.models and _is_screened(chosen):
            notes.append(f"{model}: shared heads are not compared, since its heads were screened: scan them with method exact")
        notes += [
            f"{model}, {', '.join(sorted(names, key=order.index))}: {method} tracing is not possible: {reason}"
            for (name, method, reason), names in refused.items()
            if name == model
        ]
    return skips, notes


def _is_screened(chosen: StoredStudy) -> bool:
    """Whether the scan that heads are compared by runs some heads only, so that a study which asks for shared heads has none."""
    scans: list[dict[str, Any]] = list(chosen.configuration.get("heads") or [{}])
    return scans[0].get("method") == "screen" and "shared" in chosen.configuration.get("stages", ())


def _head_maps(store: Store, chosen: StoredStudy) -> list[HeadMap]:
    """One map per scan: by the claims, and by the published formulas where they were computed."""
    scores = store.scores("head_scores", chosen.run_ids)
    found: list[HeadMap] = []
    for run in chosen.run_ids:
        rows = scores[scores["run_id"] == run]
        keys = rows[["operation", "positions", "stack"]].drop_duplicates().itertuples(index=False) if len(rows) else ()
        for operation, positions, stack in keys:
            here = rows[(rows["operation"] == operation) & (rows["positions"] == positions) & (rows["stack"] == stack)]
            parts = {name: _scores(store, run, part) for name, part in here.groupby("measure", sort=False)}
            if "logit_diff" not in parts:
                continue
            first = here.iloc[0]
            replacement = replacement_in(chosen, run, str(operation))
            found.append(
                HeadMap(
                    model=str(first["model"]),
                    dataset=str(first["dataset"]),
                    category=str(first["category"]),
                    level=str(first["level"]),
                    operation=str(operation),
                    claims=parts["logit_diff"],
                    published=parts.get("published_prob"),
                    replacement=replacement,
                )
            )
    place = {name: index for index, name in enumerate((*chosen.models, *chosen.datasets))}
    return sorted(found, key=lambda scan: (place.get(scan.model, len(place)), place.get(scan.dataset, len(place))))


def replacement_in(chosen: StoredStudy, run: int, operation: str) -> Replacement:
    """What a scan's run says stands in place of a head; of an older run, what its study says about the operation."""
    row = frame_records(chosen.runs.loc[chosen.runs["id"] == run, ["presentation"]])
    if row and row[0]["presentation"]:
        return replacement_of(row[0]["presentation"])
    scans = chosen.configuration.get("heads") or ()
    return Replacement(parity=any(scan.get("operation") == operation and scan.get("protocol") == "published" for scan in scans))


def _scores(store: Store, run: int, rows: pd.DataFrame) -> HeadScores:
    """The scores of one map as they were computed, from its rows and the answers that it rests on."""
    scores = scores_of_rows(rows)
    first = frame_records(scores.frame.iloc[:1])[0]
    where = {name: first[name] for name in ("operation", "positions", "stack", "measure")}
    effects = store.head_effects(run, **where)
    correct = effects.samples["correct_strict" if scores.measure != "published_prob" else "correct_published"]
    known = correct.fillna(False).to_numpy(dtype=bool)
    return replace(
        scores,
        base_correct=float(effects.base[known].mean()) if known.any() else None,
        base_wrong=float(effects.base[~known].mean()) if len(known) and not known.all() else None,
    )


def scores_of_rows(rows: pd.DataFrame) -> HeadScores:
    """The scores of one map from its stored rows alone: all but the mean measure without any replacement."""
    frame = rows.sort_values(["layer", "head"], kind="stable").reset_index(drop=True)
    first = measured_row(frame)
    support, wrong = reasons_by_side(frame)
    return HeadScores(
        frame=frame,
        shape=(int(frame["layer"].max()) + 1, int(frame["head"].max()) + 1),
        base_correct=None,
        base_wrong=None,
        resolved_support=_resolved(first["reliability_support"]),
        resolved_wrong=_resolved(first["reliability_wrong"]),
        reason_support=support,
        reason_wrong=wrong,
        **{name: first[name] for name in ("measure", "stack", "n", "n_sampled", "n_correct", "n_wrong")},
        **{name: first[name] for name in ("reliability_support", "reliability_wrong")},
    )


def measured_row(frame: pd.DataFrame) -> dict[str, Any]:
    """The first head that was measured: what all heads have in common (n, reliability, reasons) stands in no other's row.

    A screening runs some heads only, and layers may differ in heads; of a map without any measured head the first row.
    """
    measured = frame[frame["signed"].notna()]
    return frame_records((measured if len(measured) else frame).iloc[:1])[0]


def _resolved(reliability: float | None) -> bool:
    from vseam_core.analysis.head_claims import MINIMUM_RELIABILITY

    return reliability is not None and reliability >= MINIMUM_RELIABILITY


def reasons_by_side(frame: pd.DataFrame) -> tuple[str, str]:
    """What a reader has to know about the map of sampled questions and about that of wrong answers.

    They are stored as one text, the first side's parts before the second's; what is said of both stands there once.
    """
    sides: tuple[list[str], list[str]] = ([], [])
    tested, passes = bool(frame["p_positive"].notna().any()), bool(frame["claim_positive"].fillna(False).any())
    side = 0
    for part in filter(None, str(measured_row(frame)["reason"] or "").split("; ")):
        of_wrong = part.startswith(("wrong answers", "too few wrong"))
        not_of_support = (passes and part.startswith("no head passes")) or (tested and part.startswith("cannot be tested"))
        closed = bool(sides[0]) and sides[0][-1].startswith(("no head passes", "too few answers"))
        side = 1 if side or of_wrong or not_of_support or closed else 0
        sides[side].append(part)
    tried = int(frame["verdict"].isin(("confirmed", "not confirmed")).sum())
    confirmed = int((frame["verdict"] == "confirmed").sum())
    wrong = "; ".join(sides[1])
    if not sides[1] and sides[0] and not passes and bool(frame["p_negative"].notna().any()) and sides[0][-1].startswith("no head passes"):
        wrong = sides[0][-1] if not bool((frame["verdict"] != "none").any()) else ""
    return "; ".join(sides[0]), f"{tried} candidates, none confirmed on test images" if tried and not confirmed else wrong


def _shared(store: Store, chosen: StoredStudy) -> pd.DataFrame:
    import pandas as pd

    names = {"task_a": "first", "task_b": "second", "expected": "expected_overlap", "null_name": "null"}
    about: dict[str, Any] = {"model": list(chosen.models), "task_a": list(chosen.datasets), "task_b": list(chosen.datasets)}
    if chosen.configuration.get("shared_k"):
        about["k"] = chosen.configuration["shared_k"]
    frame = store.scores("shared_head_tests", **about).rename(columns=names)
    if frame.empty or (chosen.configuration and "shared" not in chosen.configuration.get("stages", ())):
        return frame.iloc[:0]
    sizes = {row["model"]: row["layers"] * row["heads"] for row in frame_records(chosen.runs[["model", "layers", "heads"]])}
    frame = frame.assign(heads=frame["model"].map(sizes).astype("Int64"), overlap=frame["overlap"].astype("Float64").astype("Int64"))
    for name, stored in (("ceiling_first", "ceiling_a"), ("ceiling_second", "ceiling_b")):
        frame[name] = frame[stored].astype("Float64") if stored in frame else pd.NA
    order = {name: index for index, name in enumerate(chosen.models)}
    signs = frame["sign"].map({"positive": 0, "negative": 1}).to_numpy()
    return frame.iloc[np.lexsort((signs, frame["model"].map(order).to_numpy()))].reset_index(drop=True)


def _level_tests(store: Store, chosen: StoredStudy) -> list[tuple[str, str, LevelTest]]:
    about: dict[str, Any] = {"model": list(chosen.models)}
    if chosen.configuration.get("shared_k"):
        about["k"] = chosen.configuration["shared_k"]
    found = []
    for row in frame_records(store.scores("level_tests", **about)):
        names = ("within", "across", "difference", "p_value", "groupings", "exact", "tasks", "reason")
        found.append((row["model"], row["sign"], LevelTest(**{name: row[name] for name in names})))
    return sorted(found, key=lambda test: (chosen.models.index(test[0]), test[1] != "positive"))
