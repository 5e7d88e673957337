"""Measure language-model weights of the beam search on tuning speech, and print one line for each.

python replication/rnnt/tune_fusion.py [MODEL] [--utterances N] [--beam B] [--weights HIGH,LOW,LABEL ...]

The speech is `assistant_dev`, clean and in rooms with household noise; no evaluation corpus is used.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import Fusion, FusionWeights
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.model.checkpoint import load_model
from edgespeech.search.settings import BEAM
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.training.fusion import load_fusion_config, make_fusion
from edgespeech.training.tuning import hear, said

CONFIG = Path(__file__).parent / "fusion.yaml"
SNR_DB = (5.0, 20.0)


def main() -> None:
    """Run the command line; see the module's docstring."""
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
    items, spoken = hear("assistant_dev", given.utterances, [SNR_DB])
    counter = word_errors_of([item.text for item in items])
    for spec in given.weights:
        high, low, label = (float(value) for value in spec.split(","))
        weights = FusionWeights(high=high, low=low, label=label)
        of = Fusion(fusion.high, fusion.low, weights) if any((high, low, label)) else None
        weighed = replace(trained, fusion=of)
        told = [counter.describe(said(weighed, some, given.beam)) for some in spoken]
        print(f"{weights}: clean {told[0]}, in noise {told[1]}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"tune: {error}")
