"""What all plots share: colours, how a system looks, and SVG that is the same every time."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from edgespeech.records.records import Record
from edgespeech.report.noise import label_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

LIGHT = {
    "page": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#5c6670",
    "grid": "#d9dee3",
    "s0": "#0072b2",
    "s1": "#c84e00",
    "s2": "#00805d",
    "s3": "#aa3377",
    "s4": "#7a6000",
    "s5": "#5b4fc4",
    "s6": "#4a7a1e",
    "s7": "#b3263a",
}
"""Colours by role; `s0` to `s7` tell systems apart, with a marker each for readers who see fewer colours."""
DARK = {
    "page": "#14181d",
    "ink": "#e6e9ec",
    "muted": "#9aa5b0",
    "grid": "#343b43",
    "s0": "#56b4e9",
    "s1": "#ff9a56",
    "s2": "#2cc295",
    "s3": "#e58bc0",
    "s4": "#dcc04a",
    "s5": "#a79bff",
    "s6": "#a3cf6b",
    "s7": "#ff8a95",
}
_MARKERS = "os^DvPX"
_SETTINGS: Any = {
    "svg.hashsalt": "edgespeech",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "xtick.labelcolor": LIGHT["ink"],
    "ytick.labelcolor": LIGHT["ink"],
    "text.color": LIGHT["ink"],
    "grid.color": LIGHT["grid"],
    "legend.frameon": False,
}


class Look(NamedTuple):
    """How one system looks in every plot; with context its marks are hollow and its lines dashed."""

    colour: str
    marker: str
    fill: str
    line: str


def looks_of(records: Sequence[Record]) -> dict[str, Look]:
    """A colour and a marker for every system, the same in every plot, by the labels of the plots."""
    order = {name: index for index, name in enumerate(sorted({record.system.name for record in records}))}
    looks = {}
    for record in records:
        index = order[record.system.name]
        hollow = record.condition.context
        looks[label_of(record)] = Look(
            colour=LIGHT[f"s{index % 8}"],
            marker=_MARKERS[(index + index // 8) % len(_MARKERS)],
            fill="none" if hollow else "full",
            line="--" if hollow else "-",
        )
    return looks


def themed(svg: str, name: str) -> str:
    """The SVG for inline use: the page's CSS variables as colours, and ids that no other plot of the page has.

    Args:
        svg: as `svg` makes it.
        name: of the plot, unique on the page.
    """
    roles = {colour: role for role, colour in LIGHT.items()}
    svg = re.sub(
        r"#[0-9a-f]{6}", lambda found: f"var(--{roles[found[0]]})" if found[0] in roles else found[0], svg
    )
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return svg[svg.index("<svg") :]


def svg(draw: Callable[[Canvas], None], height: float) -> str:
    """A drawing of our page's width and so many inches of height, as SVG that is the same every time."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(_SETTINGS):
        canvas = Canvas(figsize=(8.2, height), layout="constrained")
        FigureCanvasSVG(canvas)
        draw(canvas)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
