"""A made set of requests, small enough to be learned in a second."""

from __future__ import annotations

from pathlib import Path

from edgespeech.corpora.requests import Request, annotated
from edgespeech.understanding.config import NetworkConfig, TrainingConfig
from edgespeech.understanding.training import Trained, train

COLOURS = ("red", "green", "blue", "white")
ROOMS = ("kitchen", "bedroom", "garage", "hall")
ORDERS = [
    *(
        annotated(f"paint the [room : {room}] [colour : {colour}]", "paint")
        for room in ROOMS
        for colour in COLOURS
    ),
    *(annotated(f"clean the [room : {room}]", "clean") for room in ROOMS),
]
CHAT = [
    Request(tuple(text.split()), intent, None)
    for text, intent in (("hello there", "greet"), ("so long", "part"))
]
MATERIAL = {"orders": ORDERS, "chat": CHAT}
DENSE = NetworkConfig(embedding="dense", width=24, hidden=12)
CODED = NetworkConfig(embedding="codes", width=24, hidden=12, codebooks=4, codewords=8)
HASHED = NetworkConfig(embedding="hashed", width=24, hidden=12, buckets=40)
HOW = TrainingConfig(epochs=30, batch=8, rate=0.03, dropout=0.0, forget=0.0)


def learned(folder: Path, shape: NetworkConfig, how: TrainingConfig = HOW) -> Trained:
    """A network trained on the made set."""
    return train(MATERIAL, shape, how, 1, folder)
