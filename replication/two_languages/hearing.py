"""What a network makes of the tests: the words of every utterance, and the language named at several times.

A row of a test has `id`, `speaker`, the reference `text`, `hyp` (recognisers), and `named` (networks that name the
language): a language and its probability at each of the configured times after speech begins, and at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgespeech.audio.features import log_mel_at_once
from edgespeech.contracts import Samples
from edgespeech.corpora.utterances import Spoken, Utterances, utterances_of
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained
from edgespeech.model.languages import Identifier, LanguageHead, decide
from edgespeech.search.greedy import GreedyDecoder
from edgespeech.search.streaming import StreamingTranscriber

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Hearing:
    """A network that hears: a recogniser, with a head or without, or an identifier."""

    trained: Trained | None = None
    head: LanguageHead | None = None
    identifier: Identifier | None = None

    @property
    def namer(self) -> LanguageHead | None:
        """What names the language, if it does."""
        return self.head if self.identifier is None else self.identifier.head

    def hear(self, samples: Samples) -> tuple[str | None, Tensor | None, list[int]]:
        """Audio from its start to its end.

        Args:
            samples: 16 kHz, with shape `(N,)`.

        Returns:
            The words; the logits of the languages after each frame, with shape `(T, N)`; the frame of each label. None
            where the network has no such output.
        """
        if self.identifier is not None:
            features = torch.from_numpy(log_mel_at_once(samples))[None]
            with torch.inference_mode():
                logits, _ = self.identifier(features, torch.tensor([features.shape[1]]))
            return None, logits[0], []
        assert self.trained is not None
        stream, search = StreamingTranscriber(self.trained.model), GreedyDecoder(self.trained.model)
        encoded = torch.cat([stream.accept(samples), stream.finish()])
        search.accept(encoded)
        with torch.inference_mode():
            logits_of = None if self.head is None else self.head(encoded[None])[0]
        best = search.best
        return self.trained.tokeniser.decode(best.labels), logits_of, list(best.frames)


def hear_tests(own: Hearing, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every test of the page that concerns a network, by part and language; and which are not to be had here."""
    tests: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for part in ("test", "switched", "real"):
        for language, corpora in given[part].items():
            if own.identifier is None and language not in given["languages"]:
                continue
            found = _utterances(corpora, given["seed"], missing)
            if found is not None:
                tests[f"{part}/{language}"] = {
                    "normaliser": next(iter(corpora.values())),
                    "rows": [row_of(own, one, given["times"]) for one in found],
                }
    if own.namer is not None:
        found = _utterances(dict.fromkeys(given["third"], "basic"), given["seed"], missing)
        if found is not None:
            rows = [row_of(own, one, given["times"]) | {"hyp": None, "text": ""} for one in found]
            tests["third"] = {"normaliser": "basic", "rows": rows}
    if own.head is not None:
        sides = [_utterances(given["test"][one], given["seed"], missing) for one in given["languages"]]
        if all(side is not None for side in sides):
            names = list(given["languages"])
            tests["sessions"] = list(
                sessions(own, [list(side) for side in sides if side is not None], names, given)
            )
    return {"tests": tests, "missing": missing}


def _utterances(corpora: Mapping[str, str], seed: int, missing: dict[str, str]) -> Utterances | None:
    if not corpora:
        return None
    try:
        found = utterances_of(corpora, seed=seed)
    except EdgeSpeechError:
        for name in corpora:
            missing[name] = "not to be had on the machine that heard the tests"
        return None
    missing.update(dict.fromkeys(found.missing, "not to be had on the machine that heard the tests"))
    return found


def row_of(own: Hearing, one: Spoken, times: Sequence[float]) -> Row:
    """What a network makes of an utterance."""
    text, logits, _ = own.hear(one.samples())
    row: Row = {"id": one.id, "speaker": one.speaker, "text": one.text}
    if text is not None:
        row["hyp"] = text
    if logits is not None:
        assert own.namer is not None
        row["named"] = named_at(own.namer, logits, one.item.sos_s or 0.0, one.item.eos_s, times)
    return row


def named_at(
    head: LanguageHead, logits: Tensor, sos_s: float, eos_s: float | None, times: Sequence[float]
) -> list[tuple[str | None, float]]:
    """The language and its probability at some times after speech begins, and at the end of speech.

    An utterance that is over before a time counts with its end. A frame counts once all of its audio was heard.

    Args:
        head: of the network.
        logits: after each frame, with shape `(T, N)`.
        sos_s: start of speech.
        eos_s: its end; None: the end of the audio.
        times: in seconds.
    """
    last = len(logits) if eos_s is None else min(len(logits), max(1, int(eos_s / head.frame_s)))
    found = []
    for time in (*times, None):
        heard = last if time is None else min(last, max(1, int((sos_s + time) / head.frame_s + 1e-6)))
        decision = decide(head, logits[heard - 1])
        found.append((decision.language, round(decision.probability, 5)))
    return found


def sessions(
    own: Hearing, sides: Sequence[Sequence[Spoken]], names: Sequence[str], given: Mapping[str, Any]
) -> Iterator[Row]:
    """Sessions of utterances in turn in one and the other language, each heard as one stream.

    No state is reset between utterances: neither the transcriber's nor the predictor's nor the head's memory.

    Yields:
        For each session the `rows` of its utterances (`id`, `language`, `text`, `hyp`: the words whose last piece came
        between its start and that of the next) and `delays`: for each utterance but the first the seconds from its
        first speech until its language is named and stays named to its end, its whole duration if that never happens.
    """
    assert own.head is not None
    assert own.trained is not None
    size = given["sessions"]["utterances"]
    turns = min(given["sessions"]["count"], *(len(side) * len(sides) // size for side in sides))
    waiting = [iter(side) for side in sides]
    for number in range(turns):
        first = number % len(sides)
        order = [(first + place) % len(sides) for place in range(size)]
        spoken = [next(waiting[side]) for side in order]
        audio = [one.samples() for one in spoken]
        starts = np.cumsum([0, *(len(samples) for samples in audio)]) / 16_000
        stream, search = StreamingTranscriber(own.trained.model), GreedyDecoder(own.trained.model)
        pieces = [stream.accept(samples) for samples in audio]
        encoded = torch.cat([*pieces, stream.finish()])
        search.accept(encoded)
        with torch.inference_mode():
            best = own.head(encoded[None])[0].argmax(-1).numpy()
        rows, delays = [], []
        labels = list(zip(search.best.labels, search.best.frames, strict=True))
        frame_s = own.head.frame_s
        for place, (one, side) in enumerate(zip(spoken, order, strict=True)):
            begin, end = starts[place], starts[place + 1]
            own_labels = [
                label
                for label, frame in labels
                if begin <= frame * frame_s < end or (place == size - 1 and frame * frame_s >= end)
            ]
            hyp = own.trained.tokeniser.decode(own_labels)
            rows.append({"id": one.id, "language": names[side], "text": one.text, "hyp": hyp})
            if place:
                wanted = own.head.names.index(names[side])
                delays.append(_delay(best, wanted, begin, one, frame_s))
        yield {"rows": rows, "delays": delays}


def _delay(best: np.ndarray[Any, Any], wanted: int, begin: float, one: Spoken, frame_s: float) -> float:
    """Seconds from the first speech of an utterance until its language is named for good."""
    sos_s = one.item.sos_s or 0.0
    eos_s = one.item.eos_s or one.item.duration
    first, last = int((begin + sos_s) / frame_s), max(int((begin + eos_s) / frame_s), 1)
    wrong = np.flatnonzero(best[first:last] != wanted)
    if not len(wrong):
        return 0.0
    return round(min(float((wrong[-1] + 1) * frame_s), eos_s - sos_s), 3)
