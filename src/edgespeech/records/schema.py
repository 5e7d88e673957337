"""The parts of a record and of its rows: validated and frozen; an unknown field is an error.

Durations are seconds, sizes are bytes; figures carry their unit. NaN is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from edgespeech.contracts import EventKind, Kind


def _not_nan(value: float) -> float:
    if math.isnan(value):
        raise ValueError("NaN is not a figure: leave it out")
    return value


Number = Annotated[float, AfterValidator(_not_nan)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Band = Literal["telephone"]
"""The frequency band of a channel; `telephone`: 300 Hz to 3.4 kHz, in 8 bit mu-law at 8 kHz."""


class Strict(BaseModel):
    """Frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Strict):
    """One number with its unit, sample size, interval and definition.

    Attributes:
        value: the number; infinite when the quantity is unbounded (no result within any time).
        unit: e.g. `ratio`, `s`, `ms`, `bytes`, `wpm`.
        n: number of values it is computed from (utterances, words or chunks, see its definition).
        used_share: share of usable values, 0 to 1.
        low: lower end of the 95 % interval, `high` the upper end; None if no interval applies.
        method: of the interval, e.g. `bootstrap over speakers, 2000 resamples`, or empty.
        definition: id of the metric in the registry.
    """

    value: Number
    unit: str
    n: Count
    used_share: Share = 1.0
    low: Number | None = None
    high: Number | None = None
    method: str = ""
    definition: str

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high come together")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        return self


class SystemRow(Strict):
    """The system: the recogniser's own `SystemInfo`. Fields may be empty for a skipped system."""

    name: str
    kind: Kind
    model_bytes: Count = 0
    parameters: Count | None = None
    chunk_s: float | None = None
    citation: str = ""
    config: Mapping[str, Any] = {}
    model_sha256: Mapping[str, Sha256] = {}
    notes: tuple[str, ...] = ()


class Subset(Strict):
    """A seeded selection of `n` utterances."""

    n: Count
    seed: int


class CorpusRow(Strict):
    """The corpus of a run.

    Attributes:
        name: corpus or split.
        manifest_sha256: of the whole manifest (`Manifest.identity`), also for a subset; None without data (skipped).
        n_utterances: utterances run; `n_failed` of them have no result and score as full deletions.
        audio_s: duration of the utterances run.
        ref_words: reference words, whitespace-separated, before any normaliser.
        subset: the selection, or None for every utterance.
        resampling: the unit of the bootstrap.
        notes: footnotes for its row.
    """

    name: str
    manifest_sha256: Sha256 | None = None
    n_utterances: Count = 0
    n_failed: Count = 0
    audio_s: float = 0.0
    ref_words: Count = 0
    subset: Subset | None = None
    resampling: Literal["speaker", "utterance"] = "utterance"
    notes: tuple[str, ...] = ()


class Condition(Strict):
    """The acoustic condition, and whether requests had context phrases.

    Attributes:
        noise: mixed in at `snr_db`, as `snr_rule` defines that.
        band: the frequency band of a channel applied after that; None: unlimited.
        context: whether requests had likely phrases.
        stream: what surrounds each utterance, and gives requests a lead-in; None: utterances alone.
    """

    noise: str | None = None
    snr_db: float | None = None
    snr_rule: str | None = None
    band: Band | None = None
    context: bool = False
    stream: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({self.noise is None, self.snr_db is None, self.snr_rule is None}) > 1:
            raise ValueError("noise, snr_db and snr_rule come together")
        return self

    @property
    def clean(self) -> bool:
        """Whether the audio is unchanged."""
        return self.noise is None and self.band is None and self.stream is None

    @property
    def label(self) -> str:
        """For tables: `clean`, `kitchen 6 dB, telephone`, `stream NAME`, perhaps with `+ context`."""
        sounds = [] if self.noise is None else [f"{self.noise} {self.snr_db:g} dB"]
        stream = [f"stream {self.stream}"] if self.stream else []
        sound = ", ".join([*sounds, *([self.band] if self.band else []), *stream]) or "clean"
        return sound + (" + context" if self.context else "")


class Provenance(Strict):
    """The code and machine of a measurement. No host, no user, no path.

    Attributes:
        commit: of this repository, and `dirty` if the working tree differed from it.
        versions: package to version.
        load_average_before: one-minute load average before the run, None if the machine does not provide it.
        concurrent_jobs: number of simultaneous measurements on this machine, including this one.
        wall_s: duration of the whole run.
    """

    commit: str
    dirty: bool
    python: str
    versions: Mapping[str, str]
    cpu_model: str
    cpu_flags: tuple[str, ...]
    cores: int = Field(ge=1)
    threads: int = Field(ge=1)
    platform: str
    load_average_before: float | None = None
    concurrent_jobs: int = Field(default=1, ge=1)
    wall_s: float | None = None


class AccuracyRow(Strict):
    """Word errors under one normaliser, over the whole corpus.

    Attributes:
        further: figures of other metrics of words, by their key in the metric registry.
    """

    normaliser_version: str
    normaliser_sha256: Sha256
    wer: Figure
    substitutions: Count
    deletions: Count
    insertions: Count
    hits: Count
    ref_words: Count
    empty_refs: Count = 0
    b_wer: Figure | None = None
    u_wer: Figure | None = None
    further: Mapping[str, Figure] = {}


class NetworkRow(Strict):
    """The run replayed over one network.

    Attributes:
        profile_sha256: hash of the profile's parameters, which distinguishes networks of the same name.
        latency: figures by their key in the metric registry.
        up_bytes: mean bytes on the wire per utterance, framing included; `down_bytes` likewise.
        available: share of utterances with a result.
    """

    profile_sha256: Sha256
    latency: Mapping[str, Figure]
    up_bytes: Figure
    down_bytes: Figure
    available: Figure


class UplinkRow(Strict):
    """Payload bytes of the audio in each codec, over all utterances run, without framing."""

    pcm_bytes: Count
    flac_bytes: Count
    opus_bytes: Count


class MemoryRow(Strict):
    """Memory of a process for this run alone.

    Attributes:
        rss_before_load_bytes: resident set before the recogniser was loaded.
        peak_rss_bytes: highest resident set during the run.
        added_rss_bytes: the difference of the two; what the tables show.
        helpers_peak_rss_bytes: highest sum over helper processes (a server); None without helpers.
        state_bytes: maximum size of a stream's state, None if the recogniser does not report it.
        resident_weight_bytes: bytes of weights in memory while running, None if the recogniser does not report it.
        n_utterances: number of utterances run by the process.
    """

    rss_before_load_bytes: Count
    peak_rss_bytes: Count
    added_rss_bytes: int
    helpers_peak_rss_bytes: Count | None = None
    state_bytes: Count | None = None
    resident_weight_bytes: Count | None = None
    n_utterances: Count


class EventRow(Strict):
    """One event as stamped over the network that `Row.events_network` names; `t_s` in audio time."""

    kind: EventKind
    t_s: Number
    text: str = ""
    n_bytes: Count = 0
    remote: bool = False


class NetworkTiming(Strict):
    """Times of one utterance over one network; `upl_s` counts from the end of speech. `note` is the reason why the
    device's own result was final although there was a second pass.
    """

    upl_s: Number | None = None
    up_bytes: Count = 0
    down_bytes: Count = 0
    failure: str | None = None
    note: str | None = None


class Timing(Strict):
    """The times of one utterance: compute per chunk on the device, and times over each network."""

    compute_s: tuple[float, ...]
    networks: Mapping[str, NetworkTiming] = {}


class Row(Strict):
    """One utterance of a run, one line of the `.hyps.jsonl`.

    Attributes:
        ref: reference as in the manifest; `hyp_raw` the raw hypothesis, empty after a failure.
        speaker: the unit of the paired bootstrap, None when unknown.
        duration_s: audio; `eos_s` the end of speech, None when unknown.
        events: stamped over `events_network`.
        timing: None if the hypothesis is not from a measured run. A network that is missing here has the same times as
            `events_network`.
        trace: for replays over any network (see `rows`), None if the network makes no difference.
        intent: parsed by the grammar from the hypothesis, with its `slots`; None if it was not accepted.
        accepted: whether intent and every labelled slot value are correct; None if the corpus has no intents.
        failure: why there is no result, or None.
        fields: other fields of the utterance in the manifest: gender, split and kind, and fields of other tools.
    """

    id: str
    ref: str
    hyp_raw: str
    speaker: str | None = None
    duration_s: float
    eos_s: float | None = None
    events_network: str | None = None
    events: tuple[EventRow, ...] = ()
    timing: Timing | None = None
    trace: Mapping[str, Any] | None = None
    intent: str | None = None
    slots: Mapping[str, str] | None = None
    accepted: bool | None = None
    failure: str | None = None
    fields: Mapping[str, Any] = {}
