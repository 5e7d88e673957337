"""Pictures of lattices: SVG by itself, and the text of Graphviz."""

from __future__ import annotations

import json
from collections import Counter
from xml.sax.saxutils import escape

from edgespeech.lattice.lattice import Arc, Lattice
from edgespeech.lattice.paths import best_path, posteriors

_COLUMN = 118
"""Pixels from one node to the next."""
_LANE = 54
_MARGIN = 40
_STYLE = (
    "text{font:12px sans-serif;text-anchor:middle;fill:#1b1f24}"
    "path{fill:none;stroke:#5c6670}.best{stroke:#0072b2}text.best{fill:#0072b2;font-weight:bold}"
    "circle{fill:#ffffff;stroke:#1b1f24}.end{stroke-width:3}.page{fill:#ffffff}"
)


def to_svg(lattice: Lattice) -> str:
    """The lattice from left to right, with the best path along the middle; thicker arcs are likelier.

    Every arc's title has its probability, scores and times.
    """
    best = best_path(lattice).arcs
    place = _places(lattice, [0, *(arc.target for arc in best)])
    columns = 1 + max(column for column, _ in place)
    lanes = [lane for _, lane in place]
    spans = [abs(place[arc.target][0] - place[arc.source][0]) for arc in lattice.arcs]
    above = max([1, -min(lanes), *spans])
    height = 2 * _MARGIN + _LANE * (above + max(1, *lanes) if lanes else above)
    shapes: list[str] = []
    siblings: Counter[tuple[int, int]] = Counter()
    for arc, sure in zip(lattice.arcs, posteriors(lattice), strict=True):
        shapes.append(_arc(lattice, arc, sure, place, above, siblings[arc.source, arc.target], arc in best))
        siblings[arc.source, arc.target] += 1
    for node in range(lattice.nodes):
        x, y = _at(place[node], above)
        ends = ' class="end"' if node in lattice.final else ""
        shapes.append(f'<circle cx="{x}" cy="{y}" r="6"{ends}><title>node {node}</title></circle>')
    width = 2 * _MARGIN + _COLUMN * (columns - 1)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}"><style>{_STYLE}</style><rect class="page" width="100%" height="100%"/>'
        f"{''.join(shapes)}</svg>\n"
    )


def to_dot(lattice: Lattice) -> str:
    """The lattice in Graphviz's language: words with their probabilities."""
    lines = ["digraph lattice {", "rankdir=LR; node [shape=circle];"]
    lines += [f"{final.node} [shape=doublecircle];" for final in lattice.finals]
    for arc, sure in zip(lattice.arcs, posteriors(lattice), strict=True):
        label = json.dumps(f"{arc.word} {sure:.2f}", ensure_ascii=False)
        lines.append(f"{arc.source} -> {arc.target} [label={label}, penwidth={0.5 + 3 * sure:.2f}];")
    return "\n".join([*lines, "}"]) + "\n"


def _places(lattice: Lattice, best: list[int]) -> list[tuple[int, int]]:
    """Column (most arcs from the start) and lane of every node; lane 0 is the best path, then below and above."""
    column = [0] * lattice.nodes
    for arc in lattice.arcs:
        column[arc.target] = max(column[arc.target], column[arc.source] + 1)
    lane = dict.fromkeys(best, 0)
    taken = {(column[node], 0) for node in best}
    for node in range(lattice.nodes):
        if node not in lane:
            steps = (sign * size for size in range(1, lattice.nodes + 1) for sign in (1, -1))
            lane[node] = next(step for step in steps if (column[node], step) not in taken)
            taken.add((column[node], lane[node]))
    return [(column[node], lane[node]) for node in range(lattice.nodes)]


def _at(place: tuple[int, int], above: int) -> tuple[int, int]:
    column, lane = place
    return _MARGIN + _COLUMN * column, _MARGIN + _LANE * (above + lane)


def _arc(
    lattice: Lattice,
    arc: Arc,
    sure: float,
    place: list[tuple[int, int]],
    above: int,
    sibling: int,
    best: bool,
) -> str:
    """An arc with its word; one over several columns, or beside another one, is bent upwards."""
    (x, y), (to_x, to_y) = (_at(place[node], above) for node in (arc.source, arc.target))
    span = place[arc.target][0] - place[arc.source][0]
    bend = _LANE * (span - 1 + sibling)
    middle, top = (x + to_x) / 2, (y + to_y) / 2 - 0.75 * bend
    name = ' class="best"' if best else ""
    frame_s = lattice.frame_s
    title = (
        f"{arc.word}: probability {sure:.3f}, score {arc.score:.2f}, prediction {arc.prediction:.2f}, "
        f"{arc.start * frame_s:.2f} to {arc.end * frame_s:.2f} s"
    )
    return (
        f'<path{name} d="M{x} {y}C{x + _COLUMN // 3} {y - bend} {to_x - _COLUMN // 3} {to_y - bend} {to_x} {to_y}" '
        f'stroke-width="{0.6 + 3 * sure:.2f}"><title>{escape(title)}</title></path>'
        f'<text{name} x="{middle:.0f}" y="{top - 6:.0f}">{escape(arc.word)}</text>'
    )
