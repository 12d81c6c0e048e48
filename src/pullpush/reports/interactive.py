"""The interactive map: Bokeh, with the picture, class and place of the item under the pointer."""

from __future__ import annotations

import base64
import html
import io

import numpy as np
from PIL import Image

from pullpush.reports.grids import class_name, thumbnail
from pullpush.reports.projection import Map

TOOLTIP = """
<div style="display:flex;gap:10px;align-items:center;max-width:260px;padding:2px">
  <img src="@picture" width="64" height="64" alt="" style="border-radius:6px;background:#fff">
  <div style="font:13px/1.35 system-ui,sans-serif;color:#1d2129"><b>@name{safe}</b><br>
  <span style="color:#767c86">@detail{safe}</span></div>
</div>"""


def interactive_map(one: Map, limit: int = 2000, size: int = 56) -> tuple[str, str, str]:
    """`(library, script, div)`: Bokeh's JavaScript, and the two pieces of HTML that place the map.

    At most `limit` points carry a picture of `size` x `size` pixels as a data URI, so the page stays small. The class
    of the item under the pointer lights up.
    """
    from bokeh.embed import components
    from bokeh.models import ColumnDataSource, CustomJS, HoverTool
    from bokeh.plotting import figure
    from bokeh.resources import Resources

    shown = np.sort(np.random.default_rng(0).permutation(len(one.rows))[:limit])
    rows = one.rows[shown]
    table = one.items.table
    labels = table["label"].to_numpy()[rows]
    source = ColumnDataSource(
        {
            "x": one.points[shown, 0],
            "y": one.points[shown, 1],
            "label": labels,
            "picture": [picture_uri(one, int(row), size) for row in rows],
            "name": [html.escape(class_name(one.items, int(row)).replace("_", " ")) for row in rows],
            "detail": [html.escape(_detail(table.iloc[int(row)])) for row in rows],
        }
    )
    plot = figure(
        height=560, sizing_mode="stretch_width", tools="pan,wheel_zoom,reset", active_scroll=None,
        x_axis_label=f"{one.method} 1", y_axis_label=f"{one.method} 2", match_aspect=True, toolbar_location="above",
    )  # fmt: skip
    dots = plot.scatter(
        "x", "y", source=source, size=7, color="#3f8fc4", line_color=None, alpha=0.7,
        selection_color="#d55e00", selection_alpha=1, nonselection_alpha=0.2,
    )  # fmt: skip
    light_up = CustomJS(
        args={"source": source},
        code="""
        const at = cb_data.index.indices
        const label = source.data.label
        const same = at.length ? Array.from(label.keys()).filter((i) => label[i] === label[at[0]]) : []
        if (same.join() !== source.selected.indices.join()) source.selected.indices = same
        """,
    )
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
    script, div = components(plot)
    # mode "inline" with the core alone: no widgets or tables are on the page
    library = Resources(mode="inline", components=["bokeh"]).render_js()
    return library, script, div


def picture_uri(one: Map, row: int, size: int) -> str:
    """The picture of a row as a WebP data URI; a grey square when it cannot be opened."""
    pixels = thumbnail(one.items, row, size)
    if pixels is None:
        pixels = np.full((size, size, 3), 221, np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def _detail(item) -> str:
    parts = [str(item[column]) for column in ("category", "domain") if item[column]]
    return ", ".join([*parts, f"id {item['id']}"])
