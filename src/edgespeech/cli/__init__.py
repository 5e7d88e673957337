"""The command line. Every command imports what it needs when it runs, so that `--help` stays instant."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Annotated

import typer

from edgespeech.cli import (
    corpora,
    lattice,
    models,
    recognisers,
    results,
    speakers,
    training,
    understanding,
    updates,
)
from edgespeech.cli.shared import PlainCommand
from edgespeech.core.extras import missing
from edgespeech.errors import EdgeSpeechError, InterruptedRunError

_OUTPUT_FAILS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure streaming speech recognisers: WER, latency, memory and bandwidth, from one honest harness.",
)
for part in (recognisers, results, corpora, training, models, understanding):
    app.add_typer(part.app)
app.add_typer(lattice.app, name="lattice")
app.add_typer(updates.app, name="update")
app.add_typer(speakers.app, name="speaker")
for part in (recognisers, results, corpora, training, models, understanding, lattice, updates, speakers):
    for command in part.app.registered_commands:
        command.cls = PlainCommand


@app.callback()
def common(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say on stderr what is read, started and written.")
    ] = False,
) -> None:
    """Set up what all commands share."""
    if verbose:
        import logging

        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, omit_repeated_times=False)
        logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s", handlers=[handler])
        logging.getLogger("edgespeech").setLevel(logging.DEBUG)


def open_standard_streams() -> None:
    """Put the null device in the place of standard streams that are closed.

    The next files that are opened would get their numbers, and then what libraries and child processes print.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - as long as the process


def main() -> None:
    """Run the command line; a mistake in what was given is one line and exit status 2."""
    open_standard_streams()
    try:
        app()
    except EdgeSpeechError as error:
        typer.echo(f"edgespeech: {error}", err=True)
        sys.exit(130 if isinstance(error, InterruptedRunError) else 2)
    except ModuleNotFoundError as error:
        if error.name is None or (line := missing(error.name.partition(".")[0])) is None:
            raise
        typer.echo(f"edgespeech: {line}", err=True)
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has enough
        sys.stderr.close()
        sys.exit(141)
    except RuntimeError as error:
        if not str(error).startswith("Symlink loop"):  # as pathlib tells it
            raise
        typer.echo(f"edgespeech: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is not None:  # a file or folder that was given, or the machine's
            typer.echo(f"edgespeech: {error.filename}: {error.strerror}", err=True)
            sys.exit(2)
        if error.errno not in _OUTPUT_FAILS:
            raise
        with contextlib.suppress(OSError):
            typer.echo(f"edgespeech: the output cannot be written: {error.strerror}", err=True)
        os._exit(2)  # what is left in the buffers cannot be written either
