"""The interactive map: Bokeh, coloured by a column, with the image and class of the item under the pointer."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pullpush.reports.grids import thumbnail, title
from pullpush.reports.page import Block
from pullpush.reports.projection import Map

__all__ = ["COLOURS", "Chart", "Grouping", "groupings_of", "interactive_map"]

TOOLTIP = """
<div style="display:flex;gap:10px;align-items:center;max-width:260px;padding:2px">
  <img src="@image" width="64" height="64" alt="" style="border-radius:6px;object-fit:contain">
  <div style="font:13px/1.35 system-ui,sans-serif;color:#1d2129"><b>@name{safe}</b><br>
  <span style="color:#767c86">@detail{safe}</span></div>
</div>"""
# All points of the class of the one under the pointer are selected.
LIGHT_UP = """
const at = cb_data.index.indices
const label = source.data.label
const same = at.length ? Array.from(label.keys()).filter((i) => label[i] === label[at[0]]) : []
if (same.join() !== source.selected.indices.join()) source.selected.indices = same
"""

#: Those of the map of the search page; the groups that have none of them share the last.
COLOURS = (
    *("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#76b7b2"),
    *("#edc948", "#d37295", "#9c755f", "#499894", "#86bc5b", "#6b6ecf"),
)
REST = "#9a9aa2"


@dataclass(frozen=True)
class Grouping:
    """One way to colour the points: by a column, `groups` in falling size, `codes` [points] with -1 for the rest."""

    by: str
    groups: list[str]
    codes: list[int]


@dataclass(frozen=True, kw_only=True)
class Chart(Block):
    """The pieces of HTML that place the map: Bokeh's JavaScript, the script and the place; and how it is coloured."""

    template: ClassVar[str] = "chart.html"
    scripted: ClassVar[bool] = True
    colours: ClassVar[Sequence[str]] = COLOURS
    rest: ClassVar[str] = REST

    library: str
    script: str
    place: str
    groupings: list[Grouping]

    @property
    def colouring(self) -> list[dict[str, Any]]:
        """The groupings for the page's script."""
        return [asdict(grouping) for grouping in self.groupings]


def groupings_of(one: Map, rows: NDArray[np.int64]) -> list[Grouping]:
    """The columns that tell these rows apart: category, domain, class, split; a class only where it has two items."""
    table = one.items.table.iloc[rows]
    columns = {name: table[name].astype(str) for name in ("category", "domain")}
    if table["label"].duplicated().any():
        columns["class"] = table["label"].map(lambda label: one.items.classes[int(label)])
    columns["split"] = table["split"]
    groupings = []
    for by, values in columns.items():
        names = [str(name) for name in values.value_counts().index]
        if len(names) > 1:
            codes = {name: code for code, name in enumerate(names[: len(COLOURS)])}
            groupings.append(Grouping(by, list(codes), [codes.get(str(value), -1) for value in values]))
    return groupings


def interactive_map(one: Map, caption: str, size: int = 56) -> Chart:
    """The map; each point carries an image as a data URI, its longer side `size` pixels, so give few points.

    The class of the item under the pointer lights up.
    """
    from bokeh.embed import components
    from bokeh.models import ColumnDataSource
    from bokeh.resources import Resources

    rows = one.rows
    table = one.items.table.iloc[rows]
    groupings = groupings_of(one, rows)
    codes = groupings[0].codes if groupings else [0] * len(rows)
    source = ColumnDataSource(
        {
            "x": one.points[:, 0],
            "y": one.points[:, 1],
            "label": table["label"].to_numpy(),
            "colour": [REST if code < 0 else COLOURS[code] for code in codes],
            "image": [thumbnail_uri(one, int(row), size) for row in rows],
            "name": [html.escape(title(one.items, int(row)).replace("_", " ")) for row in rows],
            "detail": [html.escape(_detail(item)) for _, item in table.iterrows()],
        }
    )
    script, div = components(_plot(source, one.method))
    # mode "inline" with the core alone: no widgets or tables are on the page
    library = Resources(mode="inline", components=["bokeh"]).render_js()
    return Chart(library=library, script=script, place=div, groupings=groupings, caption=caption)


def _plot(source: Any, method: str) -> Any:
    """The figure of the points in a Bokeh `ColumnDataSource`."""
    from bokeh.models import CustomJS, HoverTool
    from bokeh.plotting import figure

    plot = figure(
        height=560,
        sizing_mode="stretch_width",
        tools="pan,wheel_zoom,reset",
        active_scroll=None,
        x_axis_label=f"{method} 1",
        y_axis_label=f"{method} 2",
        match_aspect=True,
        toolbar_location="above",
    )
    dots = plot.scatter(
        "x",
        "y",
        source=source,
        size=7,
        color="colour",
        line_color=None,
        alpha=0.75,
        selection_line_color="#8a909a",
        selection_alpha=1,
        nonselection_alpha=0.15,
    )
    light_up = CustomJS(args={"source": source}, code=LIGHT_UP)
    plot.add_tools(
        HoverTool(tooltips=TOOLTIP, renderers=[dots], callback=light_up, point_policy="follow_mouse", limit=1)
    )
    plot.background_fill_color = plot.border_fill_color = None
    plot.outline_line_color = None
    plot.toolbar.logo = None
    plot.grid.visible = False
    plot.axis.major_label_text_font_size = "0px"
    plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = None
    plot.axis.axis_line_color = plot.axis.axis_label_text_color = "#8a909a"
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def thumbnail_uri(one: Map, row: int, size: int) -> str:
    """The image of a row as a WebP data URI; a grey square when it cannot be opened."""
    pixels = thumbnail(one.items, row, size)
    if pixels is None:
        pixels = np.full((size, size, 3), 221, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _detail(item: pd.Series) -> str:
    parts = [str(item[column]) for column in ("category", "domain", "split") if item[column]]
    return ", ".join([*parts, f"id {item['id']}"])
