"""Measure averages of two checkpoints on tuning speech, and print one line per average.

python replication/rnnt/tune_average.py FOLDER FOLDER [--shares 0 0.5 1] [--utterances N] [--beam B]
    [--grammar-penalty NATS]

A share is the weight of the second model; 0 is the first one alone. The speech is `assistant_dev` and
`assistant_dev_accents`, clean and in rooms with household noise; no evaluation corpus is used. Each line has the word
error rates and the shares of coffee orders that are accepted. With `--grammar-penalty` only the coffee orders are
decoded, with the grammar constraint of `edge-command`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgespeech.audio.features import Features
from edgespeech.core.places import shipped_models
from edgespeech.corpora.manifest import Utterance
from edgespeech.errors import EdgeSpeechError
from edgespeech.lm.fusion import load_fusion
from edgespeech.metrics.acceptance import accepted
from edgespeech.metrics.word_errors import word_errors_of
from edgespeech.model.average import average_checkpoints
from edgespeech.model.checkpoint import Trained, load_model
from edgespeech.search.constraint import GrammarScores
from edgespeech.search.settings import BEAM
from edgespeech.systems.edge_fp32 import EdgeFp32
from edgespeech.text.grammar import load_grammar
from edgespeech.training.tuning import hear, led, said

SPEECH = ("assistant_dev", "assistant_dev_accents")
SNR_DB = ((10.0, 20.0), (0.0, 10.0))
DOMAIN = "coffee"
_ORDER = "orderDrink"

Spoken = tuple[Sequence[Utterance], Sequence[Features]]


def conditions(utterances: int, *, orders: bool = False) -> dict[str, Spoken]:
    """The speech of each condition, by its name: all utterances, or the coffee orders alone."""
    found: dict[str, Spoken] = {}
    for name in SPEECH:
        items, spoken = hear(name, utterances, SNR_DB)
        kept = [place for place, item in enumerate(items) if not orders or item.intent == _ORDER]
        items, spoken = [items[place] for place in kept], [[some[place] for place in kept] for some in spoken]
        names = (name, *(f"{name}, {low:g} to {high:g} dB" for low, high in SNR_DB))
        found |= {condition: (items, some) for condition, some in zip(names, spoken, strict=True)}
    return found


def summary(trained: Trained, speech: Mapping[str, Spoken], beam: int, penalty: float | None = None) -> str:
    """One line of word error rates and shares of accepted orders by condition; with a penalty, constrained decoding."""
    grammar = load_grammar(DOMAIN)
    scores = None
    if penalty is not None:
        fusion = load_fusion(shipped_models() / "domains" / DOMAIN, trained.model.config.vocabulary)
        assert fusion is not None  # it ships
        scores = GrammarScores(fusion, grammar.graph, trained.tokeniser.pieces, penalty)
    parts = []
    for condition, (items, features) in speech.items():
        texts = said(trained, features, beam) if scores is None else led(trained, features, beam, scores)
        rate = word_errors_of([item.text for item in items]).wer(texts)
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
    """Run the command line; see the module's docstring."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("models", nargs=2, type=Path)
    options.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.25, 0.5, 0.75, 1.0])
    options.add_argument("--utterances", type=int, default=150)
    options.add_argument("--beam", type=int, default=BEAM)
    options.add_argument(
        "--grammar-penalty", type=float, metavar="NATS", help="decode orders with this grammar constraint"
    )
    given = options.parse_args()
    fusion = load_model(EdgeFp32().folder()).fusion
    speech = conditions(given.utterances, orders=given.grammar_penalty is not None)
    for share in given.shares:
        average = replace(average_checkpoints(given.models, [1 - share, share]), fusion=fusion)
        print(f"{share:g}: {summary(average, speech, given.beam, given.grammar_penalty)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"tune: {error}")
