"""Device and cloud together: the device recognises, and a language model in the cloud reranks its lattice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from edgespeech.biasing.phrases import BOOST, PhraseBias, check_boost
from edgespeech.cloud.process import ServerProcess
from edgespeech.contracts import Kind, Samples, Stream, SystemInfo
from edgespeech.core.places import networks_file
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.search.settings import CHUNK_S, FINAL_S, SearchSettings
from edgespeech.systems._edge import CITATION, EdgeRecogniser, ending
from edgespeech.systems.edge_fp32 import EdgeFp32

BEAM, MERGE = 8, 2
"""Labels that distinguish states of the device's search, equal to the predictor's context."""
WIDTH = 8.0
"""Pruning beam of sent lattices, in nats."""
ENDPOINTS = ("silence", "learned")
AHEAD_S = 0.2
"""How much earlier than the final a speculative result is published, as in the article."""
ANSWER_DEADLINE_S = 0.5
"""How long after its own final the device accepts an answer: a longer wait feels like a failure."""
SECOND_BOOST = BOOST
"""Bonus of a letter of a context phrase in sent lattices, in nats, instead of that of the device's search. It is the
same as long as nobody has chosen another on tuning speech."""
TIMEOUT_S = 30.0
"""How long a measurement waits for the last answer, to record its cost."""


class Hybrid(EdgeRecogniser):
    """The on-device recogniser with a second pass over a link; by default the server is a process on this machine.

    The network between the two is added afterwards, by replaying the trace over a link.
    """

    name = "hybrid"
    kind = Kind.HYBRID
    summary = "our RNN-T on the device; its lattices go to a language model in the cloud"
    takes_lead_in = False
    shipped = SearchSettings(beam=BEAM)

    def __init__(
        self,
        *,
        beam: int = BEAM,
        endpoint: str = "silence",
        final_s: float = FINAL_S,
        ahead_s: float = AHEAD_S,
        answer_deadline_s: float = ANSWER_DEADLINE_S,
        timeout_s: float = TIMEOUT_S,
        server: str | None = None,
        boost: float = BOOST,
        second_boost: float = SECOND_BOOST,
    ) -> None:
        """Set the options.

        Args:
            beam: number of states of the search.
            endpoint: what ends an utterance: `silence` of the decoder, or the `learned` end-pointer of
                `replication/endpointing`, with its shipped thresholds.
            final_s: pause of the decoder that ends an utterance; only with `silence`.
            ahead_s: how much shorter the pause is that publishes a speculative result; only with `silence`.
            answer_deadline_s: how long after its own final the device accepts an answer.
            timeout_s: how long a measurement waits for the last answer.
            server: URL of a second pass (`ws://.../v1/rescore` of `edgespeech serve --second-pass`), whose token is
                in the environment; None: one is started here.
            boost: bonus of a letter of a context phrase in the device's search, in nats.
            second_boost: the same in sent lattices, whose scores do not hold the former.

        Raises:
            EdgeSpeechError: an option is out of range.
        """
        super().__init__(beam=beam, final_s=final_s, boost=boost)
        check_boost(second_boost, self.name)
        if self._final_s is None:  # the command line may say null, which the other recognisers take
            raise bad(self.name, "final_s", None, "seconds, above 0")
        if endpoint not in ENDPOINTS:
            raise bad(self.name, "endpoint", endpoint, " or ".join(ENDPOINTS))
        for option, value in (("answer_deadline_s", answer_deadline_s), ("timeout_s", timeout_s)):
            if not value > 0:
                raise bad(self.name, option, value, "seconds, above 0")
        if not 0 < ahead_s < final_s:
            raise bad(self.name, "ahead_s", ahead_s, f"above 0 and below final_s, {final_s:g}")
        self._endpoint, self._silence_s, self._ahead_s = endpoint, final_s, ahead_s
        self._answer_deadline_s, self._timeout_s = answer_deadline_s, timeout_s
        self._second_bonus = second_boost / boost if boost else 0.0
        self._elsewhere = server
        self._server: ServerProcess | None = None

    def files(self) -> dict[str, Path]:
        """Those of `edge-fp32`, of the second pass and of the end-pointer."""
        from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, second_pass_folder

        folder = second_pass_folder()
        networks = {networks_file().name: networks_file()} if self._endpoint == "learned" else {}
        return {
            **EdgeFp32().files(),
            **{name: folder / name for name in (LM, SCALES, VOCABULARY)},
            **networks,
        }

    def missing(self) -> str | None:
        """The missing package or models."""
        from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, second_pass_folder

        if find_spec("websockets") is None:
            return "package websockets is not installed"
        folder = second_pass_folder()
        for name in (LM, SCALES, VOCABULARY):
            if not (folder / name).is_file():
                return f"no second pass in {folder}: it has no {name}"
        if self._endpoint == "learned" and not networks_file().is_file():
            return f"no end-pointing networks in {networks_file().parent}"
        return EdgeFp32().missing()

    def load(self) -> SystemInfo:
        """Load the device's model, start the server and wait until it has loaded its own.

        Raises:
            EdgeSpeechError: a model is missing or damaged, or the server does not start.
        """
        from edgespeech.core.files import sha256_file
        from edgespeech.endpointing.networks import load_networks
        from edgespeech.endpointing.scorers import chosen_thresholds
        from edgespeech.lattice.codec import Precision, Vocabulary
        from edgespeech.model.checkpoint import WEIGHTS, load_model, model_files
        from edgespeech.secondpass.device import Device
        from edgespeech.secondpass.folder import LM, SCALES, VOCABULARY, second_pass_folder
        from edgespeech.secondpass.model import load_lm
        from edgespeech.secondpass.tuning import load_scales

        folder, cloud = EdgeFp32().folder(), second_pass_folder()
        trained, lm = load_model(folder), load_lm(cloud / LM)
        learned = self._endpoint == "learned"
        end = {"final_s": self._silence_s, "ahead_s": self._ahead_s}
        self._networks, parameters = None, trained.model.parameters_deployed + lm.parameters
        if learned:
            self._networks = load_networks(networks_file(), sha256_file(folder / WEIGHTS))
            end = chosen_thresholds(self._networks)._asdict()
            networks = self._networks.named().values()  # all of them are in the file
            parameters += sum(p.numel() for network in networks for p in network.parameters())
        self._device = Device(
            trained=trained,
            beam=self._beam,
            merge=MERGE,
            width=WIDTH,
            vocabulary=Vocabulary.load(cloud / VOCABULARY),
            precision=Precision(),
            answer_deadline_s=self._answer_deadline_s,
            timeout_s=self._timeout_s,
            second_bonus=self._second_bonus,
        )
        self._pieces = trained.tokeniser.pieces
        self.close()
        if self._elsewhere is None:
            self._server = _start()
        self._stream = self._open
        files = {name: folder / name for name in model_files(folder)}
        files |= {f"second pass, {name}": cloud / name for name in (LM, SCALES, VOCABULARY)}
        files |= {"end-pointer": networks_file()} if learned else {}
        config = {
            "model": trained.model.config.to_mapping(),
            "beam": self._beam,
            "merge": MERGE,
            "width": WIDTH,
            "step": self._device.precision.step,
            "endpoint": self._endpoint,
            **end,
            "answer_deadline_s": self._answer_deadline_s,
            "boost": self._boost,
            "second_bonus": self._second_bonus,
            "scales": {name: str(scales) for name, scales in load_scales(cloud / SCALES).items()},
            "provenance": trained.provenance,
            "second_pass": lm.provenance,
        }
        return SystemInfo(
            name=self.name,
            kind=self.kind,
            model_bytes=sum(path.stat().st_size for path in files.values()),
            parameters=parameters,
            chunk_s=CHUNK_S,
            citation=CITATION,
            config=config,
            model_sha256={name: sha256_file(path) for name, path in files.items()},
            notes=(
                "ends an utterance where the learned end-pointer does, and speculates before it"
                if learned
                else f"{ending(self._silence_s)}, and speculates {self._ahead_s:g} s earlier",
                f"the device's own result stands where no answer comes within {self._answer_deadline_s:g} s of it",
                "model bytes are those of the device and of the second pass together"
                + (", and of the end-pointer's networks" if learned else ""),
                "bytes: WebSocket + TLS 1.3 record + TCP/IPv4 with timestamps; no connection set-up, no bare ACKs",
                "the connection is open before the utterance starts",
            ),
        )

    def _open(self, bias: PhraseBias | None, lead_in: Samples | None) -> Stream:
        """A stream; if no second pass is available, it is the device's alone, and its trace says why."""
        assert lead_in is None, "it takes none"
        from edgespeech.cloud.access import TOKEN_ENV
        from edgespeech.cloud.second_pass import SecondPassStream
        from edgespeech.endpointing.scorers import learned_policy, silence_policy
        from edgespeech.secondpass.device import HybridStream

        if self._networks is not None:
            policy = learned_policy(self._networks, again=True)
        else:
            policy = silence_policy(self._silence_s, self._ahead_s, again=True)
        connection, notes = None, []
        try:
            if self._elsewhere is not None:
                connection = SecondPassStream(self._elsewhere, os.environ.get(TOKEN_ENV, ""))
            else:
                if self._server is None or not self._server.alive():
                    self._server = _start()
                connection = SecondPassStream(self._server.rescore_url, self._server.token)
        except EdgeSpeechError as error:
            notes.append(str(error))
        return HybridStream(self._device, policy, connection, notes, bias)

    def helper_pids(self) -> Sequence[int]:
        """The server's processes."""
        return () if self._server is None else self._server.pids

    def close(self) -> None:
        """Stop the server and release the model."""
        super().close()
        if self._server is not None:
            self._server.stop()
            self._server = None


def _start() -> ServerProcess:
    """A server for lattices alone, in a separate process."""
    return ServerProcess(
        backend=None,
        rescorer="edgespeech.secondpass.service:build_second_pass",
    )
