"""Streams that take transcriber frames: the same search without the network."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from edgespeech.biasing.phrases import PhraseBias
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained
from edgespeech.packed.pack import Encoding, Layout, pack
from edgespeech.packed.runtime import PackedModel
from helpers_biasing import PHRASES, attentive
from helpers_packed import features, tiny


def packed(trained: Trained, folder: Path) -> PackedModel:
    pack(trained, Layout(matrices=Encoding(bits=32)), folder / "model.edge")
    return PackedModel(folder / "model.edge")


@pytest.mark.parametrize("beam", [1, 4])
def test_frames_of_the_network_are_searched_as_its_own(beam: int, tmp_path: Path) -> None:
    heard = features(120)
    with packed(tiny(), tmp_path) as model:
        bias = PhraseBias(model.pieces, ("turn on the light", "music"), boost=15.0)
        encoded = model.transcribe(heard)
        for some in (None, bias):
            with closing(model.open(beam, some)) as own, closing(model.open(beam, some)) as given:
                own.accept(heard)
                given.accept_encoded(encoded[:7])
                given.accept_encoded(encoded[7:])
                assert given.best == own.best


def test_a_list_is_attended_to_in_them(tmp_path: Path) -> None:
    heard = features(120)
    with packed(attentive(), tmp_path) as model:
        context = model.attend(PHRASES)
        found = []
        for some in (context, None):
            with closing(model.open(4, context=some)) as own, closing(model.open(4, context=some)) as given:
                own.accept(heard)
                given.accept_encoded(model.transcribe(heard))
                assert given.best == own.best
                found.append(given.best)
        assert found[0] != found[1]


def test_other_frames_are_refused(tmp_path: Path) -> None:
    with packed(tiny(), tmp_path) as model:
        width = model.config.joiner
        for wrong, message in (
            (np.zeros((3, width + 1), np.float32), f"have {width + 1} values, expected {width}"),
            (np.full((3, width), np.nan, np.float32), "expected finite values"),
            (np.zeros(width, np.float32), r"expected float32 \(T, J\)"),
        ):
            with closing(model.open()) as stream, pytest.raises(EdgeSpeechError, match=message):
                stream.accept_encoded(wrong)
