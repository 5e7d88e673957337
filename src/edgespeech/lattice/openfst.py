"""Text formats of OpenFst and Kaldi, for exchange with their tools.

OpenFst (`fstprint`, `fstcompile --acceptor`): lines of source, target, word and weight, and of a final state and its
weight; a line may repeat the word, as a transducer's does. Weights are costs: minus the score. Times of words are not
stored.

Kaldi (an archive of compact lattices as text, `ark,t`): a line with the utterance's name, then lines of source,
target, word and `graph,acoustic,frames`, and of a final state; an empty line ends it. The graph cost is minus the
prediction score, the acoustic cost the rest; the frames are one number each, joined by `_`: written here are 2 in a
word and 1 between words. States have one time in this format, so a word that overlaps with the one before starts after
it.

Lattices are determinised after reading, and arcs without a word (`<eps>`) are removed: paths with the same words become
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, repeat
from math import isfinite

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.lattice.build import determinised
from edgespeech.lattice.lattice import Arc, Final, Lattice, in_order

EPSILON = "<eps>"
_BETWEEN, _WORD = "1", "2"
Symbols = Mapping[str, str]
"""Maps the labels of a text to words; unknown labels are an error."""


@dataclass(frozen=True, slots=True)
class _Weight:
    """The weight of an arc or a final state: its scores and frames."""

    score: float = 0.0
    prediction: float = 0.0
    frames: tuple[str, ...] = (_WORD,)


def to_openfst(lattice: Lattice) -> str:
    """The text of an acceptor; the first line begins with the start state."""
    arcs = (f"{arc.source}\t{arc.target}\t{arc.word}\t{0.0 - arc.score!r}\n" for arc in lattice.arcs)
    finals = (f"{final.node}\t{0.0 - final.score!r}\n" for final in lattice.finals)
    return "".join(chain(arcs, finals))


def from_openfst(text: str, frame_s: float = 0.04, symbols: Symbols | None = None) -> Lattice:
    """The lattice of such a text; every word has a length of one frame.

    Args:
        text: an acceptor, or a transducer of which the output labels are taken.
        frame_s: seconds of a frame.
        symbols: words by label; None if the labels are words.

    Raises:
        EdgeSpeechError: a line is malformed, there is a cycle, or no path.
    """
    return _lattice(enumerate(text.splitlines(), 1), _cost, frame_s, symbols, "OpenFst text")


def to_kaldi(lattices: Mapping[str, Lattice]) -> str:
    """An archive of lattices by the names of their utterances."""
    return "".join(chain.from_iterable(_kaldi_lines(name, lattice) for name, lattice in lattices.items()))


def from_kaldi(text: str, frame_s: float = 0.04, symbols: Symbols | None = None) -> dict[str, Lattice]:
    """The lattices of an archive by the names of their utterances.

    Args:
        text: the archive.
        frame_s: seconds of a frame.
        symbols: words by label; None if the labels are words.

    Raises:
        EdgeSpeechError: a line is malformed, a name is repeated, there is a cycle, or no path.
    """
    found: dict[str, Lattice] = {}
    name: str | None = None
    lines: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.strip():
            if name is not None:
                lines.append((number, line))
            elif len(line.split()) != 1 or line.strip() in found:
                raise bad(
                    f"Kaldi text: line {number}", "name", line.strip(), "one of an utterance, each once"
                )
            else:
                name = line.strip()
        elif name is not None:
            found[name] = _lattice(lines, _kaldi_weight, frame_s, symbols, f"Kaldi text: {name}")
            name, lines = None, []
    return found


def symbol_table(lattices: Iterable[Lattice]) -> str:
    """A table of symbols for `fstcompile` and `sym2int.pl`: the words of lattices, numbered from 1."""
    words = sorted({arc.word for lattice in lattices for arc in lattice.arcs})
    return "".join(f"{word} {number}\n" for number, word in enumerate([EPSILON, *words]))


def _kaldi_lines(name: str, lattice: Lattice) -> Iterable[str]:
    yield f"{name}\n"
    time = [0] * lattice.nodes
    for arc in lattice.arcs:
        time[arc.target] = max(time[arc.target], arc.end, max(arc.start, time[arc.source]) + 1)
    for arc in lattice.arcs:
        start = max(arc.start, time[arc.source])
        end = max(arc.end, start + 1)
        frames = "_".join(
            chain(
                repeat(_BETWEEN, start - time[arc.source]),
                repeat(_WORD, end - start),
                repeat(_BETWEEN, time[arc.target] - end),
            )
        )
        weight = f"{0.0 - arc.prediction!r},{arc.prediction - arc.score!r},{frames}"
        yield f"{arc.source} {arc.target} {arc.word} {weight}\n"
    for final in lattice.finals:
        yield f"{final.node} 0,{0.0 - final.score!r},\n"
    yield "\n"


def _lattice(
    lines: Iterable[tuple[int, str]],
    weigh: Callable[[str, str], _Weight],
    frame_s: float,
    symbols: Symbols | None,
    where: str,
) -> Lattice:
    """Parse lines of arcs and final states, which are common to both formats."""
    arcs: list[tuple[Arc, tuple[str, ...]]] = []
    finals: list[Final] = []
    start: int | None = None
    for number, line in lines:
        here = f"{where}: line {number}"
        fields = line.split()
        if not fields:
            continue
        weight = weigh(fields.pop(), here) if len(fields) in (2, 4, 5) else _Weight()
        if len(fields) not in (1, 3, 4):
            raise bad(
                here, "fields", line, "source, target, word and weight, or a final state and its weight"
            )
        source = _state(fields[0], here)
        start = source if start is None else start
        if len(fields) == 1:
            finals.append(Final(source, weight.score))
            continue
        word = fields[-1]
        if symbols is not None and word != EPSILON:
            if word not in symbols:
                raise bad(here, "label", word, "one of the symbols")
            word = symbols[word]
        word = "" if word == EPSILON else word
        arc = Arc(source, _state(fields[1], here), word, weight.score, weight.prediction)
        arcs.append((arc, weight.frames))
    if start is None:
        raise EdgeSpeechError(f"{where}: no state, expected at least one")
    return determinised(_timed(arcs, start), finals, frame_s, start=start)


def _timed(arcs: list[tuple[Arc, tuple[str, ...]]], start: int) -> list[Arc]:
    """The arcs with the frames of their words."""
    time = {start: 0}
    by_source: dict[int, list[tuple[Arc, tuple[str, ...]]]] = {}
    for arc, frames in arcs:
        by_source.setdefault(arc.source, []).append((arc, frames))
    timed: list[Arc] = []
    for node in in_order([arc for arc, _ in arcs], start):
        for arc, frames in by_source.get(node, ()):
            said = (
                [place for place, frame in enumerate(frames) if frame == _WORD]
                or list(range(len(frames)))
                or [0]
            )
            time[arc.target] = max(time.get(arc.target, 0), time[node] + len(frames))
            timed.append(replace(arc, start=time[node] + said[0], end=time[node] + said[-1] + 1))
    return timed


def _cost(field: str, where: str) -> _Weight:
    """A weight of OpenFst's: a cost."""
    return _Weight(-_number(field, where))


def _kaldi_weight(field: str, where: str) -> _Weight:
    """A weight of Kaldi's."""
    parts = field.split(",")
    if len(parts) != 3:
        raise bad(where, "weight", field, "graph cost, acoustic cost and frames with commas between")
    graph, acoustic = (_number(part, where) for part in parts[:2])
    return _Weight(-(graph + acoustic), -graph, tuple(parts[2].split("_")) if parts[2] else ())


def _number(field: str, where: str) -> float:
    try:
        found = float(field)
    except ValueError as error:
        raise bad(where, "weight", field, "a number") from error
    if not isfinite(found):
        raise bad(where, "weight", field, "a finite number")
    return found


def _state(field: str, where: str) -> int:
    if not (field.isascii() and field.isdecimal()):
        raise bad(where, "state", field, "a number of at least 0")
    return int(field)
