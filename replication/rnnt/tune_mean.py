"""Measure means of models on speech for tuning, and print a line for each.

python replication/rnnt/tune_mean.py FOLDER FOLDER [--shares 0 0.25 0.5 0.75 1] [--utterances N]

A share is the second model's; 0 is the first one alone. The speech is `assistant_dev` and `assistant_dev_accents`, as
they are and in rooms with household noise; no test is heard. Beside the word error rates stand the shares of coffee
orders that are accepted.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import jiwer

from edgespeech.audio.features import Features
from edgespeech.audio.io import read_audio
from edgespeech.data.files import work_dir
from edgespeech.data.grammar import load_grammar
from edgespeech.data.manifest import Utterance, load_manifest
from edgespeech.errors import EdgeSpeechError
from edgespeech.harness.metrics.acceptance import accepted
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.systems._edge import BEAM
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.tuning import SEED, features_of, in_noise, said

SPEECH = ("assistant_dev", "assistant_dev_accents")
SNR_DB = ((10.0, 20.0), (0.0, 10.0))
_ORDER = "orderDrink"

Heard = tuple[Sequence[Utterance], Sequence[Features]]


def hear(utterances: int) -> dict[str, Heard]:
    """The speech of each condition, by its name."""
    heard: dict[str, Heard] = {}
    for name in SPEECH:
        manifest = load_manifest(work_dir() / "corpora" / "assistant" / f"{name}.jsonl")
        items = random.Random(SEED).sample(
            list(manifest.utterances), min(utterances, len(manifest.utterances))
        )
        clean = [read_audio(manifest.audio_path(item)) for item in items]
        heard[name] = items, [features_of(samples) for samples in clean]
        for low, high in SNR_DB:
            augmenter = in_noise((low, high))
            noisy = [augmenter(samples, key=item.id) for samples, item in zip(clean, items, strict=True)]
            heard[f"{name}, {low:g} to {high:g} dB"] = items, [features_of(samples) for samples in noisy]
    return heard


def mixed(first: Trained, second: Trained, share: float) -> Trained:
    """The first model with the mean of both models' weights."""
    model = deepcopy(first.model)
    theirs = second.model.state_dict()
    model.load_state_dict(
        {name: values.lerp(theirs[name], share) for name, values in first.model.state_dict().items()}
    )
    return replace(first, model=model)


def told(trained: Trained, heard: Mapping[str, Heard]) -> str:
    """A line: word error rates, and orders accepted, in each condition."""
    grammar = load_grammar("coffee")
    parts = []
    for condition, (items, features) in heard.items():
        texts = said(trained, features, BEAM)
        rate = jiwer.wer([item.text for item in items], texts)
        orders = [
            accepted(grammar.parse(text), item.intent, item.slots or {})
            for text, item in zip(texts, items, strict=True)
            if item.intent == _ORDER
        ]
        parts.append(
            f"{condition} {100 * rate:.1f} % ({100 * sum(orders) / len(orders):.0f} % of {len(orders)})"
        )
    return "; ".join(parts)


def main() -> None:
    """See the top."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("models", nargs=2, type=Path)
    options.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.25, 0.5, 0.75, 1.0])
    options.add_argument("--utterances", type=int, default=150)
    given = options.parse_args()
    fusion = load_model(EdgeFp32().folder()).fusion
    first, second = (replace(load_model(folder), fusion=fusion) for folder in given.models)
    heard = hear(given.utterances)
    for share in given.shares:
        print(f"{share:g}: {told(mixed(first, second, share), heard)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"tune: {error}")
