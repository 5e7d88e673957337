"""Measure quantisation-aware training, arm by arm, write one record, and render it into this folder's README.

edgespeech replicate qat                                   # measure every arm whose file or model is available
edgespeech replicate qat --profile full                    # train what is not trained yet, measure and publish
edgespeech replicate qat --profile full --only 'acosr_*'   # train some of the arms only, then the same
edgespeech replicate qat --rescore                          # score the published transcripts again
edgespeech replicate qat --render                          # render the newest record only
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgespeech.arms.configuration import arms_of, latent_weights
from edgespeech.arms.figures import check_arms, kept, sensitivity_rows
from edgespeech.arms.page import arms_and_plot_block, arms_plots, main_of_arms
from edgespeech.arms.sensitivity import Option
from edgespeech.arms.tables import distances_plot, sensitivity_table
from edgespeech.core.places import project_root
from edgespeech.harness.checks import NO_RECORD, Page, Row, View
from edgespeech.packed.codes import Codes
from edgespeech.packed.edge_file import read_edge

HERE = Path(__file__).parent
RESULTS = project_root() / "results" / "qat"
BINS = 50
"""Number of bins of a histogram."""


def arms(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """All arms, and their comparisons."""
    yield from check_arms(arms_of(HERE), RESULTS, config, seed)


def distances(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Distances of averaged weights from the nearest level at the end of training, before rounding."""
    del seed
    found = arms_of(HERE)
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "levels.edge"
        found.pack(found.arms[config["levels"]], file)
        levels = {name: codes for name, codes in read_edge(file).tensors.items() if isinstance(codes, Codes)}
    span = 2 ** (max(codes.bits for codes in levels.values()) - 1)
    for name in config["distances"]:
        row: Row = {"claim": "qat.distances", "detail": name}
        if not found.finished(found.arms[name]):
            yield {**row, "skipped": "not trained on this machine"}
            continue
        weights = latent_weights(found.run_folder(found.arms[name]), found.shape)
        found_steps = [in_steps(weights[matrix], codes) for matrix, codes in levels.items()]
        steps = np.concatenate(found_steps)
        away = np.concatenate(
            [to_level(own, codes.bits) for own, codes in zip(found_steps, levels.values(), strict=True)]
        )
        picture = {
            "name": name,
            "span": span,
            "mean": float(away.mean()),
            "distances": np.histogram(away, BINS, (0, 0.5))[0].tolist(),
            "weights": np.histogram(steps, 8 * 2 * span, (-span, span))[0].tolist(),
        }
        yield {**row, "measured": float(away.mean()), "n": steps.size, "picture": picture}


def in_steps(weights: np.ndarray[Any, Any], codes: Codes) -> np.ndarray[Any, Any]:
    """Weights in units of the steps of their rows or groups, if these are not 0, with shape `(N,)`."""
    columns = np.arange(codes.cols) // (codes.group or codes.cols)
    scales = codes.scales[:, columns]
    found: np.ndarray[Any, Any] = weights[scales > 0] / scales[scales > 0]
    return found


def to_level(steps: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """Distances from the nearest level for a number of bits, in steps."""
    limit = 2 ** (bits - 1) - 1
    found: np.ndarray[Any, Any] = np.abs(steps - np.rint(steps).clip(-limit, limit))
    return found


def sensitivity(config: dict[str, Any], seed: int) -> Iterator[Row]:
    """Every matrix of the initial model alone in fewer bits."""
    options = [Option(bits) for bits in config["sensitivity"]["bits"]]
    yield from sensitivity_rows(arms_of(HERE), options, config["sensitivity"], config["profile"], seed)


def distances_block(record: View | None) -> str:
    """The picture of distances."""
    return (
        NO_RECORD if not pictures_of(record) else "![weights and their distances to levels](distances.svg)\n"
    )


def sensitivity_block(record: View | None) -> str:
    """The table of sensitivity."""
    rows = kept(record, "tried")
    return NO_RECORD if rows is None else sensitivity_table(rows)


def pictures_of(record: View | None) -> list[Row]:
    """The data of the plot of distances."""
    return [row["picture"] for row in (record or {}).get("rows", ()) if "picture" in row]


def plots(record: View | None) -> dict[str, str]:
    """The page's plots, by file name."""
    shown = pictures_of(record)
    return arms_plots(record, "bits.svg") | ({"distances.svg": distances_plot(shown)} if shown else {})


PAGE = Page(
    folder=HERE,
    records=RESULTS,
    checks=(arms, distances, sensitivity),
    blocks={"arms": arms_and_plot_block, "distances": distances_block, "sensitivity": sensitivity_block},
    plots=plots,
    steps=lambda profile, only: arms_of(HERE).steps(profile, only),
)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's docstring."""
    main_of_arms(PAGE, __doc__, words)
