"""The parts of a record and of its rows: validated, frozen, an unknown field is an error.

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
        raise ValueError("NaN says nothing: leave the figure out")
    return value


Number = Annotated[float, AfterValidator(_not_nan)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Band = Literal["telephone"]
"""What a channel leaves of audio; `telephone`: 300 Hz to 3.4 kHz, in 8 bit mu-law at 8 kHz."""


class Strict(BaseModel):
    """Frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Figure(Strict):
    """One number with what is needed to believe it.

    Attributes:
        value: the number; infinite when the quantity is unbounded (no result within any time).
        unit: e.g. `ratio`, `s`, `ms`, `bytes`, `wpm`.
        n: how many values it is computed from (utterances, words or chunks, as the definition says).
        used_share: share of the values that could be used, 0 to 1.
        low: lower end of the 95 % interval, `high` the upper end; None where no interval applies.
        method: how the interval came about, e.g. `bootstrap over speakers, 2000 resamples`, or empty.
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
    """What ran: the recogniser's own `SystemInfo`. A skipped system was never loaded and may know less."""

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
    """What it ran on.

    Attributes:
        name: corpus or split.
        manifest_sha256: of the whole manifest (`Manifest.identity`), also for a subset; None when there was no data.
        n_utterances: utterances run; `n_failed` of them have no result and score as full deletions.
        audio_s: audio of the utterances run.
        ref_words: reference words, whitespace-separated, before any normaliser.
        subset: the selection, or None for every utterance.
        resampling: the unit over which the intervals resample.
        notes: what a reader of its row must know (footnotes).
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
    """What was done to the audio, and what the request brought along.

    Attributes:
        noise: mixed in at `snr_db`, as `snr_rule` defines that.
        band: what a channel then left of it; None for all.
        context: whether the request had phrases that are likely to be said.
    """

    noise: str | None = None
    snr_db: float | None = None
    snr_rule: str | None = None
    band: Band | None = None
    context: bool = False

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({self.noise is None, self.snr_db is None, self.snr_rule is None}) > 1:
            raise ValueError("noise, snr_db and snr_rule come together")
        return self

    @property
    def clean(self) -> bool:
        """Whether nothing was done to the audio."""
        return self.noise is None and self.band is None

    @property
    def label(self) -> str:
        """As in the tables: `clean`, `kitchen 6 dB`, `telephone`, `kitchen 6 dB, telephone`, `+ context` behind it."""
        sounds = [] if self.noise is None else [f"{self.noise} {self.snr_db:g} dB"]
        sound = ", ".join([*sounds, *([self.band] if self.band else [])]) or "clean"
        return sound + (" + context" if self.context else "")


class Provenance(Strict):
    """With what it was measured. No host, no user, no path.

    Attributes:
        commit: of this repository, and `dirty` if the working tree differed from it.
        versions: package to version.
        load_average_before: one-minute load average before the run, None where the machine does not tell.
        concurrent_jobs: how many measurements ran at once on this machine, this one included.
        wall_s: how long the whole run took.
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
        further: figures of other metrics that compare words, by their key in the metric registry.
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
        profile_sha256: hash of the profile's parameters, so that two networks of one name are told apart.
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
    """What sending the audio costs in each codec: payload bytes over all utterances run, without framing."""

    pcm_bytes: Count
    flac_bytes: Count
    opus_bytes: Count


class MemoryRow(Strict):
    """Memory of a process that did only this run.

    Attributes:
        rss_before_load_bytes: resident set before the recogniser was loaded.
        peak_rss_bytes: highest resident set during the run.
        added_rss_bytes: the difference of the two; what the tables show.
        helpers_peak_rss_bytes: highest sum over helper processes (a server); None without helpers.
        state_bytes: most bytes of state that one stream held, None when the recogniser does not say.
        resident_weight_bytes: bytes of weights held while running, None when the recogniser does not say.
        n_utterances: how many utterances the process ran.
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
    """What one utterance took over one network; `upl_s` counts from the end of speech. `note` says why the device's
    own result stands where a second pass might have replaced it.
    """

    upl_s: Number | None = None
    up_bytes: Count = 0
    down_bytes: Count = 0
    failure: str | None = None
    note: str | None = None


class Timing(Strict):
    """The clocks of one utterance: compute per chunk on the device, and what each network made of it."""

    compute_s: tuple[float, ...]
    networks: Mapping[str, NetworkTiming] = {}


class Row(Strict):
    """One utterance of a run, one line of the `.hyps.jsonl`.

    Attributes:
        ref: reference as in the manifest; `hyp_raw` the raw hypothesis, empty after a failure.
        speaker: the unit of the paired bootstrap, None when unknown.
        duration_s: audio; `eos_s` the end of speech, None when unknown.
        events: stamped over `events_network`.
        timing: None when the hypothesis does not come from a measured run. A network that is not in it makes
            no difference: its times are those over `events_network`.
        trace: what replays over any network (see `rows`), None where no network makes a difference.
        intent: what the grammar made of the hypothesis, with its `slots`; None when it made nothing of it.
        accepted: intent and every labelled slot value exactly right; None when the corpus has no intents.
        failure: why there is no result, or None.
        fields: what else the manifest says of the utterance: its gender, split and kind, and fields of other tools.
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
