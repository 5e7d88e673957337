"""Common parts of the pages with arms: the block and the plots of all arms, and the command.

A page of arms is a folder `replication/NAME` whose `config.yaml` has `families` (`edgespeech.arms.configuration`) and
the keys for `edgespeech.arms.figures.check_arms`. It has its own claims, checks, blocks and text.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgespeech.arms.figures import kept
from edgespeech.arms.rescored import rescore_newest
from edgespeech.arms.tables import arms_table, curve_plot, pareto_plot
from edgespeech.harness.checks import NO_RECORD, Page, View, parser
from edgespeech.report.page import run

PARETO = "pareto.svg"
"""The plot of word errors against bytes and time."""


def arms_block(record: View | None) -> str:
    """The table of arms."""
    rows = kept(record, "arms")
    return NO_RECORD if record is None or rows is None else arms_table(rows, record["config"])


def arms_and_plot_block(record: View | None) -> str:
    """The table of arms, and the plot of word errors against bytes and time."""
    table = arms_block(record)
    return table if table == NO_RECORD else f"{table}\n![word errors against bytes and time]({PARETO})\n"


def arms_plots(record: View | None, curve: str | None = None, axis: str = "bits") -> dict[str, str]:
    """Plots of the arms, by file name: `PARETO`, and the curve of word errors against bits or zeros.

    Args:
        record: of the page.
        curve: file name of the curve; None leaves it out.
        axis: of the curve, `bits` or `sparsity`.
    """
    rows = kept(record, "arms")
    if record is None or rows is None:
        return {}
    drawn = {} if curve is None else {curve: curve_plot(rows, record["config"]["control"], axis)}
    return {**drawn, PARETO: pareto_plot(rows)}


def main_of_arms(page: Page, about: str | None, words: Sequence[str] | None) -> None:
    """The command of a page of arms beside the pipeline: renders; with `--rescore` it first scores transcripts again.

    Args:
        page: the page.
        about: its docstring.
        words: arguments of the command line.

    Raises:
        EdgeSpeechError: as `rescore_newest` and `edgespeech.report.page.run` do.
    """
    options = parser(about)
    options.add_argument("--rescore", action="store_true", help="only score the published transcripts again")
    if options.parse_args(words).rescore:
        rescore_newest(page)
    run(page, render_only=True)
