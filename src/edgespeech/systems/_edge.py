"""Base of this project's own recognisers: a streaming transducer on the device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgespeech import __version__
from edgespeech.biasing.phrases import BOOST, PhraseBias, bonuses_of, check_boost, prepared
from edgespeech.contracts import Kind, Recogniser, Request, Samples, Stream, SystemInfo
from edgespeech.core.files import sha256_file
from edgespeech.errors import bad
from edgespeech.search.settings import BEAM, CHUNK_S, FINAL_S, SHIPPED, SearchSettings
from edgespeech.systems._shared import lead_in_of, ready

if TYPE_CHECKING:  # what needs torch is loaded with the model
    from edgespeech.model.checkpoint import Trained
    from edgespeech.search.beam import LabelScores

CITATION = f"EdgeSpeech {__version__}, Apache-2.0; streaming RNN-T (Graves, 2012, arXiv:1211.3711)"


def ending(final_s: float | None) -> str:
    """The footnote about how an utterance ends."""
    if final_s is None:
        return "ends an utterance with its audio"
    return f"ends an utterance after {final_s:g} s without word pieces"


MAX_BEAM = 1024
"""Maximum beam: more than some dozens of hypotheses only take memory and time."""


class EdgeRecogniser(Recogniser):
    """A streaming transducer of this project; a subclass loads it, and sets the function that opens streams."""

    kind = Kind.DEVICE
    languages = ("en",)
    takes_context = True
    takes_lead_in = True
    shipped: ClassVar[SearchSettings] = SHIPPED
    """Its default search settings."""

    def __init__(self, *, beam: int = BEAM, final_s: float | None = FINAL_S, boost: float = BOOST) -> None:
        """Set the options.

        Args:
            beam: number of hypotheses; 1 is greedy search.
            final_s: pause of the decoder that ends the utterance, in seconds; None: only the end of the audio does.
                Later words are another segment, so that no pause loses words.
            boost: bonus of a letter of a context phrase, in nats (`edgespeech.biasing.phrases`).

        Raises:
            EdgeSpeechError: one of them is out of range.
        """
        if not isinstance(beam, int) or isinstance(beam, bool) or not 1 <= beam <= MAX_BEAM:
            raise bad(self.name, "beam", beam, f"a whole number, at least 1, at most {MAX_BEAM}")
        if final_s is not None and not (isinstance(final_s, int | float) and final_s > 0):
            raise bad(self.name, "final_s", final_s, "seconds, above 0, or null")
        self._beam = beam
        self._final_s = final_s
        self._boost = check_boost(boost, self.name)
        self._stream: Callable[[PhraseBias | None, Samples | None], Stream] | None = None
        self._pieces: Sequence[str] = ()
        self._biases: dict[tuple[tuple[str, ...], tuple[float, ...]], PhraseBias] = {}

    @property
    def settings(self) -> SearchSettings:
        """Its search settings; greedy search uses no language model."""
        return SearchSettings(beam=self._beam, final_s=self._final_s)

    def _differences(self) -> tuple[str, ...]:
        """The footnote about settings that differ from the shipped ones."""
        if not self.settings.differences(self.shipped):
            return ()
        return (f"searches otherwise than it ships: {self.settings.describe(self.shipped)}",)

    def open(self, request: Request) -> Stream:
        """Start an utterance.

        Raises:
            EdgeSpeechError: not loaded, the language is not English, the context is out of its limits, or the lead-in
                is not such audio.
        """
        opened = ready(self, self._stream, request)
        return opened(self._bias(request), lead_in_of(self, request))

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        """The phrases that have no spelling in English letters, and those that are too long.

        Raises:
            EdgeSpeechError: the list is out of its limits, or a weight makes the bonus too great.
        """
        ready = prepared(context, weights)
        bonuses_of(ready, self._boost)
        return ready.remarks

    def _bias(self, request: Request) -> PhraseBias | None:
        """The automaton of a request's phrases; requests with the same list share one."""
        if not request.context:
            return None
        key = request.context, request.context_weights
        if key not in self._biases:
            self._biases.clear()  # one list is in use at a time, or each utterance has its own
            self._biases[key] = PhraseBias(self._pieces, *key, self._boost)
        return self._biases[key]

    def close(self) -> None:
        """Release the model."""
        self._stream = None
        self._biases.clear()


class EdgeTransducer(EdgeRecogniser):
    """A transducer run by torch; a subclass sets its model."""

    @abstractmethod
    def folder(self) -> Path:
        """The folder of the model."""

    def missing(self) -> str | None:
        """Why it cannot run: no model."""
        folder = self.folder()
        return None if folder.is_dir() else f"no model in {folder}: `edgespeech train` makes one"

    def _notes(self) -> tuple[str, ...]:
        """Further footnotes."""
        return ()

    def _grammar(self, trained: Trained) -> tuple[LabelScores | None, Mapping[str, object]]:
        """Scores used instead of the model's language model, and their description for the record."""
        del trained
        return None, {}

    def files(self) -> dict[str, Path]:
        """The files that it reads, by their names in the record."""
        from edgespeech.model.checkpoint import model_files

        folder = self.folder()
        return {name: folder / name for name in model_files(folder)}

    def load(self) -> SystemInfo:
        """Load the model.

        Raises:
            EdgeSpeechError: it is missing, damaged, or of another format.
        """
        from edgespeech.model.checkpoint import load_model
        from edgespeech.search.partials import TAIL_S
        from edgespeech.search.settings import MAX_LABELS
        from edgespeech.search.streaming import TransducerStream

        trained, files = load_model(self.folder()), self.files()
        scores, grammar = self._grammar(trained)
        self._pieces = trained.tokeniser.pieces
        beam, final_s = self._beam, self._final_s
        self._stream = lambda bias, lead_in: TransducerStream(trained, beam, final_s, scores, bias, lead_in)
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=sum(file.stat().st_size for file in files.values()),
            parameters=trained.model.parameters_deployed,
            chunk_s=CHUNK_S,
            citation=CITATION,
            config={
                "model": trained.model.config.to_mapping(),
                "beam": self._beam,
                "final_s": self._final_s,
                "boost": self._boost,
                "max_labels": MAX_LABELS,
                "tail_s": TAIL_S,
                "provenance": trained.provenance,
                **grammar,
            },
            model_sha256={name: sha256_file(file) for name, file in files.items()},
            notes=(ending(self._final_s), *self._differences(), *self._notes()),
        )
