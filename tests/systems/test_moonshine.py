"""Moonshine behind the contract: its greedy search on scripted networks; the models themselves where they are here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgespeech.contracts import SAMPLE_RATE, Request
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.runner import run_utterance
from edgespeech.systems._moonshine import LONGEST_S, Moonshine, MoonshineBackend
from edgespeech.systems.moonshine_base import MoonshineBase
from edgespeech.systems.moonshine_tiny import MoonshineTiny


class Networks:
    """An encoder and a decoder that emits the given tokens, whose cache counts the steps."""

    def __init__(self, tokens: list[int]) -> None:
        self._tokens = tokens
        self.lengths: list[int] = []
        self.inputs: list[dict[str, Any]] = []

    def run(self, names: None, inputs: dict[str, Any]) -> list[Any]:
        if "input_values" in inputs:
            self.lengths.append(inputs["input_values"].shape[1])
            return [np.zeros((1, 3, 2), np.float32)]
        self.inputs.append(inputs)
        logits = np.zeros((1, 1, 10), np.float32)
        logits[0, -1, self._tokens[min(len(self.inputs), len(self._tokens)) - 1]] = 1
        step = np.full((1,), len(self.inputs), np.float32)
        return [logits, step, step]

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return " " + " ".join(map(str, tokens))


def backend(networks: Networks) -> MoonshineBackend:
    made = MoonshineBackend.__new__(MoonshineBackend)
    made._encoder = made._decoder = made._tokeniser = networks
    made._past = {
        "past_key_values.0.decoder.key": np.zeros(1),
        "past_key_values.0.encoder.key": np.zeros(1),
    }
    return made


def heard(networks: Networks, seconds: float = 4.0) -> str:
    samples = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    return backend(networks).transcribe(samples, (), "en")


def test_tokens_until_the_end_token() -> None:
    networks = Networks([5, 6, 2, 7])
    assert heard(networks) == "5 6"
    assert [one["input_ids"].tolist() for one in networks.inputs] == [[[1]], [[5]], [[6]]]
    assert [bool(one["use_cache_branch"][0]) for one in networks.inputs] == [False, True, True]


def test_the_encoders_cache_is_that_of_the_first_step_and_the_decoders_that_of_the_last() -> None:
    networks = Networks([5, 6, 7, 2])
    heard(networks)
    cached = [
        (
            one["past_key_values.0.decoder.key"].tolist(),
            one["past_key_values.0.encoder.key"].tolist(),
        )
        for one in networks.inputs
    ]
    assert cached == [([0.0], [0.0]), ([1.0], [1.0]), ([2.0], [1.0]), ([3.0], [1.0])]


def test_repeating_for_ever_is_ended_by_the_length_of_the_audio() -> None:
    networks = Networks([5])
    assert heard(networks, 2.0) == " ".join(["5"] * 13)


def test_short_audio_is_filled_up() -> None:
    networks = Networks([2])
    assert heard(networks, 0.01) == ""
    assert networks.lengths == [4000]


def test_long_audio_is_refused() -> None:
    with pytest.raises(EdgeSpeechError, match=r"moonshine: utterance is '64\.1 s'.*at most 64 s"):
        heard(Networks([2]), LONGEST_S + 0.1)


@pytest.mark.parametrize("kind", [MoonshineTiny, MoonshineBase])
def test_silence_is_an_utterance(kind: type[Moonshine]) -> None:
    made = kind()
    if reason := made.missing():
        pytest.skip(reason)
    made.load()
    trace = run_utterance(made, np.zeros(8000, np.float32), Request(utterance_id="x"), chunk_s=0.1)
    assert trace.failure is None
    made.close()
