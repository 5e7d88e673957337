"""Phrases in lattices: their bonuses are added to arcs, or those of the search that made them are taken away.

Source: A. Gourav et al., "Personalization strategies for end-to-end speech recognition systems" (ICASSP 2021,
arXiv:2102.07739): before a second pass the first pass's bias is removed from its scores, and another, tuned for the
second pass, is added. The words decide both, so the list of phrases stays on the device.
"""

from __future__ import annotations

from dataclasses import replace

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.errors import bad
from edgespeech.lattice.build import MOST_ARCS
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged


def add_phrases(lattice: Lattice, bias: PhraseBias, scale: float) -> Lattice:
    """The lattice with a multiple of the bonuses of phrases in its scores.

    A node that is reached with different unfinished phrases becomes several; in the lattice of a search that was biased
    with the same phrases there is none.

    Args:
        lattice: of any search.
        bias: the phrases.
        scale: factor of their bonuses; -1 removes those of a search that was biased with them.

    Raises:
        EdgeSpeechError: the result would have more than `MOST_ARCS`.
    """
    numbers = {(0, bias.start): 0}
    waiting = [(0, bias.start)]
    arcs: list[Arc] = []
    finals: list[Final] = []
    for node, place in waiting:  # which grows in the loop
        source = numbers[node, place]
        if (final := lattice.final.get(node)) is not None:
            closing = bias.closing(place)
            finals.append(replace(final, node=source, score=final.score + scale * closing))
        for arc in lattice.leaving[node]:
            after, added = bias.read(place, f" {arc.word}")
            key = arc.target, after
            if key not in numbers:
                numbers[key] = len(numbers)
                waiting.append(key)
            arcs.append(replace(arc, source=source, target=numbers[key], score=arc.score + scale * added))
        if len(arcs) > MOST_ARCS:
            raise bad("lattice", "arcs with phrases", f"more than {MOST_ARCS}", "at most so many")
    return arranged(arcs, finals, lattice.frame_s)
