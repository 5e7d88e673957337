"""Training of an identifier of languages (`edgespeech.model.languages.Identifier`), as a step of the pipeline.

The run's configuration is that of a transducer (`TrainConfig`): its model's layers are those of the identifier's
transcriber, and `languages` its loss, whose weight does not matter. Words are not learned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.config import ModelConfig
from edgespeech.model.languages import IDENTIFIER, Identifier, save_identifier
from edgespeech.steps.step import Resources, Step
from edgespeech.steps.store import Job
from edgespeech.synthesis.step import speech_steps
from edgespeech.training.batches import Batches, loader
from edgespeech.training.config import TrainConfig
from edgespeech.training.languages import language_loss, language_names
from edgespeech.training.progress import Progress
from edgespeech.training.speech import load_noises, load_speech
from edgespeech.training.state import Average, Identity, load_state, save_state

RULE = "identify"
STATE = "state.safetensors"
LOG = "log.jsonl"
_STATISTICS_OF = 200
_WITHOUT = ("core", "records", "corpora", "synthesis", "engine", "packed", "metrics", "search", "lm")


def train_identifier(
    config: TrainConfig, folder: Path, *, workers: int = 0, quiet: bool = False
) -> Identifier:
    """Train, or go on where the run of this folder was stopped.

    Args:
        config: the run, with `languages`.
        folder: of the run, created if missing; it gets the averaged identifier.
        workers: number of batch-making processes; 0 makes batches in this one.
        quiet: no progress line.

    Raises:
        EdgeSpeechError: the speech, the configuration or a saved state is not valid, or a loss is not finite.
    """
    if config.languages is None:
        raise bad(
            f"run {config.name}", "languages", None, "the loss on the language, which an identifier learns"
        )
    names, memory_s = language_names(config.speech), config.languages.memory_s
    shape = ModelConfig.from_mapping(config.model)
    torch.manual_seed(config.seed)
    speech = load_speech(config.speech, longest_s=config.longest_s)
    rooms = load_noises(*config.room_corpora)
    noises = load_noises(*config.noise_corpora)
    batches = Batches(config, speech, [[] for _ in speech.items], noises, rooms=rooms)
    model = Identifier(shape, names, memory_s)
    sample = torch.cat([torch.from_numpy(frames) for frames in batches.sample_features(_STATISTICS_OF)])
    model.transcriber.set_statistics(sample.mean(0), sample.std(0))
    model.train()
    optimiser = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    average = Average(model, config.average)
    identity = Identity(config.sha256, speech.sha256)
    step = 0
    if (folder / STATE).is_file():
        step = load_state(folder / STATE, identity, model, optimiser, average, nn.Module())
    progress = Progress(folder / LOG, first=step, total=config.steps, quiet=quiet)
    for batch in loader(batches, range(step, config.steps), workers=workers):
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        assert batch.spoken is not None, "the run has languages"
        encoded, lengths, _ = model.transcriber(batch.features, batch.lengths)
        loss = language_loss(model.head, encoded, lengths, batch.spoken.languages) / batch.spoken.utterances
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if not (math.isfinite(float(loss.detach())) and math.isfinite(float(norm))):
            raise EdgeSpeechError(
                f"{folder / LOG}: step {step}: loss {float(loss.detach())}, gradient norm {float(norm)}, expected "
                f"finite numbers; {STATE} has the last good step"
            )
        optimiser.step()
        average.update(model, step)
        step += 1
        progress.step(step, batch.audio_s, loss=float(loss.detach()), ctc=0.0, sounds=0.0, norm=float(norm))
        if step % config.save_every == 0 or step == config.steps:
            progress.saving()
            save_state(folder / STATE, identity, step, model, optimiser, average, nn.Module())
    progress.close()
    averaged = Identifier(shape, names, memory_s)
    averaged.load_state_dict(average.weights)
    save_identifier(folder, averaged)
    return averaged.eval().requires_grad_(False)


def identify_step(
    name: str, config: TrainConfig, *, needs: Sequence[Step] = (), resources: Resources | None = None
) -> Step:
    """The step that trains an identifier.

    Args:
        name: of the step.
        config: the run.
        needs: further steps that make its speech.
        resources: what it uses of a machine.

    Raises:
        EdgeSpeechError: its speech is none that can be made or fetched.
    """
    speech = [*(source.corpus for source in config.speech), *config.noise_corpora, *config.room_corpora]
    return Step(
        rule=RULE,
        name=name,
        function=f"{__name__}:make_identifier",
        given={"run": config.model_dump(mode="json", exclude_unset=True)},
        needs=(*needs, *speech_steps(speech)),
        code=(__name__,),
        without=_WITHOUT,
        resources=resources or Resources(),
    )


def make_identifier(job: Job) -> list[Path]:
    """Train, or go on where the run was stopped."""
    torch.set_num_threads(job.resources.threads)
    train_identifier(TrainConfig.model_validate(job.given["run"]), job.folder)
    return [job.folder / IDENTIFIER, job.folder / STATE]
