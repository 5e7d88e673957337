"""Options shared by several commands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from edgespeech.errors import InterruptedRunError, bad


class Profile(StrEnum):
    """The amount of each corpus to run."""

    QUICK = "quick"
    FULL = "full"


class Floats(StrEnum):
    """The storage of matrices of floats."""

    FP32 = "fp32"
    FP16 = "fp16"


class Store(StrEnum):
    """The storage of matrices of codes."""

    DENSE = "dense"
    SPARSE = "sparse"
    AUTO = "auto"


class Rule(StrEnum):
    """The definition of a signal-to-noise ratio."""

    MEAN = "mean"
    PEAK_FRAME = "peak-frame"


class Band(StrEnum):
    """The frequency band of the audio."""

    TELEPHONE = "telephone"


System = Annotated[str, typer.Option("--system", help="A recogniser; see `edgespeech systems`.")]

Options = Annotated[list[str], typer.Option("--option", help="NAME=VALUE for the recogniser; VALUE as JSON.")]

Seed = Annotated[int, typer.Option(min=0, help="Seed of subsets, noise, networks and intervals.")]

Context = Annotated[
    str | None,
    typer.Option(
        help="Likely phrases: a file with one per line, a name in data_manifests/contexts, or `manifest`."
    ),
]

Channels = Annotated[
    str,
    typer.Option(
        help="For multi-channel audio: mono (refuse it), average, or the number of one channel, from 1 on."
    ),
]

Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the recogniser.")]

Words = Annotated[
    Path | None,
    typer.Option(
        help="The vocabulary of `.lattice` files, one word per line; without it all words are spelled."
    ),
]


def options_of(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` by name, the values read as JSON where they are.

    Raises:
        EdgeSpeechError: one is not of that form.
    """
    options: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise bad("command line", "--option", item, "NAME=VALUE")
        try:
            options[name] = json.loads(value, parse_constant=str)
        except (ValueError, RecursionError):
            options[name] = value
    return options


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Ctrl-C ends the block with one line that says what is kept, and how to go on.

    Raises:
        InterruptedRunError: it was pressed.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(f"interrupted: {kept}") from None
