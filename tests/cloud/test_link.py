from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespeech.cloud.link import PROFILES_ENV, Link, load_profiles, make_profile
from edgespeech.contracts import LinkProfile
from edgespeech.errors import EdgeSpeechError

PLAIN = LinkProfile(name="plain", rtt_s=0.1, jitter_s=0.0, up_bps=8_000, down_bps=80_000)


def test_published_profiles() -> None:
    profiles = load_profiles()
    assert set(profiles) == {"loopback", "wifi", "lte", "3g", "car", "offline"}
    lte = LinkProfile(name="lte", rtt_s=0.06, jitter_s=0.015, up_bps=5e6, down_bps=12e6, loss=0.005)
    assert profiles["wifi"] == LinkProfile(name="wifi", rtt_s=0.02, jitter_s=0, up_bps=20e6, down_bps=50e6)
    assert profiles["lte"] == lte
    assert profiles["3g"] == LinkProfile(
        name="3g", rtt_s=0.15, jitter_s=0.04, up_bps=0.5e6, down_bps=1.5e6, loss=0.01
    )
    assert profiles["car"] == replace(lte, name="car", outage_share=0.1, outage_mean_s=5.0)
    assert not profiles["offline"].available


def test_fifo_by_hand() -> None:
    link = Link(PLAIN, seed=0)
    # 100 bytes at 8 kbit/s take 0.1 s; half the round trip is 0.05 s.
    assert link.send_up(100, 1.0) == pytest.approx(1.15)
    # Sent while the first is on its way: it waits until 1.1, then takes 0.2 s.
    assert link.send_up(200, 1.02) == pytest.approx(1.1 + 0.2 + 0.05)
    # The link is free again long before this one.
    assert link.send_up(100, 5.0) == pytest.approx(5.15)
    # The other direction has its own queue and rate.
    assert link.send_down(100, 1.02) == pytest.approx(1.02 + 0.01 + 0.05)


def test_jitter_spreads_the_round_trip_but_never_reorders() -> None:
    profile = replace(PLAIN, jitter_s=0.04, up_bps=1e9)
    link = Link(profile, seed=1)
    far_apart = np.array([link.send_up(0, float(t)) - t for t in range(2000)])
    assert far_apart.min() >= 0.05 - 0.02
    assert far_apart.max() <= 0.05 + 0.02
    assert far_apart.mean() == pytest.approx(0.05, abs=0.001)
    assert far_apart.std() == pytest.approx(0.04 / math.sqrt(12), rel=0.05)
    close = [link.send_up(0, 3000 + i * 0.001) for i in range(500)]
    assert close == sorted(close)


def test_a_lost_message_comes_one_rto_later_and_holds_back_those_behind_it() -> None:
    profile = replace(PLAIN, loss=0.3)
    link, without = Link(profile, seed=3), Link(PLAIN, seed=3)
    late = np.array([link.send_up(1, float(10 * t)) - without.send_up(1, float(10 * t)) for t in range(2000)])
    rto = 0.2  # max(0.2, 2 * 0.1)
    kinds, counts = np.unique(np.round(late / rto).astype(int), return_counts=True)
    np.testing.assert_allclose(late, np.round(late / rto) * rto, atol=1e-9)
    assert set(kinds[:3]) == {0, 1, 3}  # once lost: one RTO; twice: the second is double
    assert counts[0] / 2000 == pytest.approx(0.7, abs=0.04)
    assert counts[1] / 2000 == pytest.approx(0.3 * 0.7, abs=0.04)
    busy = Link(replace(profile, loss=0.9), seed=0)
    first = busy.send_up(1, 0.0)
    assert first > 0.2
    assert busy.send_up(1, 0.01) >= first


def test_rto_follows_a_long_round_trip() -> None:
    profile = replace(PLAIN, rtt_s=1.0, loss=0.5)
    late = {round(Link(profile, seed).send_up(0, 0.0) - 0.5, 6) for seed in range(30)}
    assert {0.0, 2.0} <= late
    assert min(late - {0.0}) == 2.0


def test_outages_have_their_share_and_mean_and_messages_leave_after_them() -> None:
    profile = replace(PLAIN, outage_share=0.25, outage_mean_s=2.0, rtt_s=0.0, up_bps=1e12)
    link = Link(profile, seed=7)
    step = 0.05
    times = np.arange(0, 20_000, step)
    waits = np.array([link.send_up(0, float(t)) - t for t in times])
    down = waits > 1e-9
    starts = np.flatnonzero(down & ~np.roll(down, 1))
    assert down.mean() == pytest.approx(0.25, rel=0.1)
    assert down.sum() * step / len(starts) == pytest.approx(2.0, rel=0.1)
    # Everything queued in one outage leaves at its end.
    first, second = starts[1], starts[1] + 1
    assert waits[first] + times[first] == pytest.approx(waits[second] + times[second])


def test_an_outage_stops_both_directions() -> None:
    profile = replace(PLAIN, outage_share=0.5, outage_mean_s=3.0, rtt_s=0.0, up_bps=1e12, down_bps=1e12)
    link = Link(profile, seed=2)
    times = np.arange(0, 200, 0.1)
    up = [link.send_up(0, float(t)) for t in times]
    down = [link.send_down(0, float(t)) for t in times]
    assert up == down
    assert max(np.subtract(up, times)) > 1


def test_starts_in_an_outage_as_often_as_its_share() -> None:
    profile = replace(PLAIN, outage_share=0.3, outage_mean_s=5.0, rtt_s=0.0, up_bps=1e12)
    share = np.mean([Link(profile, seed).send_up(0, 0.0) > 0 for seed in range(1000)])
    assert share == pytest.approx(0.3, abs=0.05)


def test_same_seed_same_arrivals() -> None:
    car = load_profiles()["car"]

    def arrivals(seed: int) -> list[float]:
        link = Link(car, seed)
        ups = [link.send_up(400, 0.1 * i) for i in range(300)]
        return ups + [link.send_down(80, 0.1 * i) for i in range(300)]

    assert arrivals(5) == arrivals(5)
    assert arrivals(5) != arrivals(6)


def test_no_network_and_never_sent() -> None:
    assert Link(load_profiles()["offline"], 0).send_up(10, 1.0) == math.inf
    link = Link(PLAIN, 0)
    assert link.send_down(10, math.inf) == math.inf
    assert link.send_down(0, 1.0) == pytest.approx(1.05)


profiles_st = st.builds(
    LinkProfile,
    name=st.just("any"),
    rtt_s=st.floats(0.05, 2),
    jitter_s=st.floats(0, 0.05),
    up_bps=st.floats(1e3, 1e9),
    down_bps=st.floats(1e3, 1e9),
    loss=st.floats(0, 0.9),
    outage_share=st.sampled_from([0.0, 0.1, 0.9]),
    outage_mean_s=st.floats(0.1, 10),
)


@settings(max_examples=150, deadline=None)
@given(
    profiles_st,
    st.integers(0, 2**32),
    st.lists(st.tuples(st.integers(0, 10**5), st.floats(0, 60)), max_size=30),
    st.booleans(),
)
def test_arrivals_are_in_order_and_never_faster_than_the_link(
    profile: LinkProfile, seed: int, messages: list[tuple[int, float]], up: bool
) -> None:
    link = Link(profile, seed)
    rate = profile.up_bps if up else profile.down_bps
    last = 0.0
    for n_bytes, at in sorted(messages, key=lambda message: message[1]):
        arrival = (link.send_up if up else link.send_down)(n_bytes, at)
        fastest = at + n_bytes * 8 / rate + (profile.rtt_s - profile.jitter_s) / 2
        assert arrival >= max(last, fastest - 1e-9)
        last = arrival


@pytest.mark.parametrize(("n_bytes", "at_s"), [(-1, 0.0), (1, -0.1), (1, math.nan)])
def test_bad_messages(n_bytes: int, at_s: float) -> None:
    with pytest.raises(EdgeSpeechError, match="link: "):
        Link(PLAIN, 0).send_up(n_bytes, at_s)


def test_a_profile_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sat.yaml").write_text(
        "satellite: {rtt_s: 0.6, jitter_s: 0.0, up_bps: 1.0e+6, down_bps: 2_000_000}"
    )
    expected = LinkProfile(name="satellite", rtt_s=0.6, jitter_s=0.0, up_bps=1e6, down_bps=2e6)
    assert load_profiles(tmp_path)["satellite"] == expected
    assert "satellite" not in load_profiles()
    monkeypatch.setenv(PROFILES_ENV, str(tmp_path))
    assert load_profiles()["satellite"] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: {rtt_s: 0.1, rtt: 1}", "bad.yaml: profile x: key is 'rtt', expected one of rtt_s"),
        ("x: {rtt_s: fast}", "profile x: rtt_s is 'fast', expected a finite number"),
        ("x: {rtt_s: true}", "rtt_s is True, expected a finite number"),
        ("x: {rtt_s: .nan}", "rtt_s is nan, expected a finite number"),
        ("x: {available: 1}", "available is 1, expected true or false"),
        ("x: {rtt_s: 0.1, jitter_s: 0, up_bps: 1}", "down_bps is None, expected a number"),
        ("x: {rtt_s: 0.1, jitter_s: 0, up_bps: -1, down_bps: 1}", "up_bps is -1.0, expected above 0"),
        (
            "x: {rtt_s: 0.1, jitter_s: 0, up_bps: 1, down_bps: 1, loss: 1}",
            "loss is 1.0, expected at least 0 and",
        ),
        ("x: {rtt_s: 0.1, jitter_s: 0.2, up_bps: 1, down_bps: 1}", "jitter_s is 0.2, expected at most rtt_s"),
        ("x: {rtt_s: -0.1, jitter_s: 0, up_bps: 1, down_bps: 1}", "rtt_s is -0.1, expected at least 0"),
        (
            "x: {rtt_s: 0, jitter_s: 0, up_bps: 1, down_bps: 1, outage_share: 0.1}",
            "outage_mean_s is 0.0, expected",
        ),
        ("x: 3", "value is 3, expected a mapping of fields"),
        ("lte: {available: false}", "profile is 'lte', expected a name that no other profile has"),
        ("- lte", "content is ['lte'], expected a mapping"),
        ("x: {", "bad.yaml: not YAML"),
    ],
)
def test_bad_profiles(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(EdgeSpeechError) as caught:
        load_profiles(tmp_path)
    assert message in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(EdgeSpeechError, match="expected an existing folder"):
        load_profiles(tmp_path / "nowhere")


def test_a_profile_made_by_hand_is_checked_too() -> None:
    with pytest.raises(EdgeSpeechError, match="loss is 2, expected"):
        Link(replace(PLAIN, loss=2), 0)
    assert make_profile("off", {"available": False}, where="here").up_bps == 0
