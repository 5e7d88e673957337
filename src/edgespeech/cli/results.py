"""Commands about results: compare, report, claims, replicate, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import Profile
from edgespeech.errors import EdgeSpeechError, bad

app = typer.Typer()


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A record.")],
    b: Annotated[Path, typer.Argument(help="Another one, of the same data and normalisers.")],
) -> None:
    """Paired differences of two records, A less B, with intervals and verdicts."""
    from edgespeech.report.compare import compare_records

    typer.echo(compare_records(a, b).to_text())


@app.command()
def verify(
    records: Annotated[
        list[Path] | None,
        typer.Argument(help="Records, each with its rows beside it; default: all published."),
    ] = None,
) -> None:
    """Recompute records' figures from their rows, and print those that differ; validate the records of pages."""
    from edgespeech.pipeline.verify import published, verified

    wrong = 0
    for path in records or published():
        found = verified(path)
        wrong += bool(found.wrong)
        typer.echo(f"{path.name}: " + ("; ".join(found.wrong) if found.wrong else found.good))
        for remark in found.remarks:
            typer.echo(f"  {remark}")
    if wrong:
        raise typer.Exit(1)


@app.command()
def report(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a table would change.")
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Where the page goes; default .work/report.html.")] = None,
) -> None:
    """Render tables, plots and the HTML page from the committed records."""
    from edgespeech.core.extras import need

    for module in ("matplotlib", "jinja2"):
        need(module, "report")
    from edgespeech.pipeline.summary import render_all

    changed = render_all(check=check, html=html)
    if check and changed:
        raise EdgeSpeechError("out of date, run `make report` and commit: " + ", ".join(changed))
    if check:
        typer.echo("all tables and plots are what the records give")
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
    from edgespeech.core.extras import need

    need("asv", "bench")
    from edgespeech.cli.bench import run_asv

    raise typer.Exit(run_asv())


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def replicate(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Techniques, `headline` (the rows of the plan, the default), or `all`."),
    ] = None,
    profile: Annotated[
        Profile, typer.Option(help="quick: seeded subsets, no training; full: everything from scratch.")
    ] = Profile.QUICK,
    only: Annotated[str, typer.Option(help="Of a technique's arms, train those whose names match.")] = "*",
    again: Annotated[bool, typer.Option("--again", help="Measure also what has been measured.")] = False,
    jobs: Annotated[int, typer.Option(min=1, max=10_000, help="Steps at once.")] = 2,
    executor: Annotated[
        str, typer.Option(help="Where steps run: local, or a Snakemake executor (slurm, kubernetes, ...).")
    ] = "local",
    cluster: Annotated[
        Path | None, typer.Option(help="Folder of a Snakemake profile, which may name the executor.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs of each training step.")] = None,
    plan: Annotated[Path | None, typer.Option(help="Of the rows; default: that of the headline.")] = None,
    work: Annotated[Path | None, typer.Option(help="The pipeline's folder; default .work/pipeline.")] = None,
    publish: Annotated[
        bool, typer.Option(help="Add the rows' records to results/ and render again.")
    ] = False,
) -> None:
    """Measure published rows and techniques again on this machine or a cluster, each beside what is published.

    What is finished is not made again; after an interruption the same command goes on. A technique has commands of its
    own: `edgespeech replicate qat -- --help` lists them, and they run by themselves.
    """
    from edgespeech.pipeline.dag import Where
    from edgespeech.pipeline.targets import ALL, HEADLINE, Wanted, default_plan, wanted_names
    from edgespeech.pipeline.targets import replicate as run_replication

    given, own = [name for name in names or [] if not name.startswith("-")], list(context.args)
    if own or len(given) < len(names or []):
        words = [*(names or [])[1:], *own]
        if not given or names is None or names[0] != given[0] or given[0] in (HEADLINE, ALL):
            unknown = next(word for word in [*(names or []), *own] if word.startswith("-"))
            raise bad("replicate", "option", unknown, "one that `edgespeech replicate --help` lists")
        from edgespeech.pipeline.replicate import run_technique

        full = ["--profile", profile.value] if profile is not Profile.QUICK else []
        run_technique(given[0], [*full, *words])
        return
    wanted = Wanted(
        names=wanted_names(given), profile=profile.value, plan=plan or default_plan(), only=only, again=again
    )
    where = Where(jobs=jobs, executor=executor, profile=cluster, gpus=gpus)
    text, failure = run_replication(wanted, where, work=work, publish=publish)
    typer.echo(text)
    if failure:
        raise EdgeSpeechError(failure)
