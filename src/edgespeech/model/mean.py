"""The mean of several models' weights.

Source: M. Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time" (ICML 2022); with the model that a run started from, their "Robust fine-tuning of zero-shot
models" (CVPR 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from edgespeech.errors import bad
from edgespeech.model.checkpoint import Trained, load_model


def mean_model(folders: Sequence[Path]) -> Trained:
    """A model whose weights are the mean of several ones', each of which goes on from the one before it.

    Args:
        folders: of the models, at least one; one that is named twice counts twice. The last one's word pieces and
            provenance are the result's.

    Raises:
        EdgeSpeechError: there is no such model, or they differ in shape or word pieces.
    """
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
    mean = {key: torch.stack([state[key] for state in states]).mean(0) for key in states[0]}
    last.model.load_state_dict(mean)
    return last
