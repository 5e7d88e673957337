"""The network between device and cloud: profiles, and the seeded link that says when a message arrives."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np

from edgespeech.contracts import LinkProfile
from edgespeech.core.files import visible
from edgespeech.core.yaml_files import load_yaml
from edgespeech.errors import EdgeSpeechError, bad

PROFILES_ENV = "EDGESPEECH_PROFILES"
"""Names a folder whose `*.yaml` files hold further profiles."""
RTO_FLOOR_S = 0.2
"""Least retransmission time-out: what Linux uses (TCP_RTO_MIN); RFC 6298 would allow a second."""
RTO_CEILING_S = 60.0
"""Most that a time-out grows to by doubling (RFC 6298, sections 2.5 and 5.5)."""

_BUILT_IN = Path(__file__).with_name("profiles")
_FIELDS = {f.name: f for f in fields(LinkProfile) if f.name != "name"}
_RATES = ("up_bps", "down_bps")


def load_profiles(folder: Path | None = None) -> dict[str, LinkProfile]:
    """The network profiles of this package's folder `profiles` and those of one more folder, by name.

    Args:
        folder: holds further `*.yaml` files, each a mapping of profile name to fields; None: the folder that
            the environment variable `EDGESPEECH_PROFILES` names, if it is set.

    Raises:
        EdgeSpeechError: a file cannot be read, or a profile has an unknown key, a wrong type, a value out of
            range or a name that is taken.
    """
    if folder is None and os.environ.get(PROFILES_ENV):
        folder = Path(os.environ[PROFILES_ENV])
    files = visible(_BUILT_IN, "*.yaml")
    if folder is not None:
        if not folder.is_dir():
            raise bad(PROFILES_ENV, "folder", str(folder), "an existing folder")
        files += visible(folder, "*.yaml")
    profiles: dict[str, LinkProfile] = {}
    for file in files:
        for name, values in _read(file).items():
            if name in profiles:
                raise bad(file.name, "profile", name, "a name that no other profile has")
            profiles[name] = make_profile(name, values, where=file.name)
    return profiles


def make_profile(name: str, values: object, *, where: str) -> LinkProfile:
    """A validated profile.

    Args:
        name: the profile's name.
        values: mapping of field names to numbers; a profile with `available: false` needs nothing else.
        where: what errors name, the file for instance.

    Raises:
        EdgeSpeechError: a key is unknown or missing, a type is wrong, or a value is out of range.
    """
    where = f"{where}: profile {name}"
    if not isinstance(values, Mapping):
        raise bad(where, "value", values, "a mapping of fields")
    for key, value in values.items():
        if key not in _FIELDS:
            raise bad(where, "key", key, f"one of {', '.join(_FIELDS)}")
        if key == "available":
            if not isinstance(value, bool):
                raise bad(where, key, value, "true or false")
        elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise bad(where, key, value, "a finite number, such as 0.5 or 1.0e+6")
    available = values.get("available", True)
    numbers: dict[str, Any] = {}
    for key, spec in _FIELDS.items():
        if key in values:
            numbers[key] = values[key] if key == "available" else float(values[key])
        elif spec.default is MISSING:
            if available:
                raise bad(where, key, None, "a number (it is missing)")
            numbers[key] = 0.0
    profile = LinkProfile(name=name, **numbers)
    _check(profile, where)
    return profile


class Link:
    """One seeded network, both directions; the same seed gives the same arrival times.

    FIFO per direction: a message of n bytes sent at s arrives at `max(s, link_free) + n * 8 / rate + rtt / 2
    + jitter` (measurement definitions, section 2), and never before the one sent before it, as in TCP. Jitter
    is uniform in `+- jitter_s / 2` each way, so that the round trip is `rtt_s +- jitter_s`. A lost message is
    sent again one RTO later, `max(0.2 s, 2 * rtt)`, and the RTO doubles if it is lost again; meanwhile the
    link is free for others. In an outage nothing leaves, in either
    direction: a message waits for its end, and one already on its way gets through. Up and down times are
    exponential and start in their long-run shares.
    """

    def __init__(self, profile: LinkProfile, seed: int) -> None:
        _check(profile, f"profile {profile.name}")
        up, down, outage = np.random.SeedSequence(seed).spawn(3)
        self._outages = _Outages(profile, np.random.default_rng(outage))
        self._up = _Direction(profile, profile.up_bps, np.random.default_rng(up), self._outages)
        self._down = _Direction(profile, profile.down_bps, np.random.default_rng(down), self._outages)

    def send_up(self, n_bytes: int, at_s: float) -> float:
        """Send a message of `n_bytes` (on the wire) from device to cloud at `at_s`; return its arrival time.

        Messages of a direction are sent in the order of the calls.

        Returns:
            Seconds; infinity when there is no network, or when `at_s` is infinite.

        Raises:
            EdgeSpeechError: a negative size, or a time that is negative or not a number.
        """
        return self._up.send(n_bytes, at_s)

    def send_down(self, n_bytes: int, at_s: float) -> float:
        """Send a message from cloud to device; otherwise as `send_up`."""
        return self._down.send(n_bytes, at_s)


class _Direction:
    """One direction of a link: when it is free, and the last arrival."""

    def __init__(
        self, profile: LinkProfile, rate_bps: float, rng: np.random.Generator, outages: _Outages
    ) -> None:
        self._profile = profile
        self._rate_bps = rate_bps
        self._rng = rng
        self._outages = outages
        self._free_s = 0.0
        self._last_arrival_s = 0.0

    def send(self, n_bytes: int, at_s: float) -> float:
        if n_bytes < 0:
            raise bad("link", "n_bytes", n_bytes, "at least 0")
        if math.isnan(at_s) or at_s < 0:
            raise bad("link", "at_s", at_s, "a time of at least 0 s")
        profile = self._profile
        if not profile.available or math.isinf(at_s):
            return math.inf
        transmission_s = n_bytes * 8 / self._rate_bps
        leaves_s = self._outages.clear(max(at_s, self._free_s))
        self._free_s = leaves_s + transmission_s
        half = profile.jitter_s / 2
        jitter_s = float(self._rng.uniform(-half, half))
        rto_s = max(RTO_FLOOR_S, 2 * profile.rtt_s)
        while self._rng.random() < profile.loss:
            leaves_s = self._outages.clear(leaves_s + rto_s)
            rto_s = min(2 * rto_s, RTO_CEILING_S)
        arrival_s = leaves_s + transmission_s + profile.rtt_s / 2 + jitter_s
        self._last_arrival_s = max(self._last_arrival_s, arrival_s)
        return self._last_arrival_s


class _Outages:
    """Alternating exponential up and down times, drawn as far as somebody asks."""

    def __init__(self, profile: LinkProfile, rng: np.random.Generator) -> None:
        share, self._down_mean_s = profile.outage_share, profile.outage_mean_s
        self._rng = rng
        self._spans: list[tuple[float, float]] = []
        self._known_until_s = 0.0 if share > 0 else math.inf
        if share > 0:
            self._up_mean_s = self._down_mean_s * (1 - share) / share
            if rng.random() < share:
                self._add(0.0)

    def _add(self, start_s: float) -> None:
        end_s = start_s + float(self._rng.exponential(self._down_mean_s))
        self._spans.append((start_s, end_s))
        self._known_until_s = end_s

    def clear(self, t_s: float) -> float:
        """The first time from `t_s` on that is not in an outage."""
        while self._known_until_s <= t_s:
            self._add(self._known_until_s + float(self._rng.exponential(self._up_mean_s)))
        for start_s, end_s in reversed(self._spans):
            if start_s <= t_s < end_s:
                return end_s
            if end_s <= t_s:
                break
        return t_s


def _check(profile: LinkProfile, where: str) -> None:
    """Refuse values out of range."""
    for key in ("rtt_s", "jitter_s", "outage_mean_s"):
        if not getattr(profile, key) >= 0:
            raise bad(where, key, getattr(profile, key), "at least 0")
    if profile.jitter_s > profile.rtt_s:
        raise bad(where, "jitter_s", profile.jitter_s, f"at most rtt_s ({profile.rtt_s})")
    for key in ("loss", "outage_share"):
        if not 0 <= getattr(profile, key) < 1:
            raise bad(where, key, getattr(profile, key), "at least 0 and below 1")
    if profile.outage_share > 0 and profile.outage_mean_s == 0:
        raise bad(where, "outage_mean_s", profile.outage_mean_s, "above 0, since outage_share is")
    for key in _RATES:
        if profile.available and not getattr(profile, key) > 0:
            raise bad(where, key, getattr(profile, key), "above 0")


def _read(file: Path) -> Mapping[str, object]:
    """The mapping in a YAML file; its keys are strings."""
    try:
        content = load_yaml(file, name=file.name)
    except OSError as error:
        raise EdgeSpeechError(f"{file.name}: cannot be read as YAML: {error}") from error
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise bad(file.name, "content", content, "a mapping of profile names to fields")
    return content
