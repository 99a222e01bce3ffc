"""The row of a run, and the identity by which equal runs are one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vseam_core.errors import StoreError
from vseam_core.runs.identity import canonical_json, unit_key
from vseam_core.runs.spec import RunSpec


def run_identity(spec: RunSpec) -> str:
    """The identity of a run: a hash of everything in it that changes results, or the name they are listed under."""
    row = {name: value for name, value in run_row(spec).items() if name not in ("source", "family")}
    return unit_key(**row)


def run_row(spec: RunSpec) -> dict[str, Any]:
    """The columns of a run that say what it is. Raises `StoreError` for a configuration that has no spelling as JSON."""
    model = spec.model
    return {
        "method": spec.method,
        "method_version": spec.method_version,
        "model": model.name,
        "family": model.family,
        "source": model.source,
        "weights_hash": model.weights_hash,
        "processor_hash": model.processor_hash,
        "dtype": model.dtype,
        "attention": model.attention,
        "layers": model.layers,
        "heads": model.heads,
        "head_dim": model.head_dim,
        "dataset": spec.dataset,
        "level": spec.level,
        "category": spec.category,
        "pool": spec.pool,
        "split": spec.split,
        "configuration": identity_json(spec.configuration, f"the configuration of method {spec.method!r}"),
        "seed": spec.seed,
    }


def identity_json(configuration: Mapping[str, Any], what: str) -> str:
    """A configuration as the one JSON text that identifies it. Raises `StoreError` that names `what` it is of."""
    try:
        return canonical_json(configuration)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{what} cannot be stored: {error}") from None
