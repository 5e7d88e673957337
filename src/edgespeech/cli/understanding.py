"""`edgespeech understand`: intent and slots of requests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from edgespeech.errors import EdgeSpeechError

app = typer.Typer()


@app.command()
def understand(
    text: Annotated[
        list[str] | None, typer.Argument(help="Requests, each quoted; one a line of stdin without any.")
    ] = None,
    scheme: Annotated[
        str, typer.Option(help="Whose intents and slots: commands, robot, clinc150, snips or atis.")
    ] = "commands",
    model: Annotated[
        Path | None, typer.Option(help="A packed understanding network; the shipped one.")
    ] = None,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Less probable intents are out of scope (`oos`).")
    ] = 0.0,
) -> None:
    """Print the intent and the slots of requests, one line of JSON each."""
    import json

    from edgespeech.understanding.runtime import Understander, shipped_network
    from edgespeech.understanding.spoken import described

    with Understander(model or shipped_network()) as network:
        network.scheme(scheme)
        for line in text or _lines_of_stdin():
            told = described(network.understand(line, scheme))
            if told["probability"] < least:
                told["intent"] = "oos"
            typer.echo(json.dumps(told, ensure_ascii=False))


def _lines_of_stdin() -> Iterator[str]:
    if sys.stdin is None:  # Python's way to say that the process was started without one
        raise EdgeSpeechError("stdin: is closed, expected requests, one a line")
    try:
        for line in sys.stdin:
            yield line.rstrip("\n")
    except UnicodeDecodeError as error:
        raise EdgeSpeechError(
            f"stdin: is not UTF-8: {error.reason}, expected requests, one a line"
        ) from error
