"""Commands that change how a model is stored: pack, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import Floats, Store
from edgespeech.errors import EdgeSpeechError, bad

app = typer.Typer()


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
    from edgespeech.model.branching_checkpoint import is_branching, load_branching
    from edgespeech.model.checkpoint import load_model
    from edgespeech.packed.branches import described
    from edgespeech.packed.edge_file import read_edge
    from edgespeech.packed.layout_search import this_machine
    from edgespeech.packed.pack import Encoding, Layout, load_codes
    from edgespeech.packed.pack import pack as write_packed

    if floats is not None and bits is not None:
        raise bad("command line", "--bits", bits, "nothing beside --floats")
    if (store is Store.AUTO) != (cache_mib is not None):
        raise EdgeSpeechError("command line: --store auto and --cache-mib come together")
    width = {None: bits or 8, Floats.FP16: 16, Floats.FP32: 32}[floats]
    layout = Layout(matrices=Encoding(bits=width, group=group, codebook=codebook, store=store.value))
    branching = is_branching(model)
    trained = load_branching(model) if branching else load_model(model)
    machine = None if cache_mib is None else this_machine(round(cache_mib * 2**20))
    packed = write_packed(trained, layout, out, machine, load_codes(model))
    typer.echo(
        f"{out}: {packed.file_bytes} bytes, {packed.weights} weights, {packed.bits_per_weight:.2f} bits each"
    )
    if branching:
        typer.echo(described(read_edge(out)))


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
