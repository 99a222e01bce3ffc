"""The notebook of the docs runs from the embedded model, and its results show themselves as widgets and as tables."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import vseam

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebooks" / "first_look.ipynb"
VIEW = "application/vnd.jupyter.widget-view+json"


def outputs_of(cells: list[Any], words: str) -> list[Any]:
    """The outputs of the one cell whose code ends with these words."""
    (found,) = [cell for cell in cells if cell["cell_type"] == "code" and cell["source"].rstrip().endswith(words)]
    return list(found["outputs"])


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_every_call_of_the_notebook_is_one_that_vseam_takes() -> None:
    """The small form of the test below: no model runs."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ast.parse("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    calls = [node for node in ast.walk(code) if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("vseam.")]
    assert {ast.unparse(call.func) for call in calls} >= {"vseam.explain", "vseam.scan", "vseam.trace", "vseam.query"}
    for call in calls:
        function = getattr(vseam, ast.unparse(call.func).removeprefix("vseam."))
        inspect.signature(function).bind(*call.args, **{str(keyword.arg): keyword.value for keyword in call.keywords})


@pytest.mark.slow  # half a minute: a kernel, an explanation, a scan and a trace
def test_every_cell_of_the_notebook_runs_and_shows_its_result() -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs nbclient (extra dev)")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient (extra dev)")
    pytest.importorskip("anywidget", reason="needs anywidget (extra notebook)")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()
    for name in ("found", "heads", "traces"):
        shown = [output for output in outputs_of(notebook.cells, f"\n{name}") if output["output_type"] == "execute_result"]
        data = shown[-1]["data"]
        assert VIEW in data, f"{name} shows no widget"
        assert "<table>" in data["text/html"]
        state = client.widget_state[data[VIEW]["model_id"]]
        assert state["blocks"]["page"]["schema"] == "vseam.page/1"
    assert any("image/png" in output.get("data", {}) for output in outputs_of(notebook.cells, "heads.plot()"))
    (table,) = [output for output in outputs_of(notebook.cells, "database,\n)") if output["output_type"] == "execute_result"]
    assert "support" in table["data"]["text/html"]
