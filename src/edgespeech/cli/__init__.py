"""The command line. Every command imports what it needs when it runs, so that `--help` stays instant."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Annotated

import typer

from edgespeech.cli import corpora, lattice, models, recognisers, results, training, understanding, updates
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


def main() -> None:
    """Run the command line; a mistake in what was given is one line and exit status 2."""
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
    except OSError as error:
        if error.errno not in _OUTPUT_FAILS:
            raise
        with contextlib.suppress(OSError):
            typer.echo(f"edgespeech: the output cannot be written: {error.strerror}", err=True)
        os._exit(2)  # what is left in the buffers cannot be written either
