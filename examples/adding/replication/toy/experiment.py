"""Measure two arms, write one record, and render it into this folder's README.

edgespeech replicate toy             # pack and measure both arms
edgespeech replicate toy --render    # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgespeech.arms.configuration import arms_of
from edgespeech.arms.figures import check_arms
from edgespeech.arms.page import arms_and_plot_block, arms_plots, main_of_arms
from edgespeech.core.places import results_dir
from edgespeech.harness.checks import Page, Row

HERE = Path(__file__).parent
RESULTS = results_dir() / HERE.name


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every arm, and what arms are held to."""
    yield from check_arms(arms_of(HERE), RESULTS, config, seed)


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms,),
    blocks={"arms": arms_and_plot_block},
    plots=arms_plots,
    steps=lambda profile, only: arms_of(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    main_of_arms(PAGE, __doc__, words)
