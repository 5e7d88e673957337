"""Measure sparsification, arm by arm, write one record, and render it into this folder's README.

edgespeech replicate sparsification                                  # measure every available arm
edgespeech replicate sparsification --profile full                   # train what is not trained, measure, publish
edgespeech replicate sparsification --profile full --only '*_50'     # train some arms only, then the same
edgespeech replicate sparsification --rescore                        # score the published transcripts again
edgespeech replicate sparsification --render                         # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgespeech.arms.configuration import arms_of, snapshots_of
from edgespeech.arms.figures import check_arms, kept
from edgespeech.arms.page import arms_and_plot_block, arms_plots, main_of_arms
from edgespeech.arms.tables import shades, zeros_plot
from edgespeech.core.places import project_root
from edgespeech.harness.checks import NO_RECORD, Page, Row, View

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "sparsification"


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All arms, and their comparisons."""
    yield from check_arms(arms_of(HERE), RESULTS, config, seed)


def picture(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Pictures of a weight matrix during sparsification."""
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


def picture_block(record: View | None) -> str:
    """The plot of the matrix."""
    return NO_RECORD if kept(record, "pictures") is None else "![a weight matrix, step by step](matrix.svg)\n"


def plots(record: View | None) -> dict[str, str]:
    """The page's plots, by file name."""
    pictures = kept(record, "pictures")
    return arms_plots(record, "zeros.svg", "sparsity") | (
        {} if pictures is None else {"matrix.svg": zeros_plot(pictures)}
    )


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, picture),
    blocks={"arms": arms_and_plot_block, "picture": picture_block},
    plots=plots,
    steps=lambda profile, only: arms_of(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    main_of_arms(PAGE, __doc__, words)
