"""Results in a notebook: the widget beside the tables, bars for progress, the tables alone where the extra is missing."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

import vseam
from tests.report.test_explained_page import explanation
from vseam import notebook
from vseam_cli import output
from vseam_core.errors import QueryError, VseamError


@pytest.fixture
def found() -> vseam.ExplanationResult:
    return vseam.ExplanationResult(**vars(explanation()))


def test_an_explanation_is_a_widget_with_the_pages_data(found: vseam.ExplanationResult) -> None:
    pytest.importorskip("anywidget", reason="needs anywidget (extra notebook)")
    widget = found.widget()
    assert widget.views == ["explained"]
    assert widget.blocks == found.page.blocks()
    assert widget.blocks["page"]["explained"]["question"] == found.question
    assert list(found.widget("findings", "tables").views) == ["findings", "tables"]
    assert set(found._repr_mimebundle_()) == {notebook.WIDGET_VIEW}


def test_without_the_extra_a_notebook_takes_the_tables_and_a_widget_names_it(
    found: vseam.ExplanationResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    assert found._repr_mimebundle_() == {}
    assert "<table>" in found._repr_html_()
    with pytest.raises(VseamError, match=r"pip install 'vseam\[notebook\]'"):
        found.widget()


def test_a_figure_shows_itself_though_pyplot_does_not_know_it(found: vseam.ExplanationResult) -> None:
    drawn: Any = found.plot()
    assert drawn._repr_png_().startswith(b"\x89PNG")


class Shell:
    """What IPython calls the shell of a notebook."""

    kernel = object()


def test_progress_is_a_bar_in_a_notebook_and_lines_where_no_bar_can_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(shell: Any, spec: object) -> bool:
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
        monkeypatch.setattr(output, "find_spec", lambda name: spec)
        with output.Output().progress() as progress:
            return isinstance(progress, output.BarProgress)

    assert shown(Shell(), object())
    assert not shown(Shell(), None)
    assert not shown(object(), object())
    assert not shown(None, object())


def test_a_query_from_python_gives_a_table_and_writes_nothing(tmp_path: Any) -> None:
    with vseam.open_workspace(tmp_path / "results.db"):
        pass
    assert vseam.query("SELECT 1 + 1 AS two", tmp_path / "results.db")["two"].tolist() == [2]
    with pytest.raises(QueryError):
        vseam.query("DELETE FROM runs", tmp_path / "results.db")
