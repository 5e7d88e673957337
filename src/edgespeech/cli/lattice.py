"""`edgespeech lattice`: make, show and draw lattices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgespeech.cli.shared import Words

app = typer.Typer(no_args_is_help=True, help="Lattices: many hypotheses of an utterance in one graph.")


def _vocabulary(words: Path | None) -> Any:
    from edgespeech.lattice.codec import Vocabulary

    return Vocabulary() if words is None else Vocabulary.load(words)


@app.command("make")
def make_lattice(
    audio: Annotated[Path, typer.Argument(help="An audio file.")],
    out: Annotated[Path, typer.Argument(help="`.lattice`, as it is sent, or `.txt` for Kaldi.")],
    model: Annotated[Path | None, typer.Option(help="A trained model's folder; the shipped one.")] = None,
    beam: Annotated[int, typer.Option(min=1, max=1024, help="States that the search keeps.")] = 8,
    merge: Annotated[int, typer.Option(min=0, help="Last labels that make a state; 0: all.")] = 2,
    width: Annotated[float, typer.Option(min=0, help="How much less than the best a path is worth.")] = 8.0,
    words: Words = None,
) -> None:
    """Recognise an audio file and write the lattice."""
    from edgespeech.audio.io import read_audio
    from edgespeech.lattice.files import write_lattice
    from edgespeech.lattice.paths import prune
    from edgespeech.lattice.search import lattice_of
    from edgespeech.model.checkpoint import load_model
    from edgespeech.systems.edge_fp32 import EdgeFp32

    samples = read_audio(audio, channels="average")
    found = lattice_of(load_model(model or EdgeFp32().folder()), samples, beam, merge or None)
    kept = prune(found, width)
    size = write_lattice(out, kept, _vocabulary(words))
    typer.echo(f"{out}: {size} bytes, {kept.nodes} nodes, {len(kept.arcs)} arcs")


@app.command("show")
def show_lattice(
    file: Annotated[Path, typer.Argument(help="A `.lattice` file, or `.txt` from Kaldi.")],
    n_best: Annotated[int, typer.Option(min=1, help="Paths to print.")] = 5,
    words: Words = None,
) -> None:
    """Print a lattice's best paths, and how sure it is of the best one's words."""
    from edgespeech.lattice.files import described, read_lattice

    typer.echo(described(read_lattice(file, _vocabulary(words)), n_best))


@app.command("draw")
def draw_lattice(
    file: Annotated[Path, typer.Argument(help="A `.lattice` file, or `.txt` from Kaldi.")],
    out: Annotated[Path, typer.Argument(help="`.svg`, or `.dot` for Graphviz.")],
    words: Words = None,
) -> None:
    """Draw a lattice."""
    from edgespeech.lattice.files import read_lattice, write_picture

    write_picture(out, read_lattice(file, _vocabulary(words)))
