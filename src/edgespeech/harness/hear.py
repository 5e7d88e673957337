"""The common loop from utterances to word errors, for a recogniser or any function from audio to text.

`edgespeech evaluate` runs a recogniser in a separate process and in virtual real time, since it measures latency and
memory too; measurements that only need words are done here. Both take their audio from `corpora.utterances`, and count
errors by `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from edgespeech.contracts import Recogniser, Request
from edgespeech.corpora.utterances import Utterances
from edgespeech.errors import bad
from edgespeech.harness.runner import run_utterance
from edgespeech.metrics.word_errors import POOLED, Compared, WordErrors
from edgespeech.records.trace import Trace, result_of
from edgespeech.search.settings import SHIPPED, SearchSettings

Given = TypeVar("Given")
Said = str | tuple[str, Any]
"""A transcript, or a transcript with additional data of a measurement: a lattice, times, a number of labels."""


@dataclass(frozen=True)
class Heard:
    """The transcripts of a measurement's utterances.

    Attributes:
        utterances: of the measurement.
        texts: the raw transcript of each.
        beside: additional data of each transcript; None without any.
        settings: `as it ships`, or the differences (`SearchSettings.describe`).
        failed: by index of the utterance, why there is no transcript, which counts as an empty one.
    """

    utterances: Utterances
    texts: tuple[str, ...]
    beside: tuple[Any, ...]
    settings: str
    failed: dict[int, str]

    @cached_property
    def word_errors(self) -> WordErrors:
        """Counts errors of transcripts of these utterances."""
        return word_errors(self.utterances)

    @cached_property
    def errors(self) -> list[int]:
        """Word errors of each utterance."""
        return self.word_errors.errors(self.texts)

    def rate(self, corpus: str = POOLED) -> dict[str, Any]:
        """A row: `wer` with its interval (see `WordErrors.rate`), and `settings`, as compared with the shipped ones."""
        return {**self.word_errors.rate(self.errors, corpus), "settings": self.settings}

    def compare(self, other: Heard, corpus: str = POOLED) -> Compared:
        """The difference of this word error rate and another's on the same utterances.

        Raises:
            EdgeSpeechError: the utterances differ.
        """
        ours, theirs = ([(one.corpus, one.id) for one in heard.utterances] for heard in (self, other))
        if ours != theirs:
            raise bad("hear", "utterances", len(theirs), f"the same {len(ours)} as those compared with")
        return self.word_errors.compare([self.errors], [other.errors], corpus)


def word_errors(utterances: Utterances) -> WordErrors:
    """Counts errors of transcripts of these utterances."""
    return WordErrors(utterances.items, utterances.normalisers, utterances.seed)


def hear(
    recognise: Recogniser | Callable[[Any], Said],
    utterances: Utterances,
    *,
    given: Iterable[Any] | None = None,
    settings: SearchSettings = SHIPPED,
    threads: int = 1,
    context: tuple[str, ...] = (),
) -> Heard:
    """Recognise every utterance.

    Args:
        recognise: a recogniser, which is loaded and closed here, or a function of an utterance's samples, with shape
            `(N,)`, or of its element of `given`.
        utterances: of the measurement.
        given: input of the function for each utterance instead of its samples, such as precomputed features.
        settings: of the function's search. A recogniser provides its own.
        threads: number of concurrent calls of the function.
        context: phrases that a recogniser gets with every utterance. It gets an utterance's lead-in too, if it takes
            any.

    Raises:
        EdgeSpeechError: the recogniser cannot be loaded; a function's own errors. Failures of a recogniser on single
            utterances are in `Heard.failed`.
    """
    items: Iterable[Any] = (one.samples() for one in utterances) if given is None else given
    if isinstance(recognise, Recogniser):
        found = _recognised(recognise, utterances, context)
        texts = ["" if trace.failure is not None else text_of(trace) for trace in found]
        failed = {at: trace.failure for at, trace in enumerate(found) if trace.failure is not None}
        return Heard(utterances, tuple(texts), (None,) * len(texts), _settings_of(recognise), failed)
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            said = list(pool.map(recognise, items))
    else:
        said = [recognise(item) for item in items]
    pairs = [one if isinstance(one, tuple) else (one, None) for one in said]
    if len(pairs) != len(utterances):
        raise bad("hear", "given", len(pairs), f"as many as utterances, {len(utterances)}")
    return Heard(
        utterances,
        tuple(text for text, _ in pairs),
        tuple(other for _, other in pairs),
        settings.describe(),
        {},
    )


def text_of(trace: Trace) -> str:
    """The result of an utterance (`result_of`), a server's included, for any network; empty without any."""
    events = [event for _, event in trace.events]
    if trace.remote is not None:
        events += [reply.event for reply in trace.remote.replies]
    result = result_of(events)
    return "" if result is None else result.text


def _recognised(recogniser: Recogniser, utterances: Utterances, context: tuple[str, ...]) -> Sequence[Trace]:
    try:
        info = recogniser.load()
        return [
            run_utterance(
                recogniser,
                samples,
                Request(
                    utterance_id=one.id,
                    language=one.item.lang,
                    context=context,
                    seed=utterances.seed,
                    lead_in=lead_in if recogniser.takes_lead_in else None,
                ),
                chunk_s=info.chunk_s,
            )
            for one, (lead_in, samples) in ((one, one.stream()) for one in utterances)
        ]
    finally:
        recogniser.close()


def _settings_of(recogniser: Recogniser) -> str:
    """The search settings of the built-in recognisers; others are assumed to run as they ship."""
    found, shipped = (getattr(recogniser, name, None) for name in ("settings", "shipped"))
    return (found if isinstance(found, SearchSettings) else SHIPPED).describe(shipped)
