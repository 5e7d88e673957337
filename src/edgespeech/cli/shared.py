"""The options that several commands have."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from edgespeech.core.files import is_text
from edgespeech.errors import InterruptedRunError, bad


class PlainCommand(TyperCommand):
    """A command that takes each option once, and finite numbers alone.

    Otherwise the last of two values would count without a word, and `nan` would pass every range.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Command.parse_args`.

        Raises:
            EdgeSpeechError: an option stands twice that takes one value, or a number is not finite.
        """
        if not ctx.resilient_parsing:
            _, _, order = self.make_parser(ctx).parse_args(args=list(args))
            for option in order:
                if order.count(option) > 1 and not (option.multiple or option.nargs == -1):
                    raise bad("command line", option.opts[0], "given more than once", "one value")
        rest = super().parse_args(ctx, args)
        for option in self.get_params(ctx):
            value = ctx.params.get(option.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise bad("command line", option.opts[0], value, "a finite number")
        return rest


class Profile(StrEnum):
    """How much of each corpus is run."""

    QUICK = "quick"
    FULL = "full"


class Floats(StrEnum):
    """How matrices of floats are stored."""

    FP32 = "fp32"
    FP16 = "fp16"


class Store(StrEnum):
    """How matrices of codes are stored."""

    DENSE = "dense"
    SPARSE = "sparse"
    AUTO = "auto"


class Rule(StrEnum):
    """What a signal-to-noise ratio means."""

    MEAN = "mean"
    PEAK_FRAME = "peak-frame"


class Band(StrEnum):
    """What a channel leaves of the audio."""

    TELEPHONE = "telephone"


System = Annotated[str, typer.Option("--system", help="A recogniser; see `edgespeech systems`.")]

Options = Annotated[list[str], typer.Option("--option", help="NAME=VALUE for the recogniser; VALUE as JSON.")]

Seed = Annotated[int, typer.Option(min=0, help="Of subsets, noise, networks and intervals.")]

Context = Annotated[
    str | None,
    typer.Option(
        help="Likely phrases: a file with one a line, a name in data_manifests/contexts, or `manifest`."
    ),
]

Channels = Annotated[
    str,
    typer.Option(help="Of audio with several: mono (refuse it), average, or the number of one, from 1 on."),
]

Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the recogniser.")]

Words = Annotated[
    Path | None,
    typer.Option(help="The vocabulary of `.lattice` files, one word a line; all are spelled without."),
]


def options_of(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` by name, the values read as JSON where they are.

    Raises:
        EdgeSpeechError: one is not of that form, or has the name of another.
    """
    options: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise bad("command line", "--option", item, "NAME=VALUE")
        if name in options:
            raise bad("command line", "--option", item, f"{name} once")
        try:
            options[name] = json.loads(value, parse_constant=str)
        except (ValueError, RecursionError):
            options[name] = value
        if not is_text(json.dumps(options[name], ensure_ascii=False)):
            raise bad("command line", "--option", item, "whole characters: its bytes are not UTF-8")
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
