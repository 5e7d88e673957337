"""Commands that train: `edgespeech train` and `edgespeech shard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import interruptible

app = typer.Typer()


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="The run's file (YAML).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; `runs/NAME` in the work folder by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make batches, beside training.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of each process that trains.")] = 1,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps in all.")] = None,
    shards: Annotated[
        Path | None, typer.Option(help="Folder of `edgespeech shard` that all audio comes from.")
    ] = None,
) -> None:
    """Train a model; the same command resumes a stopped run.

    Two processes of one thread each are faster than one of two threads:
    torchrun --nproc-per-node 2 --no-python edgespeech train CONFIG
    """
    import torch

    from edgespeech.core.places import work_dir
    from edgespeech.training.config import load_train_config
    from edgespeech.training.loop import train as run

    wanted = load_train_config(config)
    torch.set_num_threads(threads)
    folder = out or work_dir() / "runs" / wanted.name
    with interruptible(f"the last state is in {folder}: the same command goes on"):
        typer.echo(run(wanted, folder, workers=workers, until=until, shards=shards))


@app.command()
def shard(
    config: Annotated[Path, typer.Argument(help="A training run's file.")],
    out: Annotated[Path, typer.Option(help="Folder to write to, without shards.")],
    largest_mb: Annotated[float, typer.Option(min=0.1, help="Of a shard, in 10^6 bytes.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of utterances.")] = 0,
) -> None:
    """Pack all audio that a run needs into shards, for `edgespeech train --shards` on another machine."""
    from edgespeech.training.config import load_train_config
    from edgespeech.training.shards import write_shards
    from edgespeech.training.speech import run_manifests

    manifests = run_manifests(load_train_config(config))
    typer.echo(write_shards(manifests, out, seed=seed, largest_mb=largest_mb))
