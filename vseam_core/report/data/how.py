"""How a study was measured: models with hashes and trust records, runs, versions, and the commands that make it again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from vseam_core.analysis.frames import frame_records
from vseam_core.results.stored_study import StoredStudy
from vseam_core.store.store import Store

_MODEL_FACTS = ("family", "source", "weights_hash", "processor_hash", "dtype", "attention", "layers", "heads", "head_dim", "device")


def how_measured(store: Store, chosen: StoredStudy) -> dict[str, Any]:
    """The last section of a page."""
    runs = frame_records(chosen.runs)
    random = sum("@random-" in run["model"] for run in runs)
    facts: list[list[str]] = [["study", chosen.name], ["database", store.label]]
    if runs:
        versions = runs[-1]["versions"] or {}
        finished = [run["finished"] for run in runs if run["finished"]]
        facts += [
            ["seed", _distinct(run["seed"] for run in runs)],
            ["first run started", min(run["started"] for run in runs)],
            ["last run finished", re.sub(r"\.\d+", "", max(finished)) if finished else "not finished"],
            ["runs", f"{len(runs)}" + (f", {random} of them of randomly initialised models" if random else "")],
            ["versions", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))],
        ]
    sizes = chosen.configuration.get("sizes")
    if isinstance(sizes, Mapping):
        facts.append(["sizes", ", ".join(f"{name} {value}" for name, value in sizes.items())])
    return {
        "facts": facts,
        "models": [_model(run) for run in {run["model"]: run for run in runs if "@random-" not in run["model"]}.values()],
        "runs": [_run(run) for run in runs if "@random-" not in run["model"]],
        "commands": _commands(store, chosen),
        "configuration": dict(chosen.configuration),
    }


def _distinct(values: Any) -> str:
    return ", ".join(map(str, dict.fromkeys(values)))


def _model(run: Mapping[str, Any]) -> dict[str, Any]:
    trust = run["trust"] or {}
    lines = [[name.replace("_", " "), value] for name, value in trust.items() if isinstance(value, str | int | float | bool | None)]
    able = [[part["name"], "yes" if part["holds"] else part["reason"]] for part in trust.get("capabilities", [])]
    return {"name": run["model"], "facts": [[name.replace("_", " "), run[name]] for name in _MODEL_FACTS], "trust": lines, "able": able}


def _run(run: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "method", "model", "dataset", "pool", "split", "units_done", "units_skipped", "started", "finished")
    return {name: run[name] for name in names}


def _commands(store: Store, chosen: StoredStudy) -> list[str]:
    database = shlex.quote(store.label)
    if chosen.study is None:
        return [f"vseam report {' '.join(map(str, sorted(chosen.run_ids)))} --db {database}"]
    again = f"vseam report {shlex.quote(chosen.name)} --db {database}"
    return [f"vseam run STUDY.yaml --db {database}   # the study file is below" if chosen.name != "default" else "vseam run", again]
