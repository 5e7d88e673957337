"""A tiny device and a tiny second pass, sounds for them, and servers that follow a script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from edgespeech.cloud.protocol import Rescored, encode, unpack_request
from edgespeech.cloud.second_pass import SecondPassStream
from edgespeech.cloud.session import Pause
from edgespeech.contracts import (
    SAMPLE_RATE,
    EventKind,
    Kind,
    Recogniser,
    Request,
    Samples,
    Stream,
    SystemInfo,
)
from edgespeech.endpointing.frames import Frame
from edgespeech.endpointing.policy import EndPointer, Gate, Scorer
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Precision, Vocabulary, decode
from edgespeech.lattice.paths import Scales, n_best
from edgespeech.model.checkpoint import Trained, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.secondpass.device import Device, HybridStream
from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY
from edgespeech.secondpass.model import save_lm
from edgespeech.secondpass.service import NAME
from edgespeech.secondpass.tuning import save_scales
from secondpass.lm_helpers import WORDS, tiny_lm

CHUNK_S = 0.12
KNOWN = Vocabulary(WORDS[:5])
REQUEST = Request(utterance_id="u")
Script = Callable[[ServerConnection], None]


def tiny_trained() -> Trained:
    """A recogniser with random weights that says something about every sound."""
    tokeniser = Tokeniser.train([" ".join(WORDS)], 36)
    torch.manual_seed(2)
    model = Transducer(ModelConfig(vocabulary=36, layers=1, hidden=16, joiner=16, context=2))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.8)
    return Trained(model.eval().requires_grad_(False), tokeniser, {"run": "tiny"})


def save_tiny(folder: Path) -> tuple[Path, Path]:
    """The folders of a tiny device's model and of a tiny second pass."""
    trained, lm = tiny_trained(), tiny_lm(width=64)
    edge, cloud = folder / "edge", folder / "cloud"
    save_model(edge, trained.model, trained.tokeniser, trained.provenance)
    cloud.mkdir()
    save_lm(cloud / LM, lm.model, lm.tokeniser, {}, bits=8)
    save_scales(cloud / SCALES, {NAME: Scales(language=2.0, word=0.5)}, {})
    KNOWN.save(cloud / VOCABULARY)
    return edge, cloud


def noise(seconds: float, seed: int = 0) -> Samples:
    """Noise that grows and falls, so that the tiny model has something to change its mind about."""
    rng = np.random.default_rng(seed)
    count = round(seconds * SAMPLE_RATE)
    swell = np.abs(np.sin(np.linspace(0, 9, count)))
    return (0.2 * swell * rng.standard_normal(count)).astype(np.float32)


class At(Scorer):
    """Surest in the frames of these numbers, from 0."""

    def __init__(self, *frames: int) -> None:
        self._frames = frames
        self._now = -1

    def accept(self, frame: Frame) -> float:
        self._now += 1
        return float(self._now in self._frames)


class TinyHybrid(Recogniser):
    """A hybrid whose end-pointers fire in given frames of 40 ms."""

    name = "tiny-hybrid"
    kind = Kind.HYBRID
    summary = "for tests"

    def __init__(
        self,
        url: str | None,
        token: str = "t",
        *,
        early: tuple[int, ...] = (14,),
        final: tuple[int, ...] = (19,),
        answer_deadline_s: float = 5.0,
        timeout_s: float = 5.0,
        trace: bool = False,
    ) -> None:
        self.url, self.token, self.trace = url, token, trace
        self.early, self.final = early, final
        self.device = Device(
            trained=tiny_trained(),
            beam=4,
            merge=2,
            width=8.0,
            vocabulary=KNOWN,
            precision=Precision(),
            answer_deadline_s=answer_deadline_s,
            timeout_s=timeout_s,
        )

    def load(self) -> SystemInfo:
        return SystemInfo(
            name=self.name, kind=self.kind, model_bytes=0, parameters=None, chunk_s=CHUNK_S, citation="a test"
        )

    def open(self, request: Request) -> Stream:
        policy = EndPointer(Gate(At(*self.final), 1.0), Gate(At(*self.early), 1.0), again=True)
        if self.url is None:
            return HybridStream(self.device, policy, None, ["server: cannot connect: a test"])
        try:
            return HybridStream(self.device, policy, SecondPassStream(self.url, self.token, trace=self.trace))
        except EdgeSpeechError as error:
            return HybridStream(self.device, policy, None, [str(error)])


@contextmanager
def server_of(script: Script, port: int = 0) -> Iterator[str]:
    """The URL of a server whose connections follow a script."""

    def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            script(connection)

    with serve(handle, "127.0.0.1", port, close_timeout=1) as fake:
        thread = threading.Thread(target=fake.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{fake.socket.getsockname()[1]}/"
        finally:
            fake.shutdown()
            thread.join()


def answers(place: int = 1, *, first_s: float = 0.0) -> Script:
    """Answers every request with one of its lattice's best paths, the first one so much later."""

    def script(connection: ServerConnection) -> None:
        wait = threading.Event()
        for message in connection:
            assert isinstance(message, bytes)
            revision, text = read(message, place)
            if revision == 0 and first_s:
                wait.wait(first_s)
            connection.send(encode(Rescored(revision=revision, text=text)))

    return script


def read(message: bytes, place: int = 0) -> tuple[int, str]:
    """A request's revision, and one of its lattice's paths: the last of as many as there are, at the most."""
    revision, lattice = unpack_request(message)
    return revision, n_best(decode(lattice, KNOWN), place + 1)[-1].text


def kinds(events: list[EventKind]) -> str:
    """Kinds of events but partials, by their letters: s(ent), S(peculative), R(eset), E(ndpoint), F(inal)."""
    letters = {"sent": "s", "speculative": "S", "reset": "R", "endpoint": "E", "final": "F"}
    return "".join(letters[kind.value] for kind in events if kind is not EventKind.PARTIAL)


class Refusing:
    """A second pass that can read nothing, for a server's process."""

    def rescore(self, lattice: bytes, pause: Pause) -> str:
        raise EdgeSpeechError("lattice message: refused")
