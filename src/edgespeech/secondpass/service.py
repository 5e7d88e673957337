"""The second pass as a server runs it: a lattice's message in, its likeliest words out."""

from __future__ import annotations

from pathlib import Path

from edgespeech.core.places import edge_model
from edgespeech.errors import bad
from edgespeech.lattice.codec import Vocabulary, decode
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import Path as LatticePath
from edgespeech.lattice.paths import Scales, best_path, prune_to
from edgespeech.model.checkpoint import load_model
from edgespeech.secondpass.compose import composed
from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, second_pass_folder
from edgespeech.secondpass.model import TrainedLm, load_lm
from edgespeech.secondpass.scoring import InternalScorer, WordScorer
from edgespeech.secondpass.tuning import load_scales

MAX_ARCS = 400
"""A larger lattice is pruned to so many arcs first, which bounds the time that one message takes."""
HISTORY, BEAM = 4, 8
"""Words by which histories are told apart, and how many of them go on from a node."""
NAME = "second pass"
"""Of the scales in its file."""


class SecondPass:
    """Rescores lattices with a language model; see `edgespeech.cloud.session.Rescorer`.

    Args:
        lm: the language model.
        scales: what its scores are worth.
        vocabulary: that messages were written with.
        internal: of the model that the lattices come from; needed where its prediction is taken away and not sent.
    """

    def __init__(
        self, lm: TrainedLm, scales: Scales, vocabulary: Vocabulary, internal: InternalScorer | None = None
    ) -> None:
        self._scorer = WordScorer(lm)
        self._scales = scales
        self._vocabulary = vocabulary
        self._internal = internal

    def rescore(self, lattice: bytes) -> str:
        """The likeliest words of a message's lattice.

        Raises:
            EdgeSpeechError: it is no message of a lattice, or has a word that the language model cannot spell.
        """
        return self.best(decode(lattice, self._vocabulary)).text

    def best(self, lattice: Lattice) -> LatticePath:
        """The likeliest path; its words are a path of the lattice.

        Raises:
            EdgeSpeechError: a word has other characters than a to z and the apostrophe.
        """
        small = lattice
        if len(lattice.arcs) > MAX_ARCS:
            small = prune_to(lattice, lambda pruned: len(pruned.arcs) <= MAX_ARCS)
        scored = composed(
            small, self._scorer, self._scales, internal=self._internal, history=HISTORY, beam=BEAM
        )
        return best_path(scored, self._scales)


def build_second_pass(folder: str | Path | None = None, edge: str | Path | None = None) -> SecondPass:
    """Load a second pass; by itself the published one, as a server's process makes it.

    Args:
        folder: with the files `lm.edge`, `scales.yaml` and `words.txt`; None: see `second_pass_folder`.
        edge: the folder of the model on the device, whose predictor is read where the scales take its prediction away;
            None: that of the system `edge-fp32`.

    Raises:
        EdgeSpeechError: a file is missing or damaged.
    """
    where = second_pass_folder() if folder is None else Path(folder)
    named = load_scales(where / SCALES)
    if list(named) != [NAME]:
        raise bad(str(where / SCALES), "scales of", list(named), f"{NAME!r} alone")
    scales = named[NAME]
    internal = None
    if scales.prediction:
        trained = load_model(edge_model() if edge is None else Path(edge))
        internal = InternalScorer(trained.model, trained.tokeniser)
    return SecondPass(load_lm(where / LM), scales, Vocabulary.load(where / VOCABULARY), internal)
