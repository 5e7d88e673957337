"""Scripted timelines with known delays: every latency comes back exactly (binary fractions, no tolerance)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, replace
from typing import ClassVar

import pytest

from edgespeech.contracts import Event, EventKind, LinkProfile, RemoteTrace, Word
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.replay import replay
from edgespeech.metrics import latency
from edgespeech.metrics.latency import (
    UtteranceTimes,
    UtteranceTiming,
    emission_delays,
    summarise,
    utterance_timing,
)
from edgespeech.metrics.registry import Scored
from edgespeech.metrics.upl import UplParts, kept_result
from edgespeech.records.trace import Chunk, Stamped, Timeline, Trace

NOWHERE = LinkProfile(name="none", rtt_s=0, jitter_s=0, up_bps=1, down_bps=1, available=False)


def partial(text: str, *words: Word) -> Event:
    return Event(kind=EventKind.PARTIAL, text=text, words=words)


def speculative(text: str) -> Event:
    return Event(kind=EventKind.SPECULATIVE, text=text)


def final(text: str, *words: Word) -> Event:
    return Event(kind=EventKind.FINAL, text=text, words=words)


def endpoint(audio_s: float | None = None) -> Event:
    return Event(kind=EventKind.ENDPOINT, audio_s=audio_s)


RESET = Event(kind=EventKind.RESET)


def device(
    *events: tuple[int, Event],
    compute_s: Sequence[float] = (0.0,) * 5,
    chunk_s: float = 0.5,
    failure: str | None = None,
) -> Timeline:
    """Chunks of `chunk_s`, then `finish`; 2 s of audio by default. Replayed by the harness itself."""
    n = len(compute_s) - 1
    ready_s = [chunk_s * (k + 1) for k in range(n)] + [chunk_s * n]
    trace = Trace(
        utterance_id="u",
        duration_s=chunk_s * n,
        chunks=tuple(Chunk(ready_s=r, compute_s=c) for r, c in zip(ready_s, compute_s, strict=True)),
        events=events,
        failure=failure,
    )
    return replay(trace, NOWHERE, seed=0, cloud_speedup=1.0)


def far(*stamped: tuple[Event, dict[str, float]]) -> Timeline:
    """Events with the parts of their stamps, as a replay over a link gives them."""
    made = tuple(
        Stamped(event=event, t_s=sum(parts.values()), chunk=0, remote=True, parts=parts)
        for event, parts in stamped
    )
    trace = Trace(
        utterance_id="u",
        duration_s=2.0,
        chunks=(Chunk(ready_s=2.0, compute_s=0.25),),
        events=(),
        remote=RemoteTrace(compute_s=(1.0, 0.5)),
    )
    return Timeline(trace=trace, network="test", events=made, up_bytes=10, down_bytes=5)


def timed(timeline: Timeline, *, sos_s: float | None = 0.25, eos_s: float | None = 1.5) -> UtteranceTiming:
    return utterance_timing(timeline, UtteranceTimes(sos_s=sos_s, eos_s=eos_s))


def whole(timing: UtteranceTiming) -> float:
    assert timing.upl_parts is not None
    return math.fsum(astuple(timing.upl_parts))


class TestOneUtterance:
    def test_every_latency_comes_back(self) -> None:
        timeline = device(
            (0, partial("")),
            (1, partial("a")),
            (3, endpoint(1.75)),
            (4, final("a b")),
            compute_s=(0.125, 0.25, 0.125, 0.25, 0.5),
        )
        timing = timed(timeline)
        assert timing.compute_s == (0.125, 0.25, 0.125, 0.25, 0.5)
        assert timing.first_partial_s == 1.0 + 0.25 - 0.25
        assert timing.endpoint_latency_s == 2.25 - 1.5
        assert timing.cut_off is False
        assert timing.finalisation_s == 2.75 - 2.25
        assert timing.upl_s == 2.75 - 1.5
        assert timing.upl_parts == UplParts(
            endpointing_s=0.25, frame_s=0.25, compute_s=0.25, network_s=0.0, finalisation_s=0.5
        )
        assert whole(timing) == timing.upl_s
        assert timing.revised is None

    def test_a_result_two_seconds_after_the_audio_reads_at_least_two_seconds(self) -> None:
        timing = timed(device((4, final("a")), compute_s=(0, 0, 0, 0, 2.0)), eos_s=2.0)
        assert timing.upl_s == 2.0
        assert whole(timing) == 2.0

    def test_a_backlog_is_waited_for(self) -> None:
        # Half as fast as the audio: chunks of 0.5 s take 1 s, so the fourth ends at 4.5 s, finish at 4.75 s.
        timing = timed(device((0, partial("a")), (4, final("a")), compute_s=(1, 1, 1, 1, 0.25)))
        assert timing.first_partial_s == 1.5 - 0.25
        assert timing.upl_s == 4.75 - 1.5
        assert timing.upl_parts == UplParts(
            endpointing_s=0.5, frame_s=0.0, compute_s=2.75, network_s=0.0, finalisation_s=0.0
        )

    def test_a_result_before_the_end_of_speech_is_negative(self) -> None:
        timing = timed(device((1, endpoint(0.75)), (1, final("a"))))
        assert timing.upl_s == -0.5
        assert timing.endpoint_latency_s == -0.5
        assert timing.cut_off is True
        assert whole(timing) == -0.5

    def test_a_cut_off_depends_on_the_audio_received_not_on_the_stamp(self) -> None:
        late = device((2, endpoint(1.25)), (4, final("a")), compute_s=(0, 0, 1, 0, 0))
        assert timed(late).endpoint_latency_s == 1.0
        assert timed(late).cut_off is True
        assert timed(device((2, endpoint(1.46)), (4, final("a")))).cut_off is False
        assert timed(device((2, endpoint()), (4, final("a")))).cut_off is False  # 1.5 s of audio delivered
        assert timed(device((1, endpoint()), (4, final("a")))).cut_off is True

    def test_a_final_before_the_end_point_keeps_its_negative_finalisation(self) -> None:
        timing = timed(device((2, final("a")), (3, endpoint(2.0))))
        assert timing.finalisation_s == -0.5
        assert timing.upl_s == 0.0
        assert whole(timing) == 0.0

    def test_the_last_final_counts(self) -> None:
        assert timed(device((1, final("a")), (4, final("a b")))).upl_s == 0.5

    def test_a_final_that_repeats_the_one_before_changes_nothing(self) -> None:
        timing = timed(device((2, endpoint()), (3, final("a")), (4, final("A.")), compute_s=(0, 0, 0, 0, 1)))
        assert (timing.upl_s, timing.finalisation_s, timing.revised) == (0.5, 0.5, None)
        assert whole(timing) == 0.5

    def test_of_two_segments_the_second_sets_the_latency_and_the_first_was_a_cut(self) -> None:
        segments = ((0, endpoint(0.5)), (0, final("a")), (3, endpoint(1.75)), (3, final("a b")))
        timing = timed(device(*segments, compute_s=(0, 0, 0, 0.25, 0)))
        assert (timing.cut_off, timing.endpoint_latency_s) == (True, -1.0)
        assert (timing.upl_s, timing.finalisation_s) == (0.75, 0.0)
        assert timing.upl_parts == UplParts(
            endpointing_s=0.25, frame_s=0.25, compute_s=0.25, network_s=0.0, finalisation_s=0.0
        )

    def test_without_end_point_the_end_of_the_file_ends_the_utterance(self) -> None:
        timing = timed(device((4, final("a")), compute_s=(0, 0, 0, 0, 0.25)))
        assert (timing.endpoint_latency_s, timing.finalisation_s, timing.cut_off) == (None, None, False)
        assert timing.upl_parts == UplParts(
            endpointing_s=0.5, frame_s=0.0, compute_s=0.25, network_s=0.0, finalisation_s=0.0
        )

    def test_unknown_speech_times_give_no_latency(self) -> None:
        timing = timed(device((1, partial("a")), (3, endpoint()), (4, final("a"))), sos_s=None, eos_s=None)
        assert timing.first_partial_s is timing.endpoint_latency_s is timing.upl_s is timing.cut_off is None
        assert timing.finalisation_s == 0.0

    def test_failures_are_unbounded_and_have_no_parts(self) -> None:
        timing = timed(device((1, partial("a")), failure="raised"))
        assert timing.first_partial_s == 0.75
        assert timing.upl_s == timing.endpoint_latency_s == timing.finalisation_s == math.inf
        assert timing.upl_parts is None
        assert timing.completed is False
        assert timed(device((4, final("a")), failure="died")).upl_s == math.inf
        silent = timed(device((1, partial("a"))))  # never finalised: the replay says so
        assert (silent.upl_s, silent.completed) == (math.inf, True)

    def test_json(self) -> None:
        timing = timed(device((1, partial("a")), (3, endpoint()), (4, final("a"))))
        assert json.loads(json.dumps(asdict(timing)))["upl_parts"]["frame_s"] == 0.0


class TestSpeculation:
    def test_confirmed_it_sets_the_latency(self) -> None:
        timing = timed(device((2, speculative("Tea, please")), (4, endpoint()), (4, final("tea please"))))
        assert timing.upl_s == 0.0
        assert timing.revised is False
        assert whole(timing) == 0.0

    def test_the_first_of_equal_ones_counts(self) -> None:
        assert timed(device((2, speculative("a")), (3, speculative("a")), (4, final("a")))).upl_s == 0.0

    def test_not_confirmed_the_final_does(self) -> None:
        timing = timed(device((2, speculative("a")), (4, final("b"))))
        assert (timing.upl_s, timing.revised) == (0.5, True)

    def test_a_reset_withdraws_even_the_same_words(self) -> None:
        timing = timed(device((2, speculative("a")), (3, RESET), (4, final("a"))))
        assert (timing.upl_s, timing.revised) == (0.5, True)

    def test_a_second_one_counts_after_a_reset(self) -> None:
        events = ((1, speculative("a")), (2, RESET), (3, speculative("b")), (4, final("b")))
        timeline = device(*events, compute_s=(0, 0, 0, 0, 1))
        timing = timed(timeline)
        assert (timing.upl_s, timing.revised) == (0.5, True)
        assert whole(timing) == 0.5

    def test_the_restart_is_waited_for(self) -> None:
        timing = timed(
            device((1, speculative("a")), (3, final("b")), (4, RESET), compute_s=(0, 0, 0, 0, 0.5))
        )
        assert timing.upl_s == 2.5 - 1.5
        assert whole(timing) == timing.upl_s

    def test_one_that_nothing_confirms_was_revised(self) -> None:
        timing = timed(device((1, speculative("a")), failure="hung"))
        assert (timing.upl_s, timing.revised) == (math.inf, True)

    def test_the_kept_event_is_the_speculative_one(self) -> None:
        kept = kept_result(device((2, speculative("A")), (4, final("a"))))
        assert kept is not None
        assert kept.event.kind is EventKind.SPECULATIVE


class TestNetwork:
    UP: ClassVar = {
        "listening": 2.0,
        "backlog": 0.125,
        "compute": 0.25,
        "uplink": 0.5,
        "queue": 0.125,
        "server": 1.0,
    }

    def test_parts_over_a_link(self) -> None:
        timing = timed(
            far((endpoint(1.75), {**self.UP, "downlink": 0.25}), (final("a"), {**self.UP, "downlink": 0.5}))
        )
        assert timing.upl_s == 4.5 - 1.5
        assert timing.upl_parts == UplParts(
            endpointing_s=0.25, frame_s=0.25, compute_s=1.5, network_s=1.0, finalisation_s=0.0
        )
        assert timing.finalisation_s == 0.25
        assert timing.remote_compute_s == 1.5

    def test_an_end_point_on_the_device_leaves_the_network_of_the_final_visible(self) -> None:
        timing = timed(
            far(
                (endpoint(2.0), {"listening": 2.0, "backlog": 0.0, "compute": 0.25}),
                (final("a"), {**self.UP, "downlink": 0.5}),
            )
        )
        assert timing.upl_parts == UplParts(
            endpointing_s=0.5, frame_s=0.0, compute_s=0.25, network_s=1.0, finalisation_s=1.25
        )
        assert whole(timing) == timing.upl_s == 3.0

    def test_without_parts_there_is_no_decomposition(self) -> None:
        timeline = far((final("a"), {"listening": 2.0}))
        bare = replace(timeline, events=(replace(timeline.events[0], parts={}),))
        assert timed(bare).upl_s == 0.5
        assert timed(bare).upl_parts is None


class TestEmission:
    A = Word(text="a", start_s=0.0, end_s=0.25)
    B = Word(text="b", start_s=0.25, end_s=0.5)
    B2 = Word(text="b", start_s=1.5, end_s=1.75)

    def test_first_appearance_that_stays(self) -> None:
        x = Word(text="x", start_s=0.25, end_s=0.5)
        timeline = device(
            (0, partial("a b", self.A, self.B)),
            (1, partial("a x", self.A, x)),
            (2, partial("A b", replace(self.A, text="A,"), self.B)),
            (4, final("a b", self.A, self.B)),
        )
        assert emission_delays(timeline) == ((0.25, 1.0), 2)

    def test_the_same_word_elsewhere_is_another_word(self) -> None:
        timeline = device(
            (0, partial("b", self.B)),
            (3, partial("b b", self.B, self.B2)),
            (4, final("b b", self.B, self.B2)),
        )
        assert emission_delays(timeline) == ((0.0, 0.25), 2)

    def test_a_word_that_only_the_final_has_is_shown_by_the_final(self) -> None:
        timeline = device((0, partial("a", self.A)), (4, final("a b", self.A, self.B)))
        assert emission_delays(timeline) == ((0.25, 1.5), 2)

    def test_an_empty_hypothesis_takes_words_back_and_one_without_times_says_nothing(self) -> None:
        events = ((0, partial("a", self.A)), (1, partial("other")), (4, final("a", self.A)))
        assert emission_delays(device(*events)) == ((0.25,), 1)
        events = ((0, partial("a", self.A)), (1, partial("")), (4, final("a", self.A)))
        assert emission_delays(device(*events)) == ((1.75,), 1)

    @pytest.mark.parametrize(
        ("events", "n_words"),
        [
            (((0, partial("a", A)), (4, final("a b"))), 2),
            (((0, partial("a")), (4, final("a", A))), 1),
            (((4, final("a", A)),), 1),
            (((0, partial("a", A)),), 0),
        ],
    )
    def test_what_cannot_be_used_is_counted(
        self, events: tuple[tuple[int, Event], ...], n_words: int
    ) -> None:
        assert emission_delays(device(*events)) == ((), n_words)


class TestSummary:
    def test_quantiles_are_pooled_never_averaged(self) -> None:
        # 1 call of 1 s and 100 of nothing: the pooled P99 is 0, a mean of the two P99s would be 0.5.
        slow, fast = device(compute_s=(1.0,)), device(compute_s=(0.0,) * 100)
        timings = [timed(replace(slow, trace=replace(slow.trace, duration_s=1.0))), timed(fast)]
        figures = summarise(timings, [None, None], seed=0)
        assert figures["chunk_p99"].value == 0.0
        assert figures["chunk_max"].value == 1.0
        assert (figures["chunk_p99"].n, figures["chunk_max"].low) == (101, None)

    def test_rtf_is_a_ratio_of_sums_over_what_ran_to_its_end(self) -> None:
        one = timed(device((4, final("a")), compute_s=(0, 0, 0, 0, 1.0)))
        two = timed(device((2, final("a")), compute_s=(0, 0, 2.0)))
        broken = timed(device(compute_s=(9.0, 9.0), failure="raised"))
        figures = summarise([one, two, broken], [None] * 3, seed=0)
        assert figures["rtf"].value == 3.0 / 3.0
        assert figures["rtfx"].value == 1.0
        assert figures["rtf"].used_share == pytest.approx(2 / 3)
        assert "remote_rtf" not in figures

    def test_a_far_side_has_a_factor_of_its_own(self) -> None:
        figures = summarise([timed(far((final("a"), {"listening": 2.0})))] * 2, [None] * 2, seed=0)
        assert figures["remote_rtf"].value == 0.75
        assert figures["rtf"].value == 0.125

    def test_failures_make_high_quantiles_unbounded_and_are_never_dropped(self) -> None:
        good = timed(device((1, partial("a")), (3, endpoint()), (4, final("a"))))
        bad = timed(device(failure="hung"))
        figures = summarise([good] * 8 + [bad] * 2, [None] * 10, seed=0)
        assert (figures["upl_p50"].value, figures["upl_p50"].n) == (0.5, 10)
        for name in ("upl_p90", "upl_p99", "first_partial_p90", "ep_p90", "finalisation_p90"):
            assert figures[name].value == math.inf, name
            assert figures[name].high == math.inf, name
        assert figures["upl_mean"].used_share == 0.8
        assert figures["cut_off_rate"].n == 10

    def test_what_a_system_does_not_do_is_left_out(self) -> None:
        figures = summarise(
            [timed(device((4, final("a")))), timed(device(failure="hung"))], [None] * 2, seed=0
        )
        for name in (
            "first_partial_p50",
            "emission_p50",
            "ep_p50",
            "cut_off_rate",
            "finalisation_p50",
            "reset_rate",
        ):
            assert name not in figures
        assert figures["upl_p50"].value == 0.5

    def test_cut_utterances_are_out_of_the_end_point_latency(self) -> None:
        cut = timed(device((0, endpoint()), (4, final("a"))))
        whole_one = timed(device((3, endpoint()), (4, final("a"))))
        figures = summarise([cut, whole_one, whole_one, whole_one], [None] * 4, seed=0)
        assert figures["cut_off_rate"].value == 0.25
        assert (figures["ep_p50"].value, figures["ep_p50"].n, figures["ep_p50"].used_share) == (0.5, 3, 0.75)

    def test_reset_rate_is_over_utterances_with_a_speculative_result(self) -> None:
        kept = timed(device((2, speculative("a")), (4, final("a"))))
        revised = timed(device((2, speculative("a")), (4, final("b"))))
        none = timed(device((4, final("a"))))
        figure = summarise([kept, revised, none, none], [None] * 4, seed=0)["reset_rate"]
        assert (figure.value, figure.n, figure.used_share) == (0.5, 2, 0.5)

    def test_the_share_of_words_used(self) -> None:
        a = TestEmission.A
        used = timed(device((0, partial("a", a)), (4, final("a", a))))
        not_used = timed(device((4, final("a b c"))))
        figure = summarise([used, not_used], [None] * 2, seed=0)["emission_p50"]
        assert (figure.value, figure.n, figure.used_share) == (0.25, 1, 0.25)

    def test_mean_parts_add_up_to_the_mean(self) -> None:
        timings = [
            timed(device((3, endpoint(1.75)), (4, final("a")), compute_s=(0, 0, 0, c, 3 * c)))
            for c in (0.125, 0.25)
        ]
        figures = summarise(timings, ["x", "y"], seed=0)
        parts = ("endpointing", "frame", "compute", "network", "finalisation")
        assert sum(figures[f"upl_{part}"].value for part in parts) == figures["upl_mean"].value == 1.25

    def test_every_figure_is_declared_and_carries_its_definition(self) -> None:
        timings = [timed(device((1, partial("a")), (3, endpoint()), (4, final("a"))))] * 3
        figures = summarise(timings, ["x", "y", "z"], seed=0)
        units = {metric.id: metric.unit for metric in latency.METRICS}
        assert all(
            figure.definition == name and figure.unit == units[name] for name, figure in figures.items()
        )
        assert figures["upl_p50"].method == "bootstrap over 3 speakers, 2000 resamples"

    def test_one_utterance_has_figures_without_intervals(self) -> None:
        figures = summarise([timed(device((4, final("a")), compute_s=(0, 0, 0, 0, 0.5)))], ["x"], seed=0)
        assert (figures["upl_p50"].value, figures["rtf"].value) == (1.0, 0.25)
        assert all(figure.low is figure.high is None for figure in figures.values())

    def test_nothing_ran(self) -> None:
        assert summarise([], [], seed=0) == {}

    def test_groups_must_match(self) -> None:
        with pytest.raises(EdgeSpeechError, match="as many as timings, 1"):
            summarise([timed(device((4, final("a"))))], [], seed=0)


def test_a_hypothesis_without_timing_gets_none() -> None:
    timeline = device((4, final("a")))
    item = Scored(duration_s=2.0, reference="a", hypothesis="a", eos_s=1.5, timeline=timeline)
    assert latency.measure([item, item], seed=0)["upl_p50"].value == 0.5
    assert latency.measure([item, replace(item, timeline=None)], seed=0) == {}
