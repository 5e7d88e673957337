"""Training a branching model: one process, which goes on from its last state after an interruption.

A run's folder has `state.safetensors`, `log.jsonl`, `model/` (averaged weights, written at the end), and `spent.json`:
mean cost and slow share of the final model on the last batches, which a control of equal cost is made by.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.labels import BLANK
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.branching import BranchingTransducer, branched
from edgespeech.model.branching_checkpoint import (
    TrainedBranching,
    is_branching,
    load_branching,
    save_branching,
)
from edgespeech.model.branching_config import BranchingConfig
from edgespeech.model.checkpoint import WEIGHTS, load_model
from edgespeech.model.fast_branch import SparseLayer
from edgespeech.model.loss import transducer_loss
from edgespeech.training.batches import Batch, Batches, loader
from edgespeech.training.branching_config import BranchTraining
from edgespeech.training.branching_losses import Picked, pick
from edgespeech.training.progress import Progress
from edgespeech.training.speech import encode_items, load_noises, load_speech
from edgespeech.training.state import Average, Identity, load_state, save_state

STATE = "state.safetensors"
MODEL = "model"
LOG = "log.jsonl"
SPENT = "spent.json"
_PRUNE_EVERY = 5
"""Steps between two choices of the blocks that are zero, while their number grows."""
_SPENT_OF = 5
"""Batches, those of the last steps, that `spent.json` is about."""


def train_branching(
    config: BranchTraining,
    folder: Path,
    init: Path,
    *,
    workers: int = 1,
    until: int | None = None,
    quiet: bool = False,
) -> Path:
    """Train, or go on with the stopped run of the folder.

    Args:
        config: the run; what it starts from is `init`.
        folder: of the run, created if missing.
        init: folder of a model, plain or of the same branches.
        workers: number of batch-making processes; 0 makes batches in this one.
        until: stop after this many steps, as if killed; None: all.
        quiet: no progress line.

    Returns:
        The folder of the averaged model.

    Raises:
        EdgeSpeechError: the speech, the start or a saved state is not valid, or a loss is not finite.
    """
    run = config.run
    torch.manual_seed(run.seed)
    speech = load_speech(run.speech, longest_s=run.longest_s)
    start = starting(init, BranchingConfig.from_mapping(config.branching), prune=not config.prune)
    model = start.model.requires_grad_(True).train()
    model.transcriber.dropout.p = float(run.model.get("dropout", 0.0))
    labels = encode_items(speech.items, start.tokeniser, model.config)
    noises, rooms = load_noises(*run.noise_corpora), load_noises(*run.room_corpora)
    batches = Batches(run, speech, labels, noises, rooms=rooms)
    optimiser = _optimiser(model, config)
    average = Average(model, run.average)
    identity = Identity(config.sha256 + sha256_file(init / WEIGHTS), speech.sha256)
    step = 0
    if (folder / STATE).is_file():
        step = load_state(folder / STATE, identity, model, optimiser, average, nn.Module())
    end = run.steps if until is None else min(run.steps, until)
    progress = Progress(folder / LOG, first=step, total=run.steps, quiet=quiet)
    for batch in loader(batches, range(step, end), workers=workers):
        torch.manual_seed(run.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = run.rate(step) * group["factor"]
        _prune(model, config, step)
        loss, picked = _losses(model, batch, config, step)
        norm = _update(model, optimiser, loss + picked.penalty, run.clip)
        told = [float(one.detach()) for one in (loss, picked.penalty, norm)]
        if not all(map(math.isfinite, told)):
            raise EdgeSpeechError(
                f"{folder / LOG}: step {step}: loss {told[0]}, penalty {told[1]}, gradient norm {told[2]}, expected "
                f"finite numbers; {STATE} has the last good step"
            )
        average.update(model, step)
        step += 1
        progress.step(
            step,
            batch.audio_s,
            loss=told[0],
            ctc=0.0,
            sounds=0.0,
            penalty=told[1],
            cost=float(picked.cost),
            slow=float(picked.slow),
            norm=told[2],
        )
        if step % run.save_every == 0 or step == end:
            progress.saving()
            save_state(folder / STATE, identity, step, model, optimiser, average, nn.Module())
    progress.close()
    if step == run.steps:
        _take(model, average.weights)
        about = {"run": run.name, "config_sha256": config.sha256, "speech_sha256": speech.sha256}
        about |= {"step": str(step), "torch": torch.__version__}
        save_branching(folder / MODEL, model, start.tokeniser, about)
        write_atomic(folder / SPENT, json.dumps(_spent(model, batches, config), indent=1))
    return folder / MODEL


def starting(init: Path, branching: BranchingConfig, *, prune: bool = True) -> TrainedBranching:
    """The model that a run starts from.

    Args:
        init: folder of a plain model, whose weights both branches start from, or of a branching one.
        branching: of the run.
        prune: see `edgespeech.model.branching.branched`.

    Raises:
        EdgeSpeechError: it is no model, or one of other branches.
    """
    if is_branching(init):
        found = load_branching(init)
        if found.model.branching != branching:
            raise bad(
                f"{init.name}/{WEIGHTS}", "branching", found.model.branching, f"{branching}, as the run's"
            )
        return found
    plain = load_model(init)
    return TrainedBranching(branched(plain.model, branching, prune=prune), plain.tokeniser, plain.provenance)


def _prune(model: BranchingTransducer, config: BranchTraining, step: int) -> None:
    """Choose anew which blocks of a sparse branch are zero, while their number grows."""
    last = config.prune * config.run.steps
    if not config.prune or step > last or (step % _PRUNE_EVERY and step + 1 <= last):
        return
    share = 1 - (1 - config.progress(step, config.prune)) ** 3
    for layer in _sparse_layers(model):
        layer.prune(share * layer.branching.sparsity)


def _losses(
    model: BranchingTransducer, batch: Batch, config: BranchTraining, step: int
) -> tuple[Tensor, Picked]:
    picked = pick(model, batch.features, batch.lengths, config, step)
    encoded, lengths, _ = model.transcribe(batch.features, batch.lengths, None, picked.mix)
    predicted = model.predict(batch.labels)
    loss = transducer_loss(
        encoded,
        predicted,
        model.joiner.weight,
        model.joiner.bias,
        batch.labels,
        lengths,
        batch.label_lengths,
        blank=BLANK,
        memory_mib=config.run.loss_mib,
        fast_emit=config.run.fast_emit,
    ).sum()
    return loss / max(batch.global_labels, 1), picked


def _update(
    model: BranchingTransducer, optimiser: torch.optim.Optimizer, loss: Tensor, clip: float
) -> Tensor:
    """One step of the optimiser; returns the gradient's norm before clipping."""
    optimiser.zero_grad(set_to_none=True)
    # With a gradient of zero for every weight, as in `edgespeech.training.loop`.
    torch.autograd.backward(loss + sum(parameter.sum() * 0 for parameter in model.parameters()))
    norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    if torch.isfinite(norm):
        optimiser.step()
        for layer in _sparse_layers(model):
            layer.keep()
    return norm


def _optimiser(model: BranchingTransducer, config: BranchTraining) -> torch.optim.Optimizer:
    own = {id(parameter) for parameter in model.transcriber.arbitrator.parameters()}
    groups = (
        {"params": [p for p in model.parameters() if id(p) not in own], "factor": 1.0},
        {"params": [p for p in model.parameters() if id(p) in own], "factor": config.arbitrator_rate},
    )
    return torch.optim.AdamW(
        groups, config.run.learning_rate, betas=(0.9, 0.98), weight_decay=config.run.weight_decay
    )


def _sparse_layers(model: BranchingTransducer) -> list[SparseLayer]:
    return [layer for layer in model.transcriber.layers_of_fast if isinstance(layer, SparseLayer)]


def _take(model: BranchingTransducer, weights: Mapping[str, Tensor]) -> None:
    """Load averaged weights, whose zeros are those of the model and not of earlier steps."""
    masks = [(layer.kept_ih.clone(), layer.kept_hh.clone()) for layer in _sparse_layers(model)]
    model.load_state_dict(dict(weights))
    for layer, (of_input, of_state) in zip(_sparse_layers(model), masks, strict=True):
        layer.kept_ih.copy_(of_input)
        layer.kept_hh.copy_(of_state)
        layer.keep()


@torch.no_grad()
def _spent(model: BranchingTransducer, batches: Batches, config: BranchTraining) -> dict[str, float]:
    """What a model spends on the run's last batches, by hard decisions; means over valid frames."""
    model.eval()
    frames = cost = slow = 0.0
    for step in range(max(0, config.run.steps - _SPENT_OF), config.run.steps):
        torch.manual_seed(step)
        batch = batches[step]
        valid = int((batch.lengths // model.config.stack).sum())
        picked = pick(model, batch.features, batch.lengths, config, step)
        frames, cost, slow = (
            frames + valid,
            cost + valid * float(picked.cost),
            slow + valid * float(picked.slow),
        )
    return {"cost": cost / frames, "slow": slow / frames}
