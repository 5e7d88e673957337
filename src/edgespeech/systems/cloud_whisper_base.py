"""The cloud baseline: Whisper base behind a real WebSocket server, audio streamed to it as Opus."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from edgespeech.audio.codec import DESCRIPTION
from edgespeech.audio.vad import SegmentRule
from edgespeech.cloud.client import FRAMES_PER_MESSAGE, CloudStream
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import MAX_PHRASE, MAX_PHRASES
from edgespeech.cloud.whisper_backend import LANGUAGES, OPTIONS, facts, settings
from edgespeech.contracts import Kind, Recogniser, Request, SystemInfo
from edgespeech.corpora.weights import resolve_weights, weights_available
from edgespeech.errors import bad
from edgespeech.systems._shared import ready

_MODEL = "whisper-base"
_FRAMING = "WebSocket + TLS 1.3 record + TCP/IPv4 with timestamps; no connection set-up, no bare ACKs"


class CloudWhisperBase(Recogniser):
    """Whisper base (Radford et al., 2022) in a separate server process, reached over loopback.

    The network between the two is added afterwards, by replaying the trace over a link.
    """

    name = "cloud-whisper-base"
    kind = Kind.CLOUD
    languages = tuple(LANGUAGES.split())
    takes_context = True
    summary = "faster-whisper base, int8, behind a WebSocket server; audio goes there as Opus"

    def __init__(self, *, weights: str | None = None, threads: int = 1, silence_s: float = 0.7) -> None:
        """Set the options.

        Args:
            weights: a folder with the weights, instead of the usual sources.
            threads: of the server's CPU.
            silence_s: trailing silence after which the server ends an utterance.

        Raises:
            EdgeSpeechError: `silence_s` is out of range.
        """
        self._path = None if weights is None else Path(weights)
        self._threads = threads
        self._rule = SegmentRule(silence_s=silence_s)
        self._server: ServerProcess | None = None

    def context_remarks(self, context: Sequence[str], weights: Sequence[float] = ()) -> Sequence[str]:
        """That the list's weights are not used, if it has any.

        Raises:
            EdgeSpeechError: the list is larger than the protocol allows.
        """
        if len(context) > MAX_PHRASES:
            raise bad(self.name, "number of context phrases", len(context), f"at most {MAX_PHRASES}")
        for phrase in context:
            if len(phrase) > MAX_PHRASE:
                raise bad(
                    self.name, "context phrase", phrase[:40] + "...", f"at most {MAX_PHRASE} characters"
                )
        return ("the weights of context phrases are not used",) if weights else ()

    def missing(self) -> str | None:
        """The missing package or weights."""
        for module, package in (
            ("websockets", "websockets"),
            ("av", "av"),
            ("faster_whisper", "faster-whisper"),
        ):
            if find_spec(module) is None:
                return f"package {package} is not installed"
        return weights_available(_MODEL, self._path)

    def load(self) -> SystemInfo:
        """Verify the weights, start the server and wait until it has loaded them.

        Raises:
            EdgeSpeechError: there are no weights, or the server does not start.
        """
        weights = resolve_weights(_MODEL, self._path)
        self._server = ServerProcess(
            backend="edgespeech.cloud.whisper_backend:build_whisper",
            options={"folder": str(weights.folder), "threads": self._threads},
            rule=self._rule,
        )
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            chunk_s=0.1,
            config={
                **settings(weights, self._threads),
                "codec": DESCRIPTION,
                "frames_per_message": FRAMES_PER_MESSAGE,
                "framing": _FRAMING,
                "vad": f"Silero v6 of faster-whisper {version('faster-whisper')}",
                "silence_s": self._rule.silence_s,
                "padding_s": self._rule.padding_s,
                "speech": self._rule.speech,
                "no_speech": self._rule.no_speech,
            },
            notes=(
                f"audio: {DESCRIPTION}, {FRAMES_PER_MESSAGE} frames per message",
                f"bytes: {_FRAMING}",
                f"the server ends an utterance after {self._rule.silence_s:g} s of silence by its VAD, "
                "or at the end of the file",
                "where the VAD never finds speech, the whole audio is recognised at the end of the file",
                f"beam {OPTIONS['beam_size']}, temperature 0, no fallback",
                "the connection is open before the utterance starts",
            ),
            **facts(weights),
        )

    def open(self, request: Request) -> CloudStream:
        """Connect a stream.

        Raises:
            EdgeSpeechError: not loaded, or the server does not answer.
        """
        server = ready(self, self._server, request)
        return CloudStream(server.url, server.token, request)

    def helper_pids(self) -> Sequence[int]:
        """The server's processes."""
        return () if self._server is None else self._server.pids

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.stop()
            self._server = None
