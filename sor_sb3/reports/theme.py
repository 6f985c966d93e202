"""One palette and one style for pages, figures in pages and figures in files. No figure is drawn here.

A figure is drawn in the light palette. As PNG the figure keeps it. As SVG in a page the figure names the page's CSS
variables instead, so that one drawing is legible in light and in dark, and text stays text in the page's font.
"""

import html
import io
import re
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Drawing

from sor_sb3.files import write_bytes

_SERIES_LIGHT = "#1f6feb #e5653b #1a9e63 #9a57cd #d9a514 #0fa3b1 #d6478f #6b7a2c #8a5a3b #5663d6".split()
_SERIES_DARK = "#6ea8fe #ff9270 #4cc38a #c297f0 #ecc04a #4fd0dc #f48fc0 #b3c263 #cfa07f #9aa5ff".split()
LIGHT = {
    **{"page": "#f6f7f9", "card": "#ffffff", "ink": "#16202c", "muted": "#667486", "line": "#e2e7ee"},
    **{"good": "#14804a", "bad": "#c0362c", "even": "#9a6700", "rule": "#7d8a9a"},
    **{f"s{i}": colour for i, colour in enumerate(_SERIES_LIGHT)},
}
DARK = {
    **{"page": "#0e131a", "card": "#161d27", "ink": "#e6ecf3", "muted": "#93a1b3", "line": "#29333f"},
    **{"good": "#4cc38a", "bad": "#ff7b72", "even": "#e3b341", "rule": "#8b98a9"},
    **{f"s{i}": colour for i, colour in enumerate(_SERIES_DARK)},
}
INK, MUTED, PAPER = LIGHT["ink"], LIGHT["muted"], LIGHT["card"]
SERIES = tuple(_SERIES_LIGHT)
KINDS = {"learned": SERIES[0], "rule": LIGHT["rule"], "oracle": SERIES[2]}
WIDTH_IN = 5.4  # at 72 units an inch: what a phone shows nearly unscaled and a desktop one and a half times as large
LABEL_CHARACTERS = 58  # of a horizontal axis' label, a line
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    **{"font.size": 9.0, "axes.labelsize": 9.0, "axes.titlesize": 9.5},
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 8.5),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), MUTED),
    **{"axes.grid": True, "axes.grid.axis": "x", "axes.axisbelow": True, "grid.linewidth": 0.7},
    **{"grid.color": LIGHT["line"], "legend.frameon": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8},
    "figure.constrained_layout.use": True,
}


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Any:
    """An empty figure; call it under `STYLE`."""
    return Drawing(figsize=(width_in, height_in))


def new_axes(height_in: float, panels: int = 1, width_in: float = WIDTH_IN, **options: Any) -> tuple[Any, Any]:
    """A figure with `panels` axes side by side, of the page's width; call it under `STYLE`."""
    figure = new_figure(height_in, width_in)
    return figure, figure.subplots(1, panels, **options)


def to_png(figure: Any, path: Path) -> Path:
    """Write the figure as a whole PNG file, or none; returns `path`."""
    out = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(out, dpi=150, bbox_inches="tight", format="png", facecolor=PAPER)
    write_bytes(path, out.getvalue())
    return path


def to_svg_file(figure: Any, path: Path, title: str, description: str) -> Path:
    """Write the figure as a whole SVG file, or none, whose texts are texts; returns `path`. Same figure, same bytes."""
    out = io.StringIO()
    about = {"Date": None, "Creator": None, "Title": title, "Description": description}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": path.name}):
        figure.savefig(out, format="svg", bbox_inches="tight", facecolor=PAPER, metadata=about)
    write_bytes(path, out.getvalue().encode())
    return path


def to_svg(figure: Any, key: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page.

    The figure is drawn in the colours of this module. Its key differs from the page's other figures; the SVG's inner
    names come from the key. The description says what the figure shows, for those who cannot see it.
    """
    panels = max(len(figure.axes), 1)
    for axes in figure.axes:
        axes.set_xlabel(textwrap.fill(axes.get_xlabel(), LABEL_CHARACTERS // panels, break_long_words=False))
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href", "href")
    viewbox = re.search(r'viewBox="([^"]+)"', svg)
    assert viewbox is not None
    label = html.escape(description, quote=True)
    head = f'<svg viewBox="{viewbox.group(1)}" role="img" aria-label="{label}" preserveAspectRatio="xMidYMid meet">'
    svg = head + svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', svg)
    svg = re.sub(r'(url\(#|href="#)(\w)', rf"\1{key}-\2", svg)
    for name, colour in LIGHT.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", svg).strip()
