"""Measure sparsification, arm by arm, write one record, and render it into this folder's README.

edgespeech replicate sparsification                                  # hear every arm that is here
edgespeech replicate sparsification --profile full                   # train what is not trained, publish
edgespeech replicate sparsification --profile full --only '*_50'     # train some arms only, then the same
edgespeech replicate sparsification --render                         # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgespeech.arms.configuration import arms_of, snapshots_of, train_arms
from edgespeech.arms.figures import check_arms, kept
from edgespeech.arms.tables import arms_table, curve_plot, pareto_plot, shades, zeros_plot
from edgespeech.core.places import project_root
from edgespeech.core.yaml_files import load_yaml
from edgespeech.harness.checks import NO_RECORD, Page, Row, View, parser
from edgespeech.report.page import run

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "sparsification"


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every arm, and what arms are held to."""
    yield from check_arms(arms_of(HERE), RESULTS, config, seed)


def picture(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """A weight matrix as the zeros appear."""
    del seed
    settings = config["picture"]
    found = arms_of(HERE)
    pictures = [
        {
            "step": step,
            "zeros": float((weights[settings["matrix"]] == 0).mean()),
            "shades": shades(weights[settings["matrix"]], settings["side"]),
        }
        for step, weights in snapshots_of(found, found.arms[settings["arm"]])
    ]
    yield {"arm": settings["arm"], "matrix": settings["matrix"], "pictures": pictures}


def arms_block(record: View | None) -> str:
    """The table of arms, and its plots."""
    rows = kept(record, "arms")
    if rows is None:
        return NO_RECORD
    assert record is not None
    pictures = "![word errors against bytes and time](pareto.svg)\n"
    return f"{arms_table(rows, record['config'])}\n{pictures}"


def picture_block(record: View | None) -> str:
    """The matrix."""
    return NO_RECORD if kept(record, "pictures") is None else "![a weight matrix, step by step](matrix.svg)\n"


def plots(record: View | None) -> dict[str, str]:
    """The page's plots, by file name."""
    drawn: dict[str, str] = {}
    if (rows := kept(record, "arms")) is not None:
        assert record is not None
        drawn["zeros.svg"] = curve_plot(rows, record["config"]["control"], "sparsity")
        drawn["pareto.svg"] = pareto_plot(rows)
    if (pictures := kept(record, "pictures")) is not None:
        drawn["matrix.svg"] = zeros_plot(pictures)
    return drawn


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, picture),
    blocks={"arms": arms_block, "picture": picture_block},
    plots=plots,
)


def main(words: Sequence[str] | None = None) -> None:
    """See the top."""
    options = parser(__doc__)
    options.add_argument("--only", metavar="PATTERN", default="*", help="arms that the full profile trains")
    given = options.parse_args(words)
    if given.profile == "full" and not given.render:
        config = load_yaml(HERE / "config.yaml")
        shown = {config["picture"]["arm"]: config["picture"]["snapshots"]}
        train_arms(arms_of(HERE), given.only, processes=config["processes"], snapshots=shown)
    run(PAGE, profile=given.profile, render_only=given.render)
