"""Anybody's recogniser may return anything: that utterance fails with one line, and the run goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from edgespeech.audio.io import write_audio
from edgespeech.contracts import (
    SAMPLE_RATE,
    Event,
    EventKind,
    Kind,
    Recogniser,
    RemoteTrace,
    Reply,
    Request,
    Samples,
    Stream,
    SystemInfo,
    Word,
)
from edgespeech.corpora.manifest import Utterance
from edgespeech.corpora.utterances import Spoken
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.boundary import MAX_TEXT, checked_info
from edgespeech.harness.runner import MAX_FAILURE, run_utterance
from edgespeech.harness.workers import Job, run_jobs
from edgespeech.records.records import without_paths
from edgespeech.records.rows import trace_to_row

NAN, INF = math.nan, math.inf


def final(**fields: Any) -> Any:
    return Event(**{"kind": EventKind.FINAL, "text": "hello", **fields})


def word(**fields: Any) -> Any:
    return final(words=(Word(**{"text": "hello", "start_s": 0.0, "end_s": 0.1, **fields}),))


def remote(**fields: Any) -> Any:
    return RemoteTrace(**{"compute_s": (0.1,), "replies": (), **fields})


def reply(**fields: Any) -> Any:
    return remote(replies=(Reply(**{"after_message": 0, "n_bytes": 5, "event": final(), **fields}),))


class Strange:
    """An object that fails at everything."""

    def __str__(self) -> str:
        raise RuntimeError("no")


RETURNED: dict[str, Any] = {
    "events: None": None,
    "events: a number": 7,
    "events: text": "hello",
    "events: one event": final(),
    "events: a generator": (one for one in [final()]),
    "events: a set": {1},
    "events: a dict": {"final": 1},
    "event: None": [None],
    "event: text": ["hello"],
    "event: a dict": [{"kind": "final", "text": "hello"}],
    "event: a tuple": [("final", "hello")],
    "event: a class": [Event],
    "kind: text": [final(kind="final")],
    "kind: None": [final(kind=None)],
    "kind: a number": [final(kind=3)],
    "text: a number": [final(text=5)],
    "text: bytes": [final(text=b"hello")],
    "text: None": [final(text=None)],
    "text: a list": [final(text=["hello"])],
    "text: NaN": [final(text=NAN)],
    "text: half a surrogate pair": [final(text="caf\ud83d")],
    "text: endless": [final(text="x" * (MAX_TEXT + 1))],
    "words: None": [final(words=None)],
    "words: text": [final(words="hello")],
    "words: of text": [final(words=("hello",))],
    "words: of None": [final(words=(None,))],
    "word: text a number": [word(text=1)],
    "word: text bytes": [word(text=b"a")],
    "word: text half a pair": [word(text="\udc00")],
    "word: start NaN": [word(start_s=NAN)],
    "word: end NaN": [word(end_s=NAN)],
    "word: end infinite": [word(end_s=INF)],
    "word: start text": [word(start_s="0")],
    "word: start None": [word(start_s=None)],
    "word: start negative": [word(start_s=-1.0)],
    "word: ends before it starts": [word(start_s=0.5, end_s=0.1)],
    "word: start complex": [word(start_s=1j)],
    "audio_s: NaN": [final(audio_s=NAN)],
    "audio_s: infinite": [final(audio_s=INF)],
    "audio_s: negative": [final(audio_s=-0.5)],
    "audio_s: text": [final(audio_s="1.0")],
    "audio_s: a bool": [final(audio_s=True)],
    "audio_s: beyond floats": [final(audio_s=10**400)],
    "audio_s: an array": [final(audio_s=np.zeros(2))],
    "n_bytes: negative": [final(kind=EventKind.SENT, n_bytes=-1)],
    "n_bytes: NaN": [final(kind=EventKind.SENT, n_bytes=NAN)],
    "n_bytes: a float": [final(kind=EventKind.SENT, n_bytes=1.5)],
    "n_bytes: text": [final(kind=EventKind.SENT, n_bytes="3")],
    "n_bytes: None": [final(kind=EventKind.SENT, n_bytes=None)],
    "n_bytes: absurd": [final(kind=EventKind.SENT, n_bytes=10**30)],
    "n_bytes: a bool": [final(kind=EventKind.SENT, n_bytes=True)],
}
REMOTE: dict[str, Any] = {
    "remote: text": "far",
    "remote: a dict": {"compute_s": []},
    "remote: compute None": remote(compute_s=None),
    "remote: compute NaN": remote(compute_s=(NAN,)),
    "remote: compute negative": remote(compute_s=(-0.1,)),
    "remote: compute text": remote(compute_s=("0.1",)),
    "remote: too few": remote(compute_s=()),
    "remote: too many": remote(compute_s=(0.1, 0.1)),
    "remote: replies None": remote(replies=None),
    "remote: replies of text": remote(replies=("hello",)),
    "remote: patience NaN": remote(answer_deadline_s=NAN),
    "remote: patience text": remote(answer_deadline_s="1"),
    "remote: notes text": remote(notes="late"),
    "remote: notes of numbers": remote(notes=(1,)),
    "reply: to no message": reply(after_message=1),
    "reply: to a negative message": reply(after_message=-1),
    "reply: to a float": reply(after_message=0.0),
    "reply: bytes negative": reply(n_bytes=-5),
    "reply: bytes a float": reply(n_bytes=5.0),
    "reply: event None": reply(event=None),
    "reply: event text a number": reply(event=final(text=5)),
    "reply: event kind text": reply(event=final(kind="final")),
    "reply: compute NaN": reply(compute_s=NAN),
    "reply: compute negative": reply(compute_s=-1.0),
}
STATE = {
    "state: text": "12",
    "state: negative": -1,
    "state: NaN": NAN,
    "state: a float": 1.5,
    "state: a list": [1],
}


class Returning(Stream):
    def __init__(self, said: Any, remote: Any = None, state: Any = None, raising: Any = None) -> None:
        self.said, self.remote_trace, self.state, self.raising = said, remote, state, raising

    def accept(self, samples: Samples) -> Sequence[Event]:
        return cast(Sequence[Event], self.said)

    def finish(self) -> Sequence[Event]:
        if self.raising is not None:
            raise self.raising
        return [final()]

    def remote(self) -> RemoteTrace | None:
        return cast(RemoteTrace, self.remote_trace)

    def state_bytes(self) -> int | None:
        return cast(int, self.state)


INFO: dict[str, Any] = {
    "name": "returner",
    "kind": Kind.DEVICE,
    "model_bytes": 0,
    "parameters": None,
    "chunk_s": 0.1,
    "citation": "test",
}


class Returner(Recogniser):
    """Returns what it was made with where the utterance's id says so, and else a result."""

    name = "returner"
    kind = Kind.DEVICE
    summary = "returns anything"

    def __init__(self, *, strange: Callable[[], Stream] | None = None) -> None:
        self.strange = strange

    def load(self) -> SystemInfo:
        return SystemInfo(**INFO)

    def open(self, request: Request) -> Stream:
        if self.strange is not None and request.utterance_id == "strange":
            return self.strange()
        return Returning([])


def run(stream: Stream) -> Any:
    samples = np.zeros(SAMPLE_RATE // 10, np.float32)
    request = Request(utterance_id="strange")
    return run_utterance(Returner(strange=lambda: stream), samples, request, chunk_s=0.1)


def assert_recorded(trace: Any, start: str = "raised: recogniser: ") -> None:
    assert trace.failure.startswith(start), trace.failure
    assert len(trace.failure) <= MAX_FAILURE
    assert "\n" not in trace.failure
    json.dumps(trace_to_row(trace), allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("name", RETURNED)
def test_a_wrong_event_is_the_utterance_s_failure(name: str) -> None:
    assert_recorded(run(Returning(RETURNED[name])))


@pytest.mark.parametrize("name", REMOTE)
def test_a_wrong_far_side_is_the_utterance_s_failure(name: str) -> None:
    sent = [Event(kind=EventKind.SENT, n_bytes=3)]
    assert_recorded(run(Returning(sent, remote=REMOTE[name])), "raised: ")


@pytest.mark.parametrize("name", STATE)
def test_a_wrong_size_of_state_is_the_utterance_s_failure(name: str) -> None:
    assert_recorded(run(Returning([], state=STATE[name])))


@pytest.mark.parametrize(
    "error",
    [ValueError("a\nb\x00\ud800"), KeyError(Strange()), MemoryError(), RecursionError("x" * 10**6), StopIteration(3),
     EdgeSpeechError("/home/somebody/file is /tmp/x/y/z"), AssertionError(),
     UnicodeDecodeError("utf-8", b"", 0, 1, "")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_is_raised_is_the_utterance_s_failure(error: Exception) -> None:
    trace = run(Returning([], raising=error))
    assert_recorded(trace, "raised: ")
    assert without_paths(without_paths(trace.failure)) == without_paths(trace.failure)


def test_numbers_of_numpy_are_numbers() -> None:
    said = Event(
        kind=EventKind.PARTIAL,
        text=np.str_("hello"),
        words=(Word(text="hello", start_s=cast(float, np.float32(0.5)), end_s=np.float64(0.5)),),
        audio_s=cast(float, np.float32(0.25)),
        n_bytes=cast(int, np.int64(3)),
    )
    trace = run(Returning([said], state=np.int32(12)))
    assert trace.failure is None
    assert type(trace.state_bytes) is int
    json.dumps(trace_to_row(trace), allow_nan=False)


WRONG_INFO: dict[str, dict[str, Any]] = {
    "name: another": {"name": "other"},
    "name: a number": {"name": 5},
    "kind: text": {"kind": "device"},
    "model_bytes: negative": {"model_bytes": -1},
    "model_bytes: a float": {"model_bytes": 1.5},
    "model_bytes: None": {"model_bytes": None},
    "parameters: text": {"parameters": "10 M"},
    "parameters: negative": {"parameters": -3},
    "chunk_s: zero": {"chunk_s": 0.0},
    "chunk_s: negative": {"chunk_s": -0.1},
    "chunk_s: NaN": {"chunk_s": NAN},
    "chunk_s: infinite": {"chunk_s": INF},
    "chunk_s: an hour": {"chunk_s": 3600.0},
    "chunk_s: text": {"chunk_s": "0.1"},
    "citation: None": {"citation": None},
    "citation: half a pair": {"citation": "\ud800"},
    "config: text": {"config": "beam 4"},
    "config: an object": {"config": {"model": Strange()}},
    "config: NaN": {"config": {"beam": NAN}},
    "config: bytes": {"config": {"beam": b"4"}},
    "config: half a pair": {"config": {"beam": "\ud800"}},
    "config: a path": {"config": {"weights": "/home/somebody/weights"}},
    "config: a host": {"config": {"hostname": "a"}},
    "config: endless": {"config": {"x": "y" * (1 << 21)}},
    "model_sha256: no hash": {"model_sha256": {"a": "b"}},
    "model_sha256: a list": {"model_sha256": ["a"]},
    "notes: text": {"notes": "a note"},
    "notes: of numbers": {"notes": (1,)},
    "notes: a path": {"notes": ("from /srv/data/x",)},
}


@pytest.mark.parametrize("name", WRONG_INFO)
def test_what_load_says_is_checked_before_the_first_utterance(name: str) -> None:
    with pytest.raises(EdgeSpeechError, match=r"^returner: load: "):
        checked_info(SystemInfo(**{**INFO, **WRONG_INFO[name]}), "returner")


@pytest.mark.parametrize("info", [None, "loaded", INFO, SystemInfo])
def test_load_that_says_nothing_of_use_is_refused(info: Any) -> None:
    with pytest.raises(EdgeSpeechError, match="returner: load: what it returns is"):
        checked_info(info, "returner")


def test_a_right_info_passes_as_plain_values() -> None:
    given = SystemInfo(**{**INFO, "parameters": np.int64(3), "config": {"beam": (1, 2)}, "notes": ["a"]})
    plain = checked_info(given, "returner")
    assert (type(plain.parameters), plain.config, plain.notes) == (int, {"beam": [1, 2]}, ("a",))


def test_the_count_of_wrong_values() -> None:
    """The numbers that the page of targets asks for."""
    assert len(RETURNED) + len(REMOTE) + len(STATE) >= 56
    assert len(WRONG_INFO) >= 12


class Forking(Recogniser):
    """Forks in the middle of an utterance, and lets both processes go on."""

    name = "forking"
    kind = Kind.DEVICE
    summary = "returns twice"

    def load(self) -> SystemInfo:
        return SystemInfo(**{**INFO, "name": self.name})

    def open(self, request: Request) -> Stream:
        return ForkingStream(request.utterance_id)


class ForkingStream(Stream):
    def __init__(self, name: str) -> None:
        self.name = name

    def accept(self, samples: Samples) -> Sequence[Event]:
        import os

        if self.name == "u1":
            os.fork()
        return []

    def finish(self) -> Sequence[Event]:
        return [Event(kind=EventKind.FINAL, text=f"words of {self.name}")]


class WrongAtSome(Returner):
    """Returns something wrong at every second utterance."""

    name = "wrong-at-some"

    def load(self) -> SystemInfo:
        return SystemInfo(**{**INFO, "name": self.name})

    def open(self, request: Request) -> Stream:
        number = int(request.utterance_id[1:])
        names = [name for name, said in RETURNED.items() if not name.startswith("events: a gen")]
        return Returning(RETURNED[names[number % len(names)]] if number % 2 else [])


def jobs(folder: Path, count: int) -> list[Job]:
    path = folder / "a.wav"
    write_audio(path, np.zeros(1600, np.float32))
    return [job(path, f"u{n}") for n in range(count)]


def job(path: Path, name: str) -> Job:
    item = Utterance(id=name, audio_filepath=path.name, duration=0.1, text="")
    return Job(spoken=Spoken(corpus="toy", item=item, audio=path), request=Request(utterance_id=name))


def test_a_recogniser_that_forks_answers_once_for_each_utterance(tmp_path: Path) -> None:
    found = run_jobs(Forking, {}, jobs(tmp_path, 4))
    assert [done.trace.failure for done in found.done] == [None] * 4
    texts = [next(e.text for _, e in done.trace.events if e.kind is EventKind.FINAL) for done in found.done]
    assert texts == [f"words of u{n}" for n in range(4)]


def test_wrong_values_cost_their_utterances_and_no_other(tmp_path: Path) -> None:
    count = 2 * len(RETURNED)
    failures = [done.trace.failure for done in run_jobs(WrongAtSome, {}, jobs(tmp_path, count)).done]
    assert failures[::2] == [None] * (count // 2)
    assert all(failure and failure.startswith("raised: recogniser: ") for failure in failures[1::2])


def test_files_that_cannot_be_read_never_count_against_the_process(tmp_path: Path) -> None:
    good = jobs(tmp_path, 1)[0]
    (tmp_path / "bad.wav").write_text("no audio here at all")
    names = ("bad.wav", "gone.wav", "bad.wav", "gone.wav", "bad.wav")
    bad_ones = [job(tmp_path / name, name) for name in names]
    found = run_jobs(Returner, {}, [good, *bad_ones, good])
    failures = [done.trace.failure for done in found.done]
    assert failures[0] is None
    assert failures[-1] is None
    assert all(failure and failure.startswith("audio: ") for failure in failures[1:-1])
