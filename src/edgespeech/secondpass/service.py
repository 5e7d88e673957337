"""The second pass as a service: from the message of a lattice to its likeliest words."""

from __future__ import annotations

from pathlib import Path

from edgespeech.cloud.session import Pause, without_pause
from edgespeech.core.places import edge_model
from edgespeech.errors import bad
from edgespeech.lattice.codec import Vocabulary, decode
from edgespeech.lattice.lattice import Lattice
from edgespeech.lattice.paths import Path as LatticePath
from edgespeech.lattice.paths import Scales, best_path, prune_to
from edgespeech.model.checkpoint import load_model
from edgespeech.secondpass.compose import composed, work
from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, second_pass_folder
from edgespeech.secondpass.model import TrainedLm, load_lm
from edgespeech.secondpass.scoring import InternalScorer, WordScorer
from edgespeech.secondpass.tuning import load_scales

MAX_BYTES = 8 * 1024
"""Maximum bytes of a message; those of one sentence take some hundred bytes."""
MAX_MESSAGE_ARCS = 4096
"""Maximum number of arcs in a message, before pruning."""
MAX_ARCS = 400
"""Larger lattices are pruned to this many arcs, which bounds the work of one message, like the next two limits."""
MAX_LETTERS = 32_000
"""Maximum letters of all words, each counted once per history: 400 arcs of 10 letters after 8 histories."""
MAX_DEPTH = 4000
"""Maximum letters scored in sequence: those of the longest word on each level of the lattice."""
MAX_WORD = 64
"""Maximum letters of a word; the longest English words have half as many."""
HISTORY, BEAM = 4, 8
"""Number of last words that distinguish histories, and maximum number of histories per node."""
NAME = "second pass"
"""Name of the scales in their file."""


class SecondPass:
    """Rescores lattices with a language model; see `edgespeech.cloud.session.Rescorer`.

    Args:
        lm: the language model.
        scales: weights of scores.
        vocabulary: of messages.
        internal: of the model of the lattices; needed if prediction scores are subtracted but not sent.
    """

    def __init__(
        self, lm: TrainedLm, scales: Scales, vocabulary: Vocabulary, internal: InternalScorer | None = None
    ) -> None:
        self._scorer = WordScorer(lm)
        self._scales = scales
        self._vocabulary = vocabulary
        self._internal = internal

    def rescore(self, lattice: bytes, pause: Pause = without_pause) -> str:
        """The likeliest words of a message's lattice.

        Raises:
            EdgeSpeechError: it is not the message of a lattice, or one with too much work, or with a word that the
                language model cannot spell.
        """
        if len(lattice) > MAX_BYTES:
            raise bad("rescoring", "message", len(lattice), f"at most {MAX_BYTES} bytes")
        return self.best(decode(lattice, self._vocabulary, max_arcs=MAX_MESSAGE_ARCS), pause).text

    def best(self, lattice: Lattice, pause: Pause = without_pause) -> LatticePath:
        """The likeliest path of a lattice.

        Raises:
            EdgeSpeechError: a word is too long or has other characters than a to z and the apostrophe, or even the best
                path has too many letters.
        """
        for arc in lattice.arcs:
            if len(arc.word) > MAX_WORD:
                raise bad("rescoring", "word", arc.word, f"at most {MAX_WORD} letters")

        def fits(pruned: Lattice) -> bool:
            pause()
            letters, depth = work(pruned, BEAM)
            return len(pruned.arcs) <= MAX_ARCS and letters <= MAX_LETTERS and depth <= MAX_DEPTH

        small = lattice if fits(lattice) else prune_to(lattice, fits)
        scored = composed(
            *(small, self._scorer, self._scales),
            internal=self._internal,
            history=HISTORY,
            beam=BEAM,
            pause=pause,
        )
        return best_path(scored, self._scales)


def build_second_pass(folder: str | Path | None = None, edge: str | Path | None = None) -> SecondPass:
    """Load a second pass, by default the published one; called in the server's process.

    Args:
        folder: with the files `lm.edge`, `scales.yaml` and `words.txt`; None: see `second_pass_folder`.
        edge: the folder of the device's model, whose predictor is loaded if the scales subtract prediction scores;
            None: that of `edge-fp32`.

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
