"""Measure means of models on speech for tuning, and print a line for each.

python replication/rnnt/tune_mean.py FOLDER FOLDER [--shares 0 0.5 1] [--utterances N] [--beam B] [--leaving COST]

A share is the second model's; 0 is the first one alone. The speech is `assistant_dev` and `assistant_dev_accents`, as
they are and in rooms with household noise; no test is heard. Beside the word error rates stand the shares of coffee
orders that are accepted. With `--leaving` these alone are heard, by a search that is led as that of `edge-command` is.
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
from edgespeech.model.average import mean_model
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

Heard = tuple[Sequence[Utterance], Sequence[Features]]


def conditions(utterances: int, *, orders: bool = False) -> dict[str, Heard]:
    """The speech of each condition, by its name; all of it, or the orders."""
    heard: dict[str, Heard] = {}
    for name in SPEECH:
        items, spoken = hear(name, utterances, SNR_DB)
        kept = [place for place, item in enumerate(items) if not orders or item.intent == _ORDER]
        items, spoken = [items[place] for place in kept], [[some[place] for place in kept] for some in spoken]
        names = (name, *(f"{name}, {low:g} to {high:g} dB" for low, high in SNR_DB))
        heard |= {condition: (items, some) for condition, some in zip(names, spoken, strict=True)}
    return heard


def told(trained: Trained, heard: Mapping[str, Heard], beam: int, leaving: float | None = None) -> str:
    """A line: word error rates, and orders accepted, in each condition; with the cost of leaving their grammar, led."""
    grammar = load_grammar(DOMAIN)
    scores = None
    if leaving is not None:
        fusion = load_fusion(shipped_models() / "domains" / DOMAIN, trained.model.config.vocabulary)
        assert fusion is not None  # it ships
        scores = GrammarScores(fusion, grammar.graph, trained.tokeniser.pieces, leaving)
    parts = []
    for condition, (items, features) in heard.items():
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
    """See the top."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("models", nargs=2, type=Path)
    options.add_argument("--shares", nargs="+", type=float, default=[0.0, 0.25, 0.5, 0.75, 1.0])
    options.add_argument("--utterances", type=int, default=150)
    options.add_argument("--beam", type=int, default=BEAM)
    options.add_argument(
        "--leaving", type=float, metavar="COST", help="of leaving the orders' grammar, in nats"
    )
    given = options.parse_args()
    fusion = load_model(EdgeFp32().folder()).fusion
    heard = conditions(given.utterances, orders=given.leaving is not None)
    for share in given.shares:
        mean = replace(mean_model(given.models, [1 - share, share]), fusion=fusion)
        print(f"{share:g}: {told(mean, heard, given.beam, given.leaving)}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except EdgeSpeechError as error:
        sys.exit(f"tune: {error}")
