"""Measure weights of the language model in the beam search on speech for tuning, and print a line for each.

python replication/rnnt/tune_fusion.py [MODEL] [--utterances N] [--beam B] [--weights HIGH,LOW,LABEL ...]

The speech is `assistant_dev`, as it is and in rooms with household noise; no test is heard.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import jiwer
import numpy as np

from edgespeech.audio.augment import AugmentConfig, Augmenter
from edgespeech.audio.features import Features, log_mel_at_once
from edgespeech.audio.io import read_audio
from edgespeech.compression.pack import Encoding, Layout, pack
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.data.files import work_dir
from edgespeech.data.manifest import load_manifest
from edgespeech.decoding.fusion import Fusion, FusionWeights
from edgespeech.decoding.partials import TAIL_S
from edgespeech.engine.runtime import PackedModel
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.systems._edge import BEAM
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.fusion import load_fusion_config, make_fusion
from edgespeech.training.speech import load_noises

CONFIG = Path(__file__).parent / "fusion.yaml"
SPEECH = "corpora/assistant/assistant_dev.jsonl"
NOISES = "noise_household"
SEED = 77
ROOMS = {
    "speed_prob": 0.0,
    "pitch_prob": 0.0,
    "silence_before_s": (0.2, 0.8),
    "silence_after_s": (0.2, 0.6),
    "noise_prob": 1.0,
    "noise_snr_db": (5.0, 20.0),
}
"""What is done to the second half of what is heard; the rest as in `AugmentConfig`."""


def said(trained: Trained, spoken: Sequence[Features], beam: int) -> list[str]:
    """What the native engine makes of utterances, in single precision: it says what torch says, and sooner."""
    texts = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.edge"
        pack(trained, Layout(matrices=Encoding(bits=32)), file)
        with PackedModel(file) as model:
            for features in spoken:
                stream = model.open(beam)
                stream.accept(features)
                texts.append(trained.tokeniser.decode(stream.best.labels))
                stream.close()
    return texts


def features_of(samples: Samples) -> Features:
    """Of an utterance and the silence after it, with shape `(F, 80)`."""
    return log_mel_at_once(np.pad(samples, (0, round(TAIL_S * SAMPLE_RATE))))


def rates(references: Sequence[str], hypotheses: Sequence[str]) -> str:
    """WER and its parts, in words."""
    found = jiwer.process_words(list(references), list(hypotheses))
    parts = f"{found.substitutions} / {found.deletions} / {found.insertions}"
    return f"{100 * found.wer:.1f} % ({parts})"


def main() -> None:
    """See the top."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("model", nargs="?", type=Path, default=EdgeFp32().folder())
    options.add_argument("--utterances", type=int, default=160)
    options.add_argument("--beam", type=int, default=BEAM)
    options.add_argument(
        "--weights", nargs="+", default=["0,0,0", "0.4,0.2,0.7", "0.4,0.2,0.9", "0.5,0.2,0.9", "0.5,0.3,0.7"]
    )
    given = options.parse_args()
    trained = load_model(given.model)
    fusion = trained.fusion or make_fusion(load_fusion_config(CONFIG), trained.tokeniser)
    manifest = load_manifest(work_dir() / SPEECH)
    chosen = random.Random(SEED).sample(list(manifest.utterances), given.utterances)
    augmenter = Augmenter(AugmentConfig.from_mapping(ROOMS), load_noises(NOISES), SEED)
    clean = [read_audio(manifest.audio_path(item)) for item in chosen]
    noisy = [augmenter(samples, key=item.id) for samples, item in zip(clean, chosen, strict=True)]
    spoken = [[features_of(samples) for samples in some] for some in (clean, noisy)]
    references = [item.text for item in chosen]
    for spec in given.weights:
        high, low, label = (float(value) for value in spec.split(","))
        weights = FusionWeights(high=high, low=low, label=label)
        of = Fusion(fusion.high, fusion.low, weights) if any((high, low, label)) else None
        weighed = replace(trained, fusion=of)
        told = [rates(references, said(weighed, some, given.beam)) for some in spoken]
        print(f"{weights}: clean {told[0]}, in noise {told[1]}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"tune: {error}")
