"""Matplotlib figures as SVG inside a page, in the page's colours, so that one drawing is legible in light and in dark.

Figures are drawn with the placeholder colours below; the SVG names CSS variables in their place, and text stays text
in the page's font. Not for figures of their own files, which :mod:`sor_sb3.reports.figures` draws.
"""

from __future__ import annotations

import html
import io
import re
import textwrap
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INK, MUTED, GRID, PAPER = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
SERIES = tuple(f"#0a0b{i:02x}" for i in range(10))
KINDS = {"learned": "#0a0c00", "rule": "#0a0c01", "oracle": "#0a0c02"}
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--line",
    PAPER: "--card",
    **{colour: f"--s{i}" for i, colour in enumerate(SERIES)},
    KINDS["learned"]: "--learned",
    KINDS["rule"]: "--rule",
    KINDS["oracle"]: "--oracle",
}
WIDTH_IN = 5.4  # at 72 units an inch: what a phone shows nearly unscaled and a desktop one and a half times as large
LABEL_CHARACTERS = 58  # of a horizontal axis' label, a line
STYLE: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.linewidth": 0.7,
    "figure.constrained_layout.use": True,
}


def new_axes(height_in: float, panels: int = 1, **options: Any) -> tuple[Any, Any]:
    """A figure of the page's width with `panels` axes side by side; call it under `STYLE`, close it with `to_svg`."""
    return plt.subplots(1, panels, figsize=(WIDTH_IN, height_in), **options)


def to_svg(figure: Any, key: str, description: str) -> str:
    """The figure as an ``<svg>`` element for a page, and close it.

    Args:
        figure: drawn with placeholder colours.
        key: differs from the page's other figures; the SVG's inner names come from it.
        description: what the figure shows, for those who cannot see it.
    """
    panels = max(len(figure.axes), 1)
    for axes in figure.axes:
        axes.set_xlabel(textwrap.fill(axes.get_xlabel(), LABEL_CHARACTERS // panels, break_long_words=False))
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    plt.close(figure)
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
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return re.sub(r"\n\s*", "\n", svg).strip()
