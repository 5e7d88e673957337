"""Averaging the weights of several checkpoints.

Source: M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time" (ICML 2022); with the model that a run started from, their "Robust fine-tuning of zero-shot
models" (CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

import torch

from edgespeech.errors import bad
from edgespeech.model.checkpoint import Trained, load_model


def average_checkpoints(folders: Sequence[Path], shares: Sequence[float] | None = None) -> Trained:
    """Average the weights of several models, each of which was trained on from the one before it.

    Args:
        folders: of the models, at least one. The last one's word pieces and provenance are the result's.
        shares: weight of each model in the average, from 0 to 1, with a sum of 1; equal by default.

    Raises:
        EdgeSpeechError: a model is missing, they differ in shape or word pieces, or the shares do not fit.
    """
    if shares is None:
        shares = [1 / len(folders)] * len(folders)
    if len(shares) != len(folders) or min(shares) < 0 or not isclose(sum(shares), 1, abs_tol=1e-6):
        names = ", ".join(str(folder) for folder in folders)
        raise bad(f"mean of {names}", "shares", list(shares), "one each, none below 0, with a sum of 1")
    read = {folder: load_model(folder) for folder in folders}
    last = read[folders[-1]]
    for folder, other in read.items():
        for field, its, wanted in (
            ("shape", replace(other.model.config, dropout=0), replace(last.model.config, dropout=0)),
            ("word pieces", other.tokeniser.pieces, last.tokeniser.pieces),
        ):
            if its != wanted:
                raise bad(f"model {folder}", field, its, f"{wanted}, as of {folders[-1]}")
    states = [read[folder].model.state_dict() for folder in folders]
    mean = {
        key: sum(
            (share * state[key] for share, state in zip(shares, states, strict=True)), start=torch.zeros(())
        )
        for key in states[0]
    }
    last.model.load_state_dict(mean)
    return last
