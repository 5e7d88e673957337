"""The link model's rate against the kernel's own shaping, in a network namespace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.fakes import BACKEND, DETECTOR, tone
from edgespeech.contracts import Event, EventKind, LinkProfile, RemoteTrace, Reply
from edgespeech.harness.replay import replay
from edgespeech.records.trace import Chunk, Trace

RATE_BPS = 160_000
NAMESPACE = f"edgespeech-test-{os.getpid()}"
LIVE = f"""
import json
from cloud.fakes import tone
from harness.test_live import Echo
from edgespeech.harness.live import run_live
from edgespeech.cloud.process import ServerProcess
from edgespeech.contracts import Request
with ServerProcess(backend={BACKEND!r}, options={{"length": 5}}, detector={DETECTOR!r}) as server:
    request = Request(utterance_id="u", context=("x" * 100,) * 200)
    live = run_live(Echo(server), tone(0.5), request)
print(json.dumps([live.final_s, live.sent_bytes, live.reply_bytes]))
"""


def ip(*arguments: str) -> None:
    made = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no shaped network namespace here: ip {arguments[0]}: {made.stderr.strip()}")


@pytest.fixture
def shaped() -> Iterator[list[str]]:
    """The start of a command that runs in a namespace whose loopback passes `RATE_BPS`."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    inside = ["ip", "netns", "exec", NAMESPACE]
    try:
        ip("netns", "add", NAMESPACE)
        ip("-n", NAMESPACE, "link", "set", "lo", "up", "mtu", "1500")
        ip(
            "netns",
            "exec",
            NAMESPACE,
            *f"tc qdisc add dev lo root tbf rate {RATE_BPS} burst 1600 limit 1000000".split(),
        )
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], capture_output=True, check=False)


@pytest.mark.netns
def test_a_long_message_takes_as_long_as_the_link_model_says(shaped: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    made = subprocess.run(
        [*shaped, sys.executable, "-c", LIVE],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    final_s, sent, replied = json.loads(made.stdout)
    assert sent[0] > 20_000  # the context, more than a second on this link
    chunks = tuple(Chunk(ready_s=min(0.1 * (i + 1), 0.5), compute_s=0.0) for i in range(6))
    # hello and the first audio with the first chunk, one message per chunk, then what finish sends.
    causes = [0, 0, 1, 2, 3, 4, 5, 5]
    trace = Trace(
        utterance_id="u",
        duration_s=len(tone(0.5)) / 16000,
        chunks=chunks,
        events=tuple((c, Event(kind=EventKind.SENT, n_bytes=n)) for c, n in zip(causes, sent, strict=True)),
        remote=RemoteTrace(
            compute_s=(0.0,) * len(sent),
            replies=(
                Reply(after_message=len(sent) - 1, n_bytes=replied[0], event=Event(kind=EventKind.FINAL)),
            ),
        ),
    )
    profile = LinkProfile(name="shaped", rtt_s=0.0, jitter_s=0.0, up_bps=RATE_BPS, down_bps=RATE_BPS)
    final = replay(trace, profile, seed=0, cloud_speedup=1.0).last(EventKind.FINAL)
    assert final is not None
    assert final.t_s > 1.1
    # Acknowledgements share the shaped interface: about a twentieth more.
    assert final_s == pytest.approx(final.t_s, rel=0.1)
