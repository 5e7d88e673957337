"""Replay of a trace over a network: from compute times and bytes to the times of all events on the device.

Device and server are queues connected by a link (measurement definitions, sections 1 and 2). The same trace, profile
and seed give the same timeline.
"""

from __future__ import annotations

import math

from edgespeech.cloud.framing import wire_bytes
from edgespeech.cloud.link import Link
from edgespeech.contracts import EventKind, LinkProfile, RemoteTrace
from edgespeech.errors import bad
from edgespeech.metrics.arbitration import Answer, arbitrate
from edgespeech.records.trace import Stamped, Timeline, Trace


def replay(trace: Trace, profile: LinkProfile, *, seed: int, cloud_speedup: float) -> Timeline:
    """The timeline of `trace` over `profile`.

    Args:
        trace: of a measurement.
        profile: the network; relevant only if something was sent.
        seed: of the link's jitter, losses and outages.
        cloud_speedup: speed of the server relative to the measuring machine; > 0.
    """
    if not cloud_speedup > 0:
        raise bad("replay", "cloud_speedup", cloud_speedup, "a number above 0")
    device = _device_events(trace)
    sent = [stamped for stamped in device if stamped.event.kind is EventKind.SENT]
    up_bytes = down_bytes = 0
    remote: list[Answer] = []
    if sent and profile.available:
        up_bytes = sum(wire_bytes(stamped.event.n_bytes, up=True) for stamped in sent)
        if trace.remote is not None:
            down_bytes = sum(wire_bytes(reply.n_bytes, up=False) for reply in trace.remote.replies)
            remote = _remote_events(trace.remote, sent, Link(profile, seed), cloud_speedup)
    note: str | None = None
    if trace.remote is not None and trace.remote.answer_deadline_s is not None:
        said, note = arbitrate(device, remote, trace.remote.answer_deadline_s)
        if note is not None and not profile.available:
            note = "there is no network"
    else:
        said = [*device, *(answer.stamped for answer in remote)]
    events = tuple(sorted(said, key=lambda stamped: stamped.t_s))
    failure = trace.failure
    if failure is None and not any(stamped.event.kind is EventKind.FINAL for stamped in events):
        failure = f"no result over {profile.name}"
    return Timeline(
        trace=trace,
        network=profile.name,
        events=events,
        up_bytes=up_bytes,
        down_bytes=down_bytes,
        failure=failure,
        note=note,
    )


def _device_events(trace: Trace) -> list[Stamped]:
    """The device's own events: `f_k = max(t_k, f_{k-1}) + c_k`."""
    done: list[tuple[float, dict[str, float]]] = []
    free_s = 0.0
    for chunk in trace.chunks:
        backlog_s = max(0.0, free_s - chunk.ready_s)
        free_s = chunk.ready_s + backlog_s + chunk.compute_s
        done.append((free_s, {"listening": chunk.ready_s, "backlog": backlog_s, "compute": chunk.compute_s}))
    return [
        Stamped(event=event, t_s=done[index][0], chunk=index, parts=done[index][1])
        for index, event in trace.events
    ]


def _remote_events(trace: RemoteTrace, sent: list[Stamped], link: Link, speedup: float) -> list[Answer]:
    """The server's replies as the device receives them, without those that never arrive."""
    finished: list[tuple[float, dict[str, float]]] = []
    free_s = 0.0
    for message, compute_s in zip(sent, trace.compute_s, strict=True):
        arrival_s = link.send_up(wire_bytes(message.event.n_bytes, up=True), message.t_s)
        start_s = max(arrival_s, free_s)
        free_s = start_s + compute_s / speedup
        finished.append(
            (
                free_s,
                {
                    **message.parts,
                    "uplink": arrival_s - message.t_s,
                    "queue": start_s - arrival_s,
                    "server": compute_s / speedup,
                },
            )
        )
    answers = []
    for reply in trace.replies:
        leaves_s, parts = finished[reply.after_message]
        if reply.compute_s is not None:
            started_s = leaves_s - parts["server"]
            parts = {**parts, "server": reply.compute_s / speedup}
            leaves_s = started_s + parts["server"]
        if math.isinf(leaves_s):
            continue
        arrival_s = link.send_down(wire_bytes(reply.n_bytes, up=False), leaves_s)
        if math.isinf(arrival_s):
            continue
        stamped = Stamped(
            event=reply.event,
            t_s=arrival_s,
            chunk=sent[reply.after_message].chunk,
            remote=True,
            parts={**parts, "downlink": arrival_s - leaves_s},
        )
        answers.append(Answer(reply.after_message, stamped))
    return answers
