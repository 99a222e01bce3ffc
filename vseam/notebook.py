"""What a notebook shows of a result: the views of the interactive page in a cell, by the page's own modules (extra `notebook`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from vseam_core.errors import VseamError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vseam_core.report.data.page_data import PageData

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
"""What notebooks call a widget."""
_DPI = 110


class ShownInNotebooks:
    """A result that a notebook shows as views of the interactive page; where the extra is missing, as its tables (`_repr_html_`)."""

    views: ClassVar[Sequence[str]] = ()
    """The views that a cell shows, as `report/assets/views.js` names them."""

    if TYPE_CHECKING:

        @property
        def page(self) -> PageData: ...

    def widget(self, *views: str) -> Any:
        """The interactive views as a widget: the usual ones of this kind of result, or those that are named.

        Raises `VseamError` where the extra `notebook` is not installed.
        """
        return page_widget(self.page, views or self.views)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The widget beside what `_repr_html_` gives; without the extra nothing, and a notebook takes the tables."""
        if find_spec("anywidget") is None:
            return {}
        made = self.widget()._repr_mimebundle_()
        bundle = made[0] if isinstance(made, tuple) else made
        return {WIDGET_VIEW: bundle[WIDGET_VIEW]} if bundle else {}


def page_widget(page: PageData, views: Sequence[str]) -> Any:
    """Views of a page as a widget (`anywidget.AnyWidget`). Raises `VseamError` where the extra `notebook` is not installed."""
    if find_spec("anywidget") is None:
        raise VseamError("widgets need the package anywidget: pip install 'vseam[notebook]'")
    return _widget_class()(blocks=page.blocks(), views=list(views))


@cache
def _widget_class() -> type[Any]:
    """Made on first use: the package is an extra."""
    import anywidget
    import traitlets

    from vseam_core.report.page import widget_sources

    script, style = widget_sources()

    class PageWidget(anywidget.AnyWidget):
        """`blocks` are the page's data elements by name, `views` what to show of them."""

        _esm = script
        _css = style
        blocks = traitlets.Dict().tag(sync=True)
        views = traitlets.List(traitlets.Unicode()).tag(sync=True)

    return PageWidget


def shown_figure(figure: Figure) -> Figure:
    """The same figure, shown by a notebook at the end of a cell: it knows by itself only those that pyplot made."""

    def png() -> bytes:
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=_DPI)
        return content.getvalue()

    figure.__dict__["_repr_png_"] = png
    return figure
