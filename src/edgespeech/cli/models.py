"""Commands that make models: train, shard, pack, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import Floats, Store
from edgespeech.errors import EdgeSpeechError, bad

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
    """Train a model, or go on where the run was stopped.

    Two processes of one thread each are faster than one of two threads:
    torchrun --nproc-per-node 2 --no-python edgespeech train CONFIG
    """
    import torch

    from edgespeech.core.places import work_dir
    from edgespeech.training.config import load_train_config
    from edgespeech.training.loop import train as run

    wanted = load_train_config(config)
    torch.set_num_threads(threads)
    typer.echo(
        run(wanted, out or work_dir() / "runs" / wanted.name, workers=workers, until=until, shards=shards)
    )


@app.command()
def shard(
    config: Annotated[Path, typer.Argument(help="A training run's file.")],
    out: Annotated[Path, typer.Option(help="Folder to write to; it holds no shards yet.")],
    largest_mb: Annotated[float, typer.Option(min=0.1, help="Of a shard, in 10^6 bytes.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of utterances.")] = 0,
) -> None:
    """Pack all audio that a run needs into shards, for `edgespeech train --shards` on another machine."""
    from edgespeech.training.config import load_train_config
    from edgespeech.training.shards import write_shards
    from edgespeech.training.speech import run_manifests

    manifests = run_manifests(load_train_config(config))
    typer.echo(write_shards(manifests, out, seed=seed, largest_mb=largest_mb))


@app.command()
def pack(
    model: Annotated[Path, typer.Argument(help="A trained model's folder.")],
    out: Annotated[Path, typer.Option(help="The `.edge` file to write.")],
    bits: Annotated[
        int | None, typer.Option(min=2, max=8, help="Of a weight; 8 unless --floats is given.")
    ] = None,
    group: Annotated[int, typer.Option(min=0, help="Columns that share a scale; 0: all of a row.")] = 0,
    codebook: Annotated[bool, typer.Option("--codebook", help="Learned levels, for 2 to 6 bits.")] = False,
    floats: Annotated[Floats | None, typer.Option(help="Do not quantise; in place of --bits.")] = None,
    store: Annotated[
        Store, typer.Option(help="sparse: a zero costs one bit; auto: the quickest on this machine.")
    ] = Store.DENSE,
    cache_mib: Annotated[
        float | None, typer.Option(min=0, help="For auto: MiB of weights that the cache holds.")
    ] = None,
) -> None:
    """Pack a trained model into one file for the native engine; codes that it was trained with stay as they are."""
    from edgespeech.model.checkpoint import load_model
    from edgespeech.packed.layout_search import this_machine
    from edgespeech.packed.pack import Encoding, Layout, load_codes
    from edgespeech.packed.pack import pack as write_packed

    if floats is not None and bits is not None:
        raise bad("command line", "--bits", bits, "nothing beside --floats")
    if (store is Store.AUTO) != (cache_mib is not None):
        raise EdgeSpeechError("command line: --store auto and --cache-mib come together")
    width = {None: bits or 8, Floats.FP16: 16, Floats.FP32: 32}[floats]
    layout = Layout(matrices=Encoding(bits=width, group=group, codebook=codebook, store=store.value))
    trained = load_model(model)
    machine = None if cache_mib is None else this_machine(round(cache_mib * 2**20))
    packed = write_packed(trained, layout, out, machine, load_codes(model))
    typer.echo(
        f"{out}: {packed.file_bytes} bytes, {packed.weights} weights, {packed.bits_per_weight:.2f} bits each"
    )


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A trained model's folder.")],
    out: Annotated[Path, typer.Option(help="Folder for the files.")],
) -> None:
    """Write a trained model as ONNX files for sherpa-onnx and ONNX Runtime, in fp32 and int8."""
    from edgespeech.model.checkpoint import load_model
    from edgespeech.model.export_onnx import export_onnx, quantise_onnx

    export_onnx(load_model(model), out)
    quantise_onnx(out)
    typer.echo(out)
