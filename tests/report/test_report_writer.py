"""The written report: figures as PNG beside one page that holds every table."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vseam_core.errors import VseamError
from vseam_core.report.data.rows import plain_table
from vseam_core.report.data.study import tables_page_data
from vseam_core.report.figures.drawing import save_figure
from vseam_core.report.figures.planned import planned_figures
from vseam_core.report.folders import file_name
from vseam_core.report.page import report_page
from vseam_core.report.tables.closing import closing_tables
from vseam_core.report.tables.table import ReportTable
from vseam_core.report.writer import add_report, write_report

MODEL = "instructblip-tiny"


class Page(HTMLParser):
    """Tags, sources and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])

    def handle_data(self, data):
        self.cells.append(data)


@pytest.fixture(scope="module")
def written(material, tmp_path_factory) -> list[Path]:
    traces = material.traces.query("dataset == 'scenes/animal'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vseam_core.report.figures.drawing.PRINT_DOTS_PER_INCH", 60)
        return write_report(dataclasses.replace(material, traces=traces), tmp_path_factory.mktemp("reports") / "made up" / "deep")


def test_every_figure_is_a_png_and_an_svg_with_something_on_it_and_the_page_comes_last(written):
    names = [path.name for path in written]
    kinds = ["tokenwise", "knockout", "lens", "groups", "regions", "heads", "published-scores", "ablation", "shared-heads", "rescaling"]
    assert all(any(name.startswith(kind) for name in names) for kind in kinds)
    assert names[-1] == "index.html"
    for path in written[:-1:2]:
        with Image.open(path) as image:
            assert image.format == "PNG"
            low, high = image.convert("L").getextrema()
            assert image.width > 200
            assert high - low > 100
        assert "<svg" in path.with_suffix(".svg").read_text(encoding="utf-8")
    assert [path.name for path in written[1:-1:2]] == [path.with_suffix(".svg").name for path in written[:-1:2]]


def test_figures_are_fine_enough_for_print(tmp_path):
    written = save_figure(Figure(figsize=(1, 1)), tmp_path / "one")
    with Image.open(written[0]) as image:
        assert image.size == (200, 200)
    before = written[1].read_bytes()
    assert save_figure(Figure(figsize=(1, 1)), tmp_path / "one")[1].read_bytes() == before


def test_single_categories_have_token_maps_only_where_they_are_asked_for(material):
    usual, every = ({name for name, _ in planned_figures(material, flag)} for flag in (False, True))
    assert every - usual == {f"{tracer}_{MODEL}_scenes-{name}" for tracer in ("tokenwise",) for name in ("animal", "indoor", "color")}


def test_the_page_is_one_file_that_asks_for_nothing_and_holds_every_table(written, material):
    text = written[-1].read_text(encoding="utf-8")
    page = Page(text)
    assert page.sources == []
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"(?:src|href)=[\"'](?!#)", text)
    content = json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.DOTALL).group(1))
    assert [table["title"] for table in content["tables"]] == [table.title for table in closing_tables(material)]
    assert "Random models: 5 per shape." in content["notes"]
    assert any("L2H5" in finding["text"] for finding in content["findings"])


def test_nothing_that_people_wrote_ends_an_element_of_the_page(material):
    rogue = "</script><script>alert(1)</script><!-- <img src=x onerror=alert(2)>"
    page = tables_page_data(dataclasses.replace(material, name=rogue, notes=[rogue]), [ReportTable(rogue, (rogue,), ((rogue,), (None,)))])
    text = report_page(page)
    assert rogue not in text
    assert Page(text).tags.count("script") == 3
    assert "img" not in Page(text).tags


def test_unknown_numbers_are_null_in_the_page_and_never_nan():
    table = plain_table(ReportTable("t", ("a",), ((None,), (float("nan"),), (0.123456,))))
    assert table["rows"] == [[None], [None], [0.123456]]


def test_figure_names_are_safe_and_unique():
    assert file_name("tokens", "../../etc", "scenes/color") == "tokens_etc_scenes-color"
    assert file_name("x", "///") == "x_unnamed"


def test_a_dataset_scanned_twice_by_one_operation_has_two_maps(material):
    again = dataclasses.replace(material, heads=[*material.heads, material.heads[0]])
    names = [name for name, _ in planned_figures(again)]
    assert f"heads_{MODEL}_resample" in names
    assert f"heads_{MODEL}_resample_2" in names
    assert len(set(names)) == len(names)


def test_a_study_of_some_stages_writes_those_figures_alone(material, tmp_path):
    empty = pd.DataFrame()
    others = ("accuracy", "traces", "bands", "strongest", "modulations", "shared", "skips")
    little = dataclasses.replace(material, heads=[], level_tests=[], **dict.fromkeys(others, empty))
    names = [path.name for path in write_report(little, tmp_path)]
    assert names == [f"ablation_{MODEL}.png", f"ablation_{MODEL}.svg", "index.html"]


def test_a_study_without_any_result_still_has_a_page(material, tmp_path):
    empty = pd.DataFrame()
    names = ("accuracy", "traces", "bands", "strongest", "ablations", "modulations", "shared", "skips")
    nothing = dataclasses.replace(material, heads=[], level_tests=[], **dict.fromkeys(names, empty))
    assert [path.name for path in write_report(nothing, tmp_path)] == ["index.html"]


def test_a_folder_that_cannot_be_made_is_one_clear_line(material, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(VseamError, match="report: cannot write") as caught:
        write_report(material, tmp_path / "taken")
    assert "\n" not in str(caught.value)


def test_each_report_has_a_folder_of_its_own_and_the_index_lists_them_all(material, tmp_path):
    little = dataclasses.replace(material, name="a <b>", traces=pd.DataFrame(), heads=[], modulations=pd.DataFrame(), shared=pd.DataFrame())
    first = add_report(little, tmp_path)
    before = first[0].read_bytes()
    (tmp_path / "a-b-7").mkdir()
    (tmp_path / "a-b-x").mkdir()
    second = add_report(little, tmp_path)
    assert [written[-1].relative_to(tmp_path).as_posix() for written in (first, second)] == ["a-b-1/index.html", "a-b-8/index.html"]
    assert first[0].read_bytes() == before == second[0].read_bytes()
    index = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert {"a-b-8/index.html", "a-b-1/index.html"} <= set(re.findall(r'href="([^"]+)"', index))
    assert "a &lt;b&gt;" in index
    assert "<b>" not in index
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a-b-1", "a-b-7", "a-b-8", "a-b-x", "index.html"]


def test_a_report_that_cannot_be_finished_leaves_no_folder(material, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vseam_core.report.writer.save_figure", full)
    with pytest.raises(VseamError, match="No space left on device"):
        add_report(material, tmp_path)
    assert list(tmp_path.iterdir()) == []
