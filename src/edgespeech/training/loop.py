"""The training loop: one process, or several under torchrun, on the processor or on GPUs.

A run's folder has `state.safetensors` (see `edgespeech.training.state`), `log.jsonl` (a line every few seconds), and
`model/`, the current averaged weights as a usable model. The state is written before the model, and `state.json`, which
gives the step of both, after it: a run that was killed in between writes the model when it is resumed.
"""

from __future__ import annotations

import json
import platform
from dataclasses import fields
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import project_root
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.model.average import average_checkpoints
from edgespeech.model.checkpoint import WEIGHTS, load_model, save_model
from edgespeech.model.config import ModelConfig
from edgespeech.model.languages import LanguageHead, save_head
from edgespeech.model.restack import restacked
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.model.transducer import Transducer
from edgespeech.packed.pack import save_codes
from edgespeech.text import spanish
from edgespeech.training.batches import Batch, Batches, loader
from edgespeech.training.biasing import PhraseLists, freeze_all_but_attention
from edgespeech.training.compressor import Compressors
from edgespeech.training.config import TrainConfig
from edgespeech.training.languages import language_names
from edgespeech.training.lead_in import lead_in_maker
from edgespeech.training.losses import LANGUAGES, MODEL, SOUNDS, TEACHER, losses_of
from edgespeech.training.precision import Precision, faster_precision
from edgespeech.training.processes import Processes, join_processes
from edgespeech.training.progress import Progress
from edgespeech.training.shards import Shards
from edgespeech.training.sounds import SoundInventory, SoundsHead
from edgespeech.training.speech import Speech, encode_items, load_noises, load_speech
from edgespeech.training.state import (
    Average,
    Identity,
    kept_precision,
    load_average,
    load_state,
    note_step,
    save_state,
)
from edgespeech.training.taught import learn_from
from edgespeech.training.teacher import TeacherHead
from edgespeech.training.watch import Watcher
from edgespeech.training.word_errors import with_lists

__all__ = ["LOG", "MODEL", "STATE", "train"]

STATE = "state.safetensors"
LOG = "log.jsonl"
_STATISTICS_OF = 200
"""Number of utterances for estimating the mean and deviation of each mel band."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    workers: int = 1,
    until: int | None = None,
    quiet: bool = False,
    shards: Path | None = None,
) -> Path:
    """Train, or resume the stopped run of the folder.

    Args:
        config: the run.
        folder: of the run, created if missing.
        workers: number of batch-making processes per training process; 0 makes batches in the training process.
        until: stop after this many steps in total, as if killed; None: all steps.
        quiet: no progress line.
        shards: folder with all audio (`edgespeech.training.shards`); None uses the corpora.

    Returns:
        The folder of the averaged model.

    Raises:
        EdgeSpeechError: the speech, the configuration or a saved state is not valid, or a loss is not finite (the
            batch's utterances are then in `failed.json`).
    """
    if (heard := config.word_errors) is not None and until is not None and until % heard.every:
        raise bad("train", "until", until, f"a multiple of word_errors.every, {heard.every}")
    here = join_processes()
    torch.manual_seed(config.seed)
    packed = None if shards is None else Shards(shards)
    speech = load_speech(config.speech, longest_s=config.longest_s, shards=packed)
    model, tokeniser = _start(config, speech)
    labels = encode_items(speech.items, tokeniser, model.config)
    trained = nn.ModuleDict({MODEL: model})
    sounds = None
    if config.sounds is not None:
        inventory = SoundInventory([(item.text, item.sounds_only) for item in speech.items])
        sounds = [inventory.of(item.text, item.sounds_only) for item in speech.items]
        trained[SOUNDS] = SoundsHead(model.transcriber, config.sounds.layer, len(inventory))
    lessons = None
    if (teach := config.teacher) is not None:
        lessons = learn_from(teach, speech, model.config.frame_s, quiet=quiet or not here.leads)
        trained[TEACHER] = TeacherHead(model.transcriber, teach.layer, teach.dims, teach.loss)
    if (named := config.languages) is not None:
        shape, names = model.config, language_names(config.speech)
        trained[LANGUAGES] = LanguageHead(shape.joiner, names, shape.frame_s, named.memory_s)
    noises = load_noises(*config.noise_corpora, shards=packed)
    rooms = load_noises(*config.room_corpora, shards=packed)
    lists = None
    if config.biasing is not None:
        lists = PhraseLists(config.biasing, config.seed, speech.items, labels, tokeniser.pieces)
    streams = lead_in_maker(config, speech, labels, tokeniser, model.config, packed)
    batches = Batches(
        config,
        speech,
        labels,
        noises,
        rooms=rooms,
        sounds=sounds,
        lessons=lessons,
        lists=lists,
        lead_ins=None if streams is None else streams[0],
        rank=here.rank,
        world=here.world,
    )
    if config.init is None:
        model.transcriber.set_statistics(*_statistics(config, batches))
    elif isinstance(config.init, str) and (run := _init_folder(config.init) / STATE).is_file():
        load_average(run, trained)
        _take_shipped(model, config.init)
    compressors = Compressors(config.compressor, model, config.steps)
    compressors.to(here.device)
    trained.to(here.device).train()
    if config.biasing is not None and config.biasing.adapter:
        freeze_all_but_attention(model)
    optimiser = torch.optim.AdamW(
        trained.parameters(),
        config.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
        fused=True,
    )
    if own := list(compressors.parameters()):
        optimiser.add_param_group({"params": own, "weight_decay": 0.0})
    average = Average(trained, config.average)
    precision = _precision(config, folder, model, here)
    further = "" if lessons is None else f" {lessons.sha256}"
    further += "" if streams is None else f" {streams[1]}"
    identity = Identity(config.sha256, speech.sha256 + further, precision)
    watcher = None
    if config.watch is not None and here.leads:
        watcher = Watcher(config.watch, speech, batches, tokeniser, packed)
    step = 0
    if (folder / STATE).is_file():
        step = load_state(folder / STATE, identity, trained, optimiser, average, compressors)
    provenance = _provenance(config, speech, here) | {"precision": precision}
    if lessons is not None:
        provenance["teacher_sha256"] = lessons.sha256
    end = min(stop for stop in (config.steps, config.until, until) if stop is not None)
    progress = Progress(folder / LOG, first=step, total=config.steps, quiet=quiet or not here.leads)

    def save_average() -> None:
        averaged = _averaged(average, compressors, model.config, folder / MODEL)
        about = provenance | {"step": str(step)}
        if watcher is not None and (step % watcher.every == 0 or step == end):
            rates = watcher.measure(averaged.to(here.device).eval(), step - 1)
            progress.watched(step, rates)
            about |= {name: f"{rate:.4f}" for name, rate in rates.items()}
        if config.languages is not None:
            _save_languages(folder / MODEL, trained, average)
        save_model(folder / MODEL, averaged, tokeniser, about)

    if here.leads and step:
        if _step_of_model(folder / MODEL) != step:
            save_average()
        note_step(folder / STATE, identity, step)
    coming = loader(batches, range(step, end), workers=workers)
    if config.word_errors is not None:
        coming = with_lists(coming, config.word_errors, model, tokeniser)
    for batch in coming:
        torch.manual_seed(_seed_of(config.seed, step, here.rank))
        rate = config.rate(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        compressors.enter(step, rate)
        losses = losses_of(trained, batch, config, precision, step, here)
        norm = _update(trained, optimiser, losses.total(config, step), config.clip, here, compressors)
        told = losses.told()
        here.sum([told])
        if not bool(torch.isfinite(told).all() and torch.isfinite(norm)):
            raise _failed(folder, step, batch, told, norm)
        compressors.after(step, rate)
        average.update(trained, step)
        step += 1
        progress.step(
            step,
            batch.audio_s * here.world,
            loss=float(told[0]),
            ctc=float(told[1]),
            sounds=float(told[2]),
            **({} if lessons is None else {"teacher": float(told[3])}),
            **({} if lists is None else {"attention": float(told[4])}),
            **({} if config.languages is None else {"languages": float(told[5])}),
            **({} if config.word_errors is None else {"word_errors": float(told[7])}),
            norm=float(norm),
            rate=rate,
        )
        if here.leads and (step % config.save_every == 0 or step == end):
            progress.saving()
            save_state(folder / STATE, identity, step, trained, optimiser, average, compressors)
            save_average()
            note_step(folder / STATE, identity, step)
    progress.close()
    if here.world > 1:
        distributed.destroy_process_group()
    return folder / MODEL


def _seed_of(seed: int, step: int, rank: int) -> int:
    """The seed of a step's dropout: the same after resuming, and different in every process."""
    return (seed * 1_000_003 + step) * 1_009 + rank


def _start(config: TrainConfig, speech: Speech) -> tuple[Transducer, Tokeniser]:
    """The model before the first step: with random weights, or from another run."""
    if config.init is None:
        size = int(config.model["vocabulary"])
        texts = sorted({item.text for item in speech.items if item.learns_words})
        letters = spanish.LETTERS if any(source.language == "es" for source in config.speech) else ""
        tokeniser = Tokeniser.train(texts, size, letters)
        return Transducer(ModelConfig.from_mapping(config.model)), tokeniser
    earlier = average_checkpoints([_init_model(init) for init in config.inits])
    wanted = ModelConfig.from_mapping(config.model)
    found = earlier.model.config
    begins_to_attend = found.biasing is None and wanted.biasing is not None
    for field in fields(wanted):
        own, asked = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in ("dropout", "stack") or (field.name == "biasing" and begins_to_attend):
            continue
        if own != asked:
            raise bad(f"train: init {config.init}", field.name, own, str(asked))
    model = Transducer(wanted)
    weights = earlier.model.state_dict()
    if found.stack != wanted.stack:
        weights = restacked(weights, found.stack, wanted.stack)
    fresh = {name: values for name, values in model.state_dict().items() if name.startswith("biasing.")}
    model.load_state_dict(fresh | weights)
    return model, earlier.tokeniser


def _init_folder(init: str) -> Path:
    """A run's or a model's folder as named in a configuration: relative to the project unless it is absolute."""
    return project_root() / init


def _init_model(init: str) -> Path:
    """The model's folder in that folder."""
    folder = _init_folder(init)
    return folder / MODEL if (folder / STATE).is_file() else folder


def _take_shipped(model: Transducer, init: str) -> None:
    """Load the averaged weights of a run, after its compressor if it had one."""
    shipped = load_model(_init_model(init)).model.state_dict()
    model.load_state_dict({n: t for n, t in shipped.items() if not n.startswith("ctc.")}, strict=False)


def _statistics(config: TrainConfig, batches: Batches) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each mel band over fully augmented speech, the same in every process."""
    frames = torch.cat([torch.from_numpy(f) for f in batches.sample_features(_STATISTICS_OF)])
    return frames.mean(0), frames.std(0)


def _precision(config: TrainConfig, folder: Path, model: Transducer, here: Processes) -> Precision:
    """The precision of a run: as configured, as it began, or the faster one here."""
    if config.precision != "auto":
        return config.precision
    if (folder / STATE).is_file():
        return "bf16" if kept_precision(folder / STATE) == "bf16" else "fp32"
    return faster_precision(model, world=here.world)


def _update(
    trained: nn.Module,
    optimiser: torch.optim.Optimizer,
    loss: Tensor,
    clip: float,
    here: Processes,
    compressors: Compressors,
) -> Tensor:
    """One step of the optimiser; returns the gradient's norm before clipping."""
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    here.sum([p.grad for p in trained.parameters() if p.grad is not None])
    compressors.leave()
    norm = nn.utils.clip_grad_norm_(trained.parameters(), clip)
    if torch.isfinite(norm):
        optimiser.step()
    return norm


def _failed(folder: Path, step: int, batch: Batch, losses: Tensor, norm: Tensor) -> EdgeSpeechError:
    """Write the utterances of a batch whose loss is not finite."""
    told = {
        "step": step,
        "ids": list(batch.ids),
        "loss": str(losses[0].item()),
        "ctc": str(losses[1].item()),
        "sounds": str(losses[2].item()),
        "teacher": str(losses[3].item()),
        "attention": str(losses[4].item()),
        "languages": str(losses[5].item()),
        "expected": str(losses[6].item()),
        "norm": str(norm.item()),
    }
    write_atomic(folder / "failed.json", json.dumps(told, indent=1))
    return EdgeSpeechError(
        f"{folder / 'failed.json'}: step {step}: loss {told['loss']}, gradient norm {told['norm']}, expected "
        f"finite numbers; the utterances are listed there, and {STATE} has the last good step"
    )


def _averaged(average: Average, compressors: Compressors, config: ModelConfig, folder: Path) -> Transducer:
    """The averaged model in its final form; the codes of compressed matrices are written into its folder."""
    model = Transducer(config)
    prefix = f"{MODEL}."
    own = {n.removeprefix(prefix): t for n, t in average.weights.items() if n.startswith(prefix)}
    shipped, codes = compressors.finish(own)
    model.load_state_dict(shipped)
    if codes:
        save_codes(folder, codes)
    return model


def _save_languages(folder: Path, trained: nn.ModuleDict, average: Average) -> None:
    """Write the averaged head that names the language beside the model; the model's weights come after it."""
    head, prefix = trained[LANGUAGES], f"{LANGUAGES}."
    assert isinstance(head, LanguageHead)
    averaged = LanguageHead(head.out.in_features // 2, head.names, head.frame_s, head.memory_s)
    averaged.load_state_dict(
        {n.removeprefix(prefix): t for n, t in average.weights.items() if n.startswith(prefix)}
    )
    save_head(folder, averaged)


def _step_of_model(folder: Path) -> int | None:
    """The step of a run's saved model; None if there is no readable model."""
    try:
        return int(load_model(folder).provenance["step"])
    except (EdgeSpeechError, KeyError, ValueError):
        return None


def _provenance(config: TrainConfig, speech: Speech, here: Processes) -> dict[str, str]:
    device = torch.cuda.get_device_name(here.device) if here.device.type == "cuda" else platform.machine()
    inits = [sha256_file(_init_model(init) / WEIGHTS) for init in config.inits]
    start = {"init_sha256": ", ".join(inits)} if inits else {}
    if config.compressor is not None:
        start |= {"compressor": json.dumps(config.compressor, sort_keys=True)}
    return start | {
        "run": config.name,
        "config_sha256": config.sha256,
        "speech_sha256": speech.sha256,
        "utterances": str(len(speech.items)),
        "audio_s": f"{sum(item.seconds for item in speech.items):.0f}",
        "device": device,
        "processes": str(here.world),
        "torch": torch.__version__,
    }
