"""The results database from Python: one read-only SELECT, as `vseam query` asks it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def query(sql: str, database: str | Path = "results.db", *, limit: int = 100_000, seconds: float = 30.0) -> pd.DataFrame:
    """Ask a results database with one SELECT; at most `limit` rows, within `seconds`.

        vseam.query("SELECT layer, head, support FROM head_scores ORDER BY support DESC", "results.db")

    The database is opened read-only. Raises `QueryError` with one line for what cannot be asked.
    """
    import pandas as pd

    from vseam_core.store.query import run_query

    columns, rows, _ = run_query(str(database), sql, limit, seconds)
    return pd.DataFrame(rows, columns=columns)
