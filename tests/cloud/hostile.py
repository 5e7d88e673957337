"""Every kind of hostile client beside one honest one, against a real server process, on loopback only.

`python tests/cloud/hostile.py --profile full --publish` takes about ten minutes, adds a record to `results/server/`
and renders its table into `docs/server.md`. All is bounded in count and time. CI runs the `tiny` profile on fakes and
asserts nothing that a busy machine could change: every honest request is answered rightly, and the server ends.

Attackers come from elsewhere, and cannot take the server's processor but through its socket. So the last core is theirs
alone, and the server, the processes of its models and the honest client have all others, undisturbed and under attack.
Where there is one core, or the system cannot bind processes to cores, they share, and the attackers give way (nice 19).
The record's note says which of both it was.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a script, it imports what tests do

from cloud.fakes import BACKEND, DETECTOR, RESCORER, importable, tone
from cloud.hostile_clients import HOLDERS, STRANGERS, Target, attack, long_audio
from edgespeech.cloud.client import CloudStream
from edgespeech.cloud.limits import Limits
from edgespeech.cloud.process import ServerProcess
from edgespeech.cloud.protocol import Final
from edgespeech.cloud.second_pass import SecondPassStream
from edgespeech.contracts import SAMPLE_RATE, Request, Samples
from edgespeech.core.files import write_atomic
from edgespeech.core.places import project_root, results_dir
from edgespeech.errors import EdgeSpeechError
from edgespeech.lattice.codec import Vocabulary, encode
from edgespeech.lattice.lattice import Arc, Lattice
from edgespeech.lattice.lattice import Final as End
from edgespeech.records.provenance import package_versions
from edgespeech.report.side_records import record_head, write_side_record
from edgespeech.report.text import markdown_table
from helpers_page import between_marks

FORMAT = "edgespeech-hostile-1"
ATTACKERS = 8
"""Tokens of the attackers; the honest client has one of its own."""
WINDOW_S = 0.3
PAGE = project_root() / "docs" / "server.md"


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """How much of it.

    Attributes:
        clients: at a time, so many with a token and so many without.
        seconds: of each kind.
        undisturbed: pairs of honest requests before the attacks, and after them.
        rest_s: of the honest client after each pair.
        real: the real second pass, and a recogniser that sleeps `WINDOW_S` for every 30 s of audio; or fakes of both.
        together: all kinds at the same time, so many clients of each.
    """

    clients: int
    seconds: float
    undisturbed: int
    rest_s: float
    real: bool
    together: bool = False


PROFILES = {
    "tiny": Profile(clients=2, seconds=3.0, undisturbed=1, rest_s=0.0, real=False, together=True),
    "fakes": Profile(clients=300, seconds=30.0, undisturbed=20, rest_s=1.5, real=False),
    "full": Profile(clients=300, seconds=30.0, undisturbed=12, rest_s=6.0, real=True),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cores:
    """Whose cores are whose.

    Attributes:
        server: of the server, of the processes of its models, and of the honest client.
        attackers: of the attackers; the same ones where they share.
    """

    server: tuple[int, ...]
    attackers: tuple[int, ...]

    @property
    def note(self) -> str:
        """What a reader of the figures must know of it."""
        if self.server == self.attackers:
            shared = "the attackers shared the server's cores and gave way to it (nice 19)"
        else:
            shared = (
                f"the attackers had {_named(self.attackers)} alone, and the server, its models and the honest "
                f"client {_named(self.server)}, undisturbed and under attack"
            )
        return f"{shared}; other work ran on the machine; every ratio is within this run"


def _named(cores: tuple[int, ...]) -> str:
    return f"core{'s' * (len(cores) > 1)} {', '.join(map(str, cores))}"


def cores_for(usable: set[int] | None) -> Cores:
    """The last usable core for the attackers and all others for the server; one core, or None, is for both."""
    if usable is None or len(usable) == 1:
        shared = tuple(sorted(usable or ()))
        return Cores(server=shared, attackers=shared)
    *others, last = sorted(usable)
    return Cores(server=tuple(others), attackers=(last,))


def usable_cores() -> set[int] | None:
    """Those that this process may use; None where the system does not say."""
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


@contextmanager
def on(cores: tuple[int, ...]) -> Iterator[None]:
    """Bind this thread, and the processes that it starts, to some cores; none: leave it as it is."""
    before = usable_cores()
    if before is None or not cores:
        yield
        return
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Honest:
    """One client that asks for what the server is there for; each request must get the answer of the first one."""

    def __init__(self, server: ServerProcess, samples: Samples, lattice: bytes) -> None:
        self._server = server
        self._samples = samples
        self._lattice = lattice
        self._wanted: dict[str, str] = {}

    def ask(self, kind: str) -> dict[str, Any]:
        """One request: whether it was answered as the first one of its kind, and in how many seconds."""
        began = time.monotonic()
        try:
            text, problem = (self._rescored() if kind == "rescore" else self._recognised()), None
        except EdgeSpeechError as error:
            text, problem = None, str(error)
        took = time.monotonic() - began
        if text is not None and self._wanted.setdefault(kind, text) != text:
            problem = f"{text!r} came, and {self._wanted[kind]!r} before"
        return {"kind": kind, "seconds": round(took, 4), "problem": problem}

    def _rescored(self) -> str:
        stream = SecondPassStream(self._server.rescore_url, self._server.tokens[0], trace=False)
        try:
            stream.send(self._lattice, bool)
            text = stream.answer(120)
            if text is None:
                raise EdgeSpeechError("; ".join(stream.notes) or "no answer")
            return text
        finally:
            stream.close()

    def _recognised(self) -> str:
        request = Request(utterance_id="honest")
        stream = CloudStream(self._server.url, self._server.tokens[0], request, trace=False)
        try:
            for at in range(0, len(self._samples), 1600):
                stream.accept(self._samples[at : at + 1600])
            stream.finish()
            finals = [one.message for one in stream.receive() if isinstance(one.message, Final)]
            return " ".join(final.text for final in finals)
        finally:
            stream.close()


class Memory(threading.Thread):
    """Samples the resident memory of the server's processes, all together."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._over = threading.Event()
        self.peak = 0

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._over.wait(0.25):
            self._sample()

    def _sample(self) -> None:
        self.peak = max(self.peak, sum(map(_resident, self._server.pids)))

    def take(self) -> int:
        """The peak since it was taken last, in bytes."""
        self._sample()
        peak, self.peak = self.peak, 0
        return peak

    def stop(self) -> None:
        """Sample no more."""
        self._over.set()
        self.join()


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def rounds(*, together: bool) -> list[tuple[str, ...]]:
    """Kinds of clients that attack together: each kind with a token at least once beside one without."""
    if together:
        return [(*HOLDERS, *STRANGERS)]
    strangers = itertools.cycle(STRANGERS)
    return [(holder, next(strangers)) for holder in HOLDERS]


def run(profile: Profile, told: Callable[[str], object] = sys.stderr.write) -> dict[str, Any]:
    """Attack a server, and return the record of it."""
    cores = cores_for(usable_cores())
    with on(cores.server):
        return _run(profile, cores, told)


def _run(profile: Profile, cores: Cores, told: Callable[[str], object]) -> dict[str, Any]:
    load, head = os.getloadavg()[0], record_head(FORMAT)
    vocabulary, lattice, samples = _honest_requests(profile)
    audio = long_audio(2.0 if profile.together else Limits().max_audio_s - 1)
    with _started(profile) as server:
        target = Target(server.port, server.tokens[1:], vocabulary, audio)
        honest, memory = Honest(server, samples, lattice), Memory(server)
        memory.start()
        _asked(honest, None, 1, 0.0)  # the first ones warm up
        memory.take()
        undisturbed = _asked(honest, None, profile.undisturbed, profile.rest_s)
        resident = memory.take()
        told(f"undisturbed: {_medians(undisturbed)}, {resident / 2**20:.0f} MiB\n")
        found: list[dict[str, Any]] = []
        for names in rounds(together=profile.together):
            kinds = [(name, profile.clients) for name in names]
            holder, stranger = names if len(names) == 2 else ("every kind", "every kind")
            with _attacked(target, kinds, profile.seconds, cores) as attackers:
                asked = _asked(honest, attackers, 1, profile.rest_s)
            peak = memory.take()
            found.append({"holder": holder, "stranger": stranger, "asked": asked, "resident_bytes": peak})
            told(f"{holder} + {stranger}: {_medians(asked)}, {peak / 2**20:.0f} MiB\n")
        after = _asked(honest, None, profile.undisturbed, profile.rest_s)
        worst = [(name, profile.clients) for name in itertools.islice(HOLDERS, 1)]
        with _attacked(target, worst, profile.seconds, cores):
            time.sleep(min(5.0, profile.seconds))
            memory.stop()
            end_s = _ended_in(server)
    return {
        **head,
        "cores": os.cpu_count(),
        "packages": package_versions(),
        "load_before": round(load, 1),
        "cores_of": asdict(cores),
        "note": cores.note,
        "profile": asdict(profile),
        "limits": asdict(Limits()),
        "undisturbed": undisturbed,
        "undisturbed_after": after,
        "resident_bytes": resident,
        "rounds": found,
        "sigterm_s": round(end_s, 3),
    }


def _honest_requests(profile: Profile) -> tuple[Vocabulary, bytes, Samples]:
    if not profile.real:
        return Vocabulary(), b"two lattes", tone(0.5)
    from edgespeech.secondpass.folder import VOCABULARY, second_pass_folder

    vocabulary = Vocabulary.load(second_pass_folder() / VOCABULARY)
    arcs = [
        Arc(node, node + 1, word, -1.0 - place, start=5 * node, end=5 * node + 5)
        for node, words in enumerate(["turn learn", "on", "the a", "lights", "in", "the a", "kitchen"])
        for place, word in enumerate(sorted(words.split()))
    ]
    times = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    speech = 0.3 * np.sin(2 * np.pi * 150 * times) * (1 + np.sin(2 * np.pi * 4 * times)) / 2
    return vocabulary, encode(Lattice(tuple(arcs), (End(7),)), vocabulary), speech.astype(np.float32)


def _started(profile: Profile) -> ServerProcess:
    with importable():
        if not profile.real:
            return ServerProcess(
                backend=BACKEND, detector=DETECTOR, rescorer=RESCORER, tokens=1 + ATTACKERS, limits=Limits()
            )
        return ServerProcess(
            backend=BACKEND,
            options={"window_s": WINDOW_S},
            detector=DETECTOR,
            rescorer="edgespeech.secondpass.service:build_second_pass",
            tokens=1 + ATTACKERS,
            limits=Limits(),
        )


class _attacked:  # noqa: N801 (a context manager, read as a verb)
    """The attackers' process, which ends by itself, or with the block."""

    def __init__(self, target: Target, kinds: list[tuple[str, int]], seconds: float, cores: Cores) -> None:
        self._cores = cores.attackers
        nice = 19 if cores.attackers == cores.server else 0
        self._process = multiprocessing.get_context("spawn").Process(
            target=attack, args=(target, kinds, seconds, nice), daemon=True
        )

    def __enter__(self) -> multiprocessing.process.BaseProcess:
        with on(self._cores):
            self._process.start()
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.join(30)
        self._process.kill()
        self._process.join()


def _asked(
    honest: Honest, attackers: multiprocessing.process.BaseProcess | None, pairs: int, rest_s: float
) -> list[dict[str, Any]]:
    """So many pairs of requests, and more of them as long as somebody attacks."""
    found: list[dict[str, Any]] = []
    while pairs > 0 or (attackers is not None and attackers.is_alive()):
        found += [honest.ask("rescore"), honest.ask("recognise")]
        pairs -= 1
        time.sleep(rest_s)
    return found


def _ended_in(server: ServerProcess) -> float:
    processes = [psutil.Process(pid) for pid in server.pids]
    began = time.monotonic()
    os.kill(server.pid, signal.SIGTERM)
    psutil.wait_procs(processes, timeout=60)
    return time.monotonic() - began


def _median(asked: Sequence[dict[str, Any]], kind: str) -> float:
    return statistics.median(float(one["seconds"]) for one in asked if one["kind"] == kind)


def _medians(asked: Sequence[dict[str, Any]]) -> str:
    wrong = sum(one["problem"] is not None for one in asked)
    parts = [f"{kind} {_median(asked, kind):.3f} s" for kind in ("rescore", "recognise")]
    return f"{len(asked) - wrong} of {len(asked)} answered, {', '.join(parts)}"


def table(record: dict[str, Any]) -> str:
    """The Markdown of a record: ratios to the requests before the attacks."""
    head = (
        "with a token",
        "without",
        "answered",
        "rescoring",
        "recognition",
        "resident memory",
    )
    before, resident = record["undisturbed"], record["resident_bytes"]
    rows = []
    every: list[dict[str, Any]] = []
    for found in record["rounds"]:
        every += found["asked"]
        memory = found["resident_bytes"] / resident
        rows.append(_row(found["holder"], found["stranger"], found["asked"], before, memory))
    most = max(found["resident_bytes"] for found in record["rounds"]) / resident
    rows.append(_row("all together", "", every, before, most))
    rows.append(_row("undisturbed, afterwards", "", record["undisturbed_after"], before, None))
    profile = record["profile"]
    return (
        markdown_table(head, rows)
        + f"\n{profile['clients']} clients with one of {ATTACKERS} tokens and {profile['clients']} without one, at a "
        f"time, {profile['seconds']:g} s each kind. Undisturbed medians: rescoring "
        f"{_median(before, 'rescore'):.2f} s, recognition {_median(before, 'recognise'):.2f} s. SIGTERM under attack "
        f"ended the server in {record['sigterm_s']:.1f} s. {record['at']}, commit {record['commit'][:12]}, "
        f"{record['processor']}, {record['cores']} cores, load {record['load_before']:g} before: {record['note']}.\n"
    )


def _row(
    holder: str,
    stranger: str,
    asked: Sequence[dict[str, Any]],
    before: Sequence[dict[str, Any]],
    memory: float | None,
) -> tuple[str, ...]:
    right = sum(one["problem"] is None for one in asked)
    ratios = [f"{_median(asked, kind) / _median(before, kind):.2f}" for kind in ("rescore", "recognise")]
    return (holder, stranger, f"{right} of {len(asked)}", *ratios, "" if memory is None else f"{memory:.2f}")


def rendered(page: str, record: dict[str, Any]) -> str:
    """The page with the table of a record between its marks."""
    return between_marks(page, "hostile", table(record))


def published() -> list[Path]:
    """The records, oldest first."""
    return sorted((results_dir() / "server").glob("*.json"))


def newest() -> dict[str, Any]:
    """The record that the page shows."""
    path = published()[-1]
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def main() -> int:
    """Run a profile; the exit status tells whether every honest request was answered."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=PROFILES, default="tiny")
    parser.add_argument(
        "--publish", action="store_true", help="add the record to results/ and render the page"
    )
    arguments = parser.parse_args()
    record = run(PROFILES[arguments.profile])
    print(table(record))
    if arguments.publish:
        write_side_record("server", record)
        write_atomic(PAGE, rendered(PAGE.read_text(encoding="utf-8"), record))
    every = [one for found in record["rounds"] for one in found["asked"]]
    return int(any(one["problem"] is not None for one in every))


if __name__ == "__main__":
    sys.exit(main())
