"""The training of a language model: one process, on the processor or on a GPU.

A run's folder has `state.safetensors` (see `edgespeech.training.state`), `log.jsonl` (a line every few seconds), and
`lm.edge`, the current averaged weights as a usable model. The state is written before the model: a run that was killed
between the two writes the model when it is resumed.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp, log
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgespeech.core.files import append_line
from edgespeech.errors import EdgeSpeechError
from edgespeech.model.tokeniser import Tokeniser
from edgespeech.secondpass.config import LmConfig
from edgespeech.secondpass.model import MARK, LanguageModel, TrainedLm, load_lm, save_lm
from edgespeech.training.progress import forget_after
from edgespeech.training.state import Average, Identity, load_state, note_step, save_state
from edgespeech.training.text import Text, load_text

STATE, LOG, MODEL = "state.safetensors", "log.jsonl", "lm.edge"
_IGNORE = -1
"""Padding of the targets after the end of a sentence."""
_TELL_EVERY_S = 15.0


def train_lm(config: LmConfig, folder: Path, *, until: int | None = None, quiet: bool = False) -> Path:
    """Train, or resume the stopped run of the folder bit for bit.

    Args:
        config: the run.
        folder: of the run, created if missing.
        until: stop after this many steps in total, as if killed; None: all steps.
        quiet: no progress line.

    Returns:
        The file of the averaged model.

    Raises:
        EdgeSpeechError: the text, the configuration or a saved state is not valid, or a loss is not finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    text = load_text(config.text, config.held_out, config.seed)
    tokeniser = Tokeniser.train(text.sentences, config.vocabulary)
    batches = Batches(_encoded(text.sentences, tokeniser), config.batch, config.seed)
    torch.manual_seed(config.seed)
    model = LanguageModel(config.shape, config.dropout).to(device).train()
    optimiser = torch.optim.AdamW(
        model.parameters(), config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    average = Average(model, config.average)
    identity = Identity(config.sha256, text.sha256)
    uncompressed = nn.Module()  # without compression there is no such state
    step = 0
    if (folder / STATE).is_file():
        step = load_state(folder / STATE, identity, model, optimiser, average, uncompressed)
    end = min(config.steps, until if until is not None else config.steps)
    if step:
        if _step_of_model(folder / MODEL) != step:
            _save_average(folder / MODEL, config, text, tokeniser, average, step)
        note_step(folder / STATE, identity, step)
    progress = _Progress(folder / LOG, first=step, total=config.steps, quiet=quiet)
    while step < end:
        torch.manual_seed(config.seed * 1_000_003 + step)
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        labels = batches.of_step(step).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss = _loss(model, labels)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if not bool(torch.isfinite(loss) and torch.isfinite(norm)):
            told = f"loss {float(loss.detach())}, gradient norm {float(norm)}"
            raise EdgeSpeechError(f"{folder}: step {step}: {told}, expected finite numbers")
        optimiser.step()
        average.update(model, step)
        step += 1
        progress.step(step, float(loss.detach()), config.rate(step - 1))
        if step % config.save_every == 0 or step == end:
            progress.tell()
            save_state(folder / STATE, identity, step, model, optimiser, average, uncompressed)
            _save_average(folder / MODEL, config, text, tokeniser, average, step)
            note_step(folder / STATE, identity, step)
    progress.tell()
    return folder / MODEL


class Batches:
    """Batches of sentences of similar length, in a different order every epoch.

    Args:
        labels: of each sentence, without marks.
        size: sentences per batch; the last one of an epoch may have fewer.
        seed: of the order.
    """

    def __init__(self, labels: Sequence[Sequence[int]], size: int, seed: int) -> None:
        self._labels = labels
        self._size = size
        self._seed = seed
        self._lengths = np.array([len(each) for each in labels])
        self._epoch = -1
        self._order: list[list[int]] = []

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        return -(-len(self._labels) // self._size)

    def of_step(self, step: int) -> Tensor:
        """The labels of a step, counted from 0: mark, pieces, mark, then `_IGNORE`; with shape `(B, U + 2)`."""
        epoch, place = divmod(step, len(self))
        if epoch != self._epoch:
            rng = np.random.default_rng((self._seed, epoch))
            shuffled = rng.permutation(len(self._labels))
            by_length = shuffled[np.argsort(self._lengths[shuffled], kind="stable")]
            pieces = [by_length[at : at + self._size].tolist() for at in range(0, len(by_length), self._size)]
            self._order = [pieces[n] for n in rng.permutation(len(pieces))]
            self._epoch = epoch
        return _padded([self._labels[n] for n in self._order[place]])


@dataclass(frozen=True, slots=True)
class Perplexity:
    """The perplexity of sentences. Attributes:
    log_prob: of all sentences, including their ends; natural logarithm.
    words: number of words of all sentences.
    sentences: their number.
    """

    log_prob: float
    words: int
    sentences: int

    @property
    def of_word(self) -> float:
        """The perplexity per word, counting each sentence's end as a word."""
        return exp(-self.log_prob / (self.words + self.sentences))


@torch.inference_mode()
def perplexity(lm: TrainedLm, sentences: Iterable[str], batch: int = 128) -> Perplexity:
    """The perplexity of sentences by a model.

    Raises:
        EdgeSpeechError: a word has other characters than a to z and the apostrophe.
    """
    lines = list(sentences)
    total = 0.0
    waiting = iter(_encoded(lines, lm.tokeniser))
    while piece := list(islice(waiting, batch)):
        labels = _padded(piece)
        total -= float(_loss(lm.model, labels)) * int((labels[:, 1:] != _IGNORE).sum())
    return Perplexity(total, sum(len(line.split()) for line in lines), len(lines))


def _encoded(sentences: Sequence[str], tokeniser: Tokeniser) -> list[list[int]]:
    """The labels of each sentence; repeated ones are encoded once."""
    known = {sentence: tokeniser.encode(sentence) for sentence in set(sentences)}
    return [known[sentence] for sentence in sentences]


def _padded(labels: Sequence[Sequence[int]]) -> Tensor:
    longest = max(map(len, labels)) + 2
    padded = torch.full((len(labels), longest), _IGNORE)
    for row, each in zip(padded, labels, strict=True):
        row[: len(each) + 2] = torch.tensor([MARK, *each, MARK])
    return padded


def _loss(model: LanguageModel, labels: Tensor) -> Tensor:
    """Mean negative log-probability of a label, including sentence ends."""
    before, after = labels[:, :-1], labels[:, 1:]
    logits = model(before.clamp(min=MARK))
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), after.flatten(), ignore_index=_IGNORE)


def _save_average(
    path: Path, config: LmConfig, text: Text, tokeniser: Tokeniser, average: Average, step: int
) -> None:
    model = LanguageModel(config.shape)
    model.load_state_dict({name: tensor.cpu() for name, tensor in average.weights.items()})
    provenance = {
        "run": config.name,
        "config_sha256": config.sha256,
        "text_sha256": text.sha256,
        "sentences": str(len(text.sentences)),
        "left_out": str(text.left_out),
        "held_out": " ".join(config.held_out),
        "step": str(step),
        "torch": torch.__version__,
    }
    save_lm(path, model, tokeniser, provenance)


def _step_of_model(path: Path) -> int | None:
    """The step that a run's model was written after; None where there is no model that can be read."""
    try:
        return int(load_lm(path).provenance["step"])
    except (EdgeSpeechError, KeyError, ValueError):
        return None


class _Progress:
    """A line on the terminal and one in the log, every few seconds: step, mean loss since the last, time left."""

    def __init__(self, log_file: Path, *, first: int, total: int, quiet: bool) -> None:
        self._log, self._first, self._total, self._quiet = log_file, first, total, quiet
        self._losses: list[float] = []
        self._step, self._rate = first, 0.0
        self._begun = self._told = time.monotonic()
        if not quiet:
            forget_after(log_file, first)

    def step(self, step: int, loss: float, rate: float) -> None:
        """Report a step."""
        self._step, self._rate = step, rate
        self._losses.append(loss)
        if time.monotonic() - self._told >= _TELL_EVERY_S:
            self.tell()

    def tell(self) -> None:
        """Report the remaining steps; called before the state is written, so that a kill loses none of them."""
        losses, self._losses, self._told = self._losses, [], time.monotonic()
        if self._quiet or not losses:
            return
        loss = sum(losses) / len(losses)
        left_s = (self._total - self._step) * (self._told - self._begun) / (self._step - self._first)
        line = {"step": self._step, "loss": round(loss, 6), "rate": self._rate}
        append_line(self._log, json.dumps(line))
        bits = loss / log(2)
        told = f"step {self._step}/{self._total}  {bits:.3f} bits a piece  {left_s / 60:.0f} min left"
        print(told, file=sys.stderr, flush=True)
