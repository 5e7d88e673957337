"""Commands about results: compare, report, claims, replicate, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgespeech.cli.shared import Profile
from edgespeech.errors import EdgeSpeechError

app = typer.Typer()


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A record.")],
    b: Annotated[Path, typer.Argument(help="Another record, of the same data and normalisers.")],
) -> None:
    """Print paired differences of two records, A minus B, with intervals and verdicts."""
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
    html: Annotated[Path | None, typer.Option(help="File of the page; default .work/report.html.")] = None,
) -> None:
    """Render tables, plots and the HTML page from the committed records."""
    from edgespeech.core.extras import need

    for module in ("matplotlib", "jinja2"):
        need(module, "report")
    from edgespeech.pipeline.summary import render_all

    changed = render_all(check=check, html=html)
    if check and changed:
        raise EdgeSpeechError("out of date, run `make report` and commit: " + ", ".join(changed))
    for path in changed:
        typer.echo(path)


@app.command()
def claims() -> None:
    """Print reported results of papers beside those of the committed records."""
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
