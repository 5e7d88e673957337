"""Composition of a lattice with a neural language model: its paths are expanded as far as the histories differ.

Source: X. Liu, X. Chen, Y. Wang, M. Gales, P. Woodland, "Two efficient lattice rescoring methods using recurrent
neural network language models" (IEEE/ACM TASLP 2016), section IV: histories that agree in their last n words are
merged. No path is lost by that, but scores become approximate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from edgespeech.cloud.session import Pause, without_pause
from edgespeech.errors import bad
from edgespeech.lattice.lattice import Arc, Final, Lattice, arranged
from edgespeech.lattice.paths import Path, Scales
from edgespeech.secondpass.scoring import InternalScorer, State, WordScorer

History = tuple[str, ...]


@dataclass(slots=True)
class _Expansion:
    """A node of the lattice after a history.

    Attributes:
        number: of the node that it becomes.
        worth: weighted score of the best path to it.
        state: of the language model after that path.
        internal: state of the internal language model, if there is one.
    """

    number: int
    worth: float
    state: State
    internal: tuple[int, ...]


def composed(
    lattice: Lattice,
    scorer: WordScorer,
    scales: Scales,
    *,
    internal: InternalScorer | None = None,
    history: int | None = None,
    beam: int | None = None,
    pause: Pause = without_pause,
) -> Lattice:
    """Compose a lattice with a language model.

    Args:
        lattice: existing language scores are replaced.
        scorer: the language model.
        internal: computes new prediction scores from the words of paths; None: the lattice's own are used.
        scales: weights of scores, for choosing representatives of merged histories and for the beam.
        history: number of last words that distinguish histories, at least 1; None: all, which scores every path
            exactly.
        beam: maximum number of histories per node, at least 1, those with the best paths; None: all.
        pause: called between steps of the work.

    Returns:
        A lattice of the same paths, except for those outside of the beam, with one node per history.

    Raises:
        EdgeSpeechError: `history` or `beam` is out of range, or a word has characters that the model cannot spell.
    """
    for field, value in (("history", history), ("beam", beam)):
        if value is not None and value < 1:
            raise bad("rescoring", field, value, "at least 1, or none")
    expanded: list[dict[History, _Expansion]] = [{} for _ in range(lattice.nodes)]
    expanded[0][()] = _Expansion(0, 0.0, scorer.start, InternalScorer.start)
    count = 1
    arcs: list[Arc] = []
    finals: list[Final] = []
    for level in _levels(lattice):
        steps: list[tuple[Arc, History, _Expansion]] = []
        for node in level:
            for said, at in _best(expanded[node].items(), beam):
                if node in lattice.final:
                    language = scorer.finish(at.state)
                    finals.append(replace(lattice.final[node], node=at.number, language=language))
                steps += [(arc, said, at) for arc in lattice.leaving[node]]
        words = [arc.word for arc, _, _ in steps]
        scored = scorer.follow([at.state for _, _, at in steps], words, pause)
        if internal is None:
            predicted = [(arc.prediction, at.internal) for arc, _, at in steps]
        else:
            predicted = internal.follow([at.internal for _, _, at in steps], words, pause)
        for (arc, said, at), (language, state), (prediction, labels) in zip(
            steps, scored, predicted, strict=True
        ):
            here = replace(arc, language=language, prediction=prediction)
            worth = at.worth + scales.arc(here)
            key = (*said, arc.word) if history is None else (*said, arc.word)[-history:]
            there = expanded[arc.target].get(key)
            if there is None:
                there = expanded[arc.target][key] = _Expansion(count, worth, state, labels)
                count += 1
            elif worth > there.worth:
                there.worth, there.state, there.internal = worth, state, labels
            arcs.append(replace(here, source=at.number, target=there.number))
        for node in level:
            expanded[node].clear()  # the states are large
    return arranged(arcs, finals, lattice.frame_s)


def work(lattice: Lattice, beam: int) -> tuple[int, int]:
    """An upper bound on the work of scoring a lattice: the number of letters, and of those in sequence.

    A word has at most as many pieces as letters, and is scored once for each history that leads to it.

    Args:
        lattice: to be scored.
        beam: maximum number of histories per node.
    """
    histories = [1] + [0] * (lattice.nodes - 1)
    for arc in lattice.arcs:
        histories[arc.target] = min(beam, histories[arc.target] + histories[arc.source])
    letters = sum(histories[arc.source] * len(arc.word) for arc in lattice.arcs)
    deepest = (
        max((len(arc.word) for node in level for arc in lattice.leaving[node]), default=0)
        for level in _levels(lattice)
    )
    return letters, sum(deepest)


def tree(lattice: Lattice, paths: Iterable[Path]) -> Lattice:
    """An n-best list as a prefix tree of some of a lattice's paths.

    Args:
        lattice: of the paths.
        paths: distinct ones.
    """
    arcs: list[Arc] = []
    finals: list[Final] = []
    numbers: dict[History, int] = {(): 0}
    for path in paths:
        said: History = ()
        for arc in path.arcs:
            before, said = numbers[said], (*said, arc.word)
            if said not in numbers:
                numbers[said] = len(numbers)
                arcs.append(replace(arc, source=before, target=numbers[said]))
        end = path.arcs[-1].target if path.arcs else 0
        finals.append(replace(lattice.final[end], node=numbers[said]))
    return arranged(arcs, finals, lattice.frame_s)


def listed(scores: Mapping[str, float]) -> Lattice:
    """An n-best list of whole sentences with scores as a lattice, with each score at the end.

    Args:
        scores: by the sentence's words, at least one; log-probabilities. Times are unknown.

    Raises:
        EdgeSpeechError: there are no sentences.
    """
    if not scores:
        raise bad("rescoring", "sentences", 0, "at least one")
    numbers: dict[History, int] = {(): 0}
    arcs: list[Arc] = []
    for text in scores:
        words = tuple(text.split())
        for place, word in enumerate(words):
            before, said = words[:place], words[: place + 1]
            if said not in numbers:
                numbers[said] = len(numbers)
                arcs.append(Arc(numbers[before], numbers[said], word, 0.0, start=place, end=place + 1))
    return arranged(arcs, [Final(numbers[tuple(text.split())], score) for text, score in scores.items()])


def _levels(lattice: Lattice) -> list[list[int]]:
    """The nodes by level, the maximum number of arcs from the start: predecessors are on earlier levels."""
    level = [0] * lattice.nodes
    for arc in lattice.arcs:  # by source, which are numbered in order
        level[arc.target] = max(level[arc.target], level[arc.source] + 1)
    found: list[list[int]] = [[] for _ in range(max(level) + 1)]
    for node, its in enumerate(level):
        found[its].append(node)
    return found


def _best(
    expansions: Iterable[tuple[History, _Expansion]], beam: int | None
) -> Iterator[tuple[History, _Expansion]]:
    return iter(sorted(expansions, key=lambda item: -item[1].worth)[:beam])
