"""Figures for print: larger letters with as much room as they need, and PDF beside PNG and SVG."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from vseam_core.report.figures.controls import rescaling_gains
from vseam_core.report.figures.drawing import FONT_SIZE, Page, add_legend, lettering, new_page, save_figure, styled, title_of
from vseam_core.report.figures.overlap import overlap_matrices
from vseam_core.report.tasks import Task, study_tasks

MODEL = "instructblip-tiny"


@pytest.fixture
def tasks(material) -> list[Task]:
    return study_tasks(material)


def sizes(figure: Figure) -> dict[str, float]:
    """The size of every text of a figure that says something."""
    figure.canvas.draw()
    return {text.get_text(): text.get_fontsize() for text in figure.findobj(Text) if text.get_text().strip()}


def inches(figure: Figure) -> list[tuple[float, float]]:
    """Width and height of every panel."""
    width, height = figure.get_size_inches()
    return [(axes.get_position().width * width, axes.get_position().height * height) for axes in figure.axes]


@pytest.mark.parametrize("points", [FONT_SIZE, 14.0])
def test_letters_are_as_large_as_asked_for_panels_stay_and_nothing_leaves_the_page(points, material, tasks):
    for draw in (lambda: overlap_matrices(material.shared, tasks, MODEL), lambda: rescaling_gains(material.modulations, tasks[:1], MODEL)):
        usual = draw()
        with lettering(points):
            figure = draw()
        found, before = sizes(figure), sizes(usual)
        shared = [text for text in found if text in before]
        assert len(shared) >= 10
        for text in shared:
            assert found[text] == pytest.approx(before[text] * points / FONT_SIZE), text
        for panel, other in zip(inches(figure), inches(usual), strict=True):
            assert panel == pytest.approx(other, rel=0.35), "the room grows, the panels hardly do"
        width, height = figure.canvas.get_width_height()
        for text in [figure._suptitle, *figure.texts, *figure.legends]:
            box = text.get_window_extent()
            assert 0 <= box.x0 < box.x1 <= width, title_of(figure)
            assert 0 <= box.y0 < box.y1 <= height, title_of(figure)
        assert sizes(draw()) == before, "the context leaves nothing behind"


def test_a_pdf_is_written_where_it_is_wanted_the_same_each_time(tmp_path):
    written = save_figure(Figure(figsize=(1, 1)), tmp_path / "one", pdf=True)
    assert [path.suffix for path in written] == [".png", ".svg", ".pdf"]
    before = written[2].read_bytes()
    assert before.startswith(b"%PDF")
    assert save_figure(Figure(figsize=(1, 1)), tmp_path / "one", pdf=True)[2].read_bytes() == before
    assert [path.suffix for path in save_figure(Figure(figsize=(1, 1)), tmp_path / "two")] == [".png", ".svg"]


@styled
def page_of(title: str) -> Figure:
    figure, _ = new_page(1, 1, Page(2.0, 1.5, legend_lines=1), title, "A caption.")
    add_legend(figure, [Patch(label="a line")], 1)
    return figure


def test_a_title_that_is_too_long_for_its_page_goes_on_in_another_line_above_the_legend():
    short, long = page_of("Effects"), page_of(" ".join(["head scores by the published formulas"] * 4))
    assert title_of(long) == " ".join(["head scores by the published formulas"] * 4)
    assert inches(long)[0] == pytest.approx(inches(short)[0])
    long.canvas.draw()
    title, legend = long._suptitle.get_window_extent(), long.legends[0].get_window_extent()
    assert title.x1 <= long.canvas.get_width_height()[0]
    assert title.y0 >= legend.y0 + legend.height - 1
