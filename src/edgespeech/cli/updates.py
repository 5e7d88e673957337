"""`edgespeech update`: make, inspect and apply model updates."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from edgespeech.errors import bad

app = typer.Typer(
    no_args_is_help=True, help="Model updates: small files that turn one packed model into another."
)


class DeltaKind(StrEnum):
    """Kinds of deltas within a budget."""

    SPARSE = "sparse"
    LOW_RANK = "low_rank"
    HASHED = "hashed"


Old = Annotated[Path, typer.Argument(help="The `.edge` file that devices have.")]
Slots = Annotated[Path, typer.Argument(help="A folder of slots.")]

UpdateFile = Annotated[Path, typer.Argument(help="An update file.")]


@app.command("make")
def make_update(
    old: Old,
    new: Annotated[Path, typer.Argument(help="The new `.edge` file; with --budget also a model's folder.")],
    out: Annotated[Path, typer.Option(help="The update file to write.")],
    budget: Annotated[
        str | None,
        typer.Option(help="Bytes of the update, or a share of the old file such as 2%; else exact."),
    ] = None,
    kind: Annotated[DeltaKind, typer.Option(help="Of the deltas within a budget.")] = DeltaKind.SPARSE,
    start: Annotated[
        Path | None, typer.Option(help="The trained model that NEW went on from: only what training changed.")
    ] = None,
) -> None:
    """Write an update, after having applied it once: exact, or the nearest within a budget."""
    from edgespeech.updates.make import make_exact, make_within
    from edgespeech.updates.update_file import Kind

    if budget is not None:
        made = make_within(old, new, out, Kind[kind.name], budget_of(budget, old), start=start)
    elif start is not None:
        raise bad("command line", "--start", str(start), "--budget beside it")
    else:
        made = make_exact(old, new, out)
    share = 100 * made.header.file_bytes / made.header.new_bytes
    typer.echo(
        f"{out}: {made.header.file_bytes} bytes, {share:.2f} % of the new model's {made.header.new_bytes}; "
        f"{100 * made.error:.1f} % of the change of weights is left"
    )


@app.command("apply")
def apply(
    old: Annotated[
        Path, typer.Argument(help="The `.edge` file that the update is for, or a folder of slots.")
    ],
    update: UpdateFile,
    out: Annotated[
        Path | None, typer.Option(help="The new `.edge` file; the old one stays. Not for a folder of slots.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="For slots: try a model that was refused before.")
    ] = False,
) -> None:
    """Make the new model; in a folder of slots it is self-checked before it runs, and the old one goes on otherwise."""
    from edgespeech.updates.slots import update_slots
    from edgespeech.updates.update_file import apply_update

    if old.is_dir():
        if out is not None:
            raise bad("command line", "--out", str(out), "nothing beside a folder of slots")
        header = update_slots(old, update, again=again)
    elif out is None:
        raise bad("command line", "--out", None, "the new `.edge` file")
    else:
        header = apply_update(old, update, out)
    typer.echo(f"{out or old}: {header.new_bytes} bytes, sha256 {header.new_sha256}")


@app.command("install")
def install_model(
    folder: Slots,
    model: Annotated[Path, typer.Argument(help="The first `.edge` file.")],
) -> None:
    """Begin a folder of two slots with a model."""
    from edgespeech.updates.slots import install

    typer.echo(f"{folder}: slot a, sha256 {install(folder, model).sha256}")


@app.command("running")
def running_model(folder: Slots) -> None:
    """Print the model of a folder of slots that is to be loaded, after its hash was verified."""
    from edgespeech.updates.slots import running

    typer.echo(running(folder))


@app.command("rollback")
def rollback(folder: Slots) -> None:
    """Let the former model of a folder of slots run again; the other one is refused from now on."""
    from edgespeech.updates.slots import roll_back

    typer.echo(roll_back(folder))


@app.command("inspect")
def inspect(
    update: UpdateFile,
    old: Annotated[Path | None, typer.Option(help="The old `.edge` file, for the names of tensors.")] = None,
) -> None:
    """Print what an update is for, what it makes, and the bytes of each tensor."""
    from edgespeech.packed.edge_file import read_edge
    from edgespeech.updates.update_file import described, read_update

    for line in described(read_update(update), None if old is None else read_edge(old)):
        typer.echo(line)


def budget_of(text: str, old: Path) -> int:
    """A budget in bytes.

    Args:
        text: `20000`, or `2%` of the old file.
        old: that file.

    Raises:
        EdgeSpeechError: it is neither, or not above 0; or the file is missing.
    """
    expected = "bytes such as 20000, or a share of the old file such as 2%"
    try:
        if not text.endswith("%"):
            return int(text)
        if not old.is_file():
            raise bad("command line", "OLD", str(old), "a `.edge` file")
        return int(float(text[:-1]) / 100 * old.stat().st_size)
    except (ValueError, OverflowError) as error:
        raise bad("command line", "--budget", text, expected) from error
