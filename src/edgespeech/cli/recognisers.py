"""Commands that run recognisers: transcribe, demo, evaluate, serve, and the list of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import (
    Band,
    Channels,
    Context,
    Options,
    Rule,
    Seed,
    System,
    Threads,
    interruptible,
    options_of,
)
from edgespeech.errors import EdgeSpeechError, bad

app = typer.Typer()


@app.command()
def transcribe(
    files: Annotated[list[Path], typer.Argument(help="Audio files; - reads one from stdin.")],
    system: System,
    option: Options = [],  # noqa: B006  # typer reads the default, nobody writes it
    context: Context = None,
    language: Annotated[str, typer.Option(help="ISO 639-1 code of what is spoken.")] = "en",
    channels: Channels = "average",
    threads: Threads = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file, with every event.")
    ] = False,
) -> None:
    """Print what a recogniser makes of audio files; one that cannot be read does not stop the others."""
    from edgespeech.core.threads import pin_threads

    pin_threads(threads)
    from edgespeech.harness.transcribe import as_dict, as_text, transcribe_files

    failed = 0
    found = transcribe_files(
        files, system, options_of(option), context=context, language=language, channels=channels
    )
    for path, result in found:
        for line in result.remarks:
            typer.echo(f"edgespeech: {line}", err=True)
        if result.timeline is None:
            failed += 1
        elif as_json:
            typer.echo(json.dumps(as_dict(path, result.timeline), ensure_ascii=False))
        else:
            typer.echo(as_text(path, result.timeline))
        sys.stdout.flush()
    if failed:
        raise typer.Exit(1)


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

    recogniser = find_recogniser(system, **options_of(option))
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
    stream: Annotated[
        str | None,
        typer.Option(
            help="What comes before and over each utterance: a name of data_manifests/streams, or `manifest`."
        ),
    ] = None,
    channels: Channels = "mono",
    grammar: Annotated[
        str | None, typer.Option(help="Parses hypotheses of a manifest with intents: a name or a YAML file.")
    ] = None,
    network: Annotated[list[str], typer.Option(help="Network profiles to replay over; all by default.")] = [],  # noqa: B006  # as above
    limit: Annotated[int | None, typer.Option(min=1, help="Run a seeded subset of this size.")] = None,
    seed: Seed = 0,
    threads: Threads = 1,
    cloud_speedup: Annotated[
        float, typer.Option(min=0.01, help="Far side's speed, this machine being 1.")
    ] = 10.0,
    option: Options = [],  # noqa: B006  # as above
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run in --out.")] = False,
    by: Annotated[str | None, typer.Option(help="Also print word errors by a field of the manifest.")] = None,
) -> None:
    """Run one recogniser over one manifest and write one record with its hypotheses."""
    from edgespeech.cloud.link import load_profiles
    from edgespeech.harness.evaluate import Settings, evaluate_run
    from edgespeech.harness.plan import Run
    from edgespeech.report.groups import groups_table
    from edgespeech.report.tables import one_line

    if (noise is None) != (snr is None):
        raise EdgeSpeechError("command line: --noise and --snr come together")
    if grammar is not None:
        _refuse_unused(grammar, manifest)
    if by is not None:
        _refuse_unknown(by, manifest)
    settings = Settings(
        seed=seed,
        threads=threads,
        cloud_speedup=cloud_speedup,
        networks=tuple(network or load_profiles()),
        profile="full" if limit is None else "quick",
        concurrent_jobs=1,
        channels=channels,
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
        stream=stream,
    )
    with interruptible("nothing was run"):
        record, rows = evaluate_run(
            run, settings, options=options_of(option), grammar=grammar, out=out, resume=resume
        )
    typer.echo(one_line(record))
    typer.echo(str(out / f"{record.stem}.json"))
    if by is not None:
        typer.echo(groups_table(rows, by))
    if record.status != "passed":
        raise typer.Exit(1)


def _refuse_unused(grammar: str, name: str) -> None:
    """Refuse a grammar that would parse nothing: commands are judged only in a manifest with intents."""
    from edgespeech.corpora.fetch import manifest_of

    manifest = manifest_of(name)
    if not any(utterance.intent is not None for utterance in manifest.utterances):
        raise bad(
            "command line", "--grammar", grammar, f"none, since no utterance of {manifest.name} has an intent"
        )


def _refuse_unknown(by: str, name: str) -> None:
    """Refuse a field that no row will have, before the run."""
    from edgespeech.corpora.fetch import manifest_of
    from edgespeech.harness.score import fields_of, publishable

    known = {
        field
        for one in manifest_of(name).utterances
        for field, value in {"speaker": one.speaker, **publishable(fields_of(one))}.items()
        if value is not None
    }
    if by not in known:
        raise bad("--by", "field", by, f"one of {', '.join(sorted(known)) or '(the manifest has none)'}")


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
def doctor() -> None:
    """Say what this machine has of what EdgeSpeech needs."""
    from edgespeech.cli.doctor import doctor as look

    lines, good = look()
    for line in lines:
        typer.echo(line)
    if not good:
        raise typer.Exit(1)


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
    threads: Threads = 1,
) -> None:
    """Serve the cloud baseline over WebSocket."""
    from edgespeech.core.extras import need
    from edgespeech.core.threads import pin_threads

    pin_threads(threads)
    for module in ("websockets", "av", "faster_whisper"):
        need(module, "serve")
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
