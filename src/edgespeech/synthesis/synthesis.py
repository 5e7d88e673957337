"""Synthetic speech corpora from recipes: sentences of grammars in Kokoro's voices, with surrounding silence.

    python -m edgespeech.synthesis.synthesis data_manifests/assistant_mini/recipe.yaml [--jobs 2] [--kokoro FOLDER]

writes `audio/*` and `<name>.jsonl` beside the recipe, or in another folder (`--out`). Everything is drawn from the
recipe's seed. Synthesised speech is cached (FLAC, 24 kHz) under a hash of all that it depends on, so an interrupted run
resumes, and `--so-far` makes a corpus of the utterances synthesised so far.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol

import numpy as np
import soxr
from rich.progress import track

from edgespeech.audio.io import read_audio, write_audio
from edgespeech.audio.ogg import with_serial
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import work_dir
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.written import lines_of, written
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.synthesis.kokoro import RATE, Kokoro, Speaker, VocoderName, load_voices, voices_file
from edgespeech.synthesis.plan import Plan, plan
from edgespeech.synthesis.recipe import Recipe, load_recipe
from edgespeech.text.grammar import load_grammar
from edgespeech.text.spoken import plain

JOBS = 2
"""Number of worker processes."""
_SILENT = 0.005
"""A sample is silent below this share of the utterance's peak (-46 dB)."""
_EDGE_S = 0.1
"""Margin of the synthesised signal before the first and after the last non-silent sample."""
_PEAK = 0.95
_ENGLISH = ("a", "b")


class Talker(Protocol):
    """A synthesiser (`edgespeech.synthesis.kokoro.Kokoro`)."""

    model_sha256: str

    def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
        """The sentence at 24 kHz, with shape `(N,)`."""
        ...

    def key(self, text: str, speaker: Speaker, speed: float) -> str:
        """A hash of everything that `say` depends on."""
        ...


def render(speech: Samples, what: Plan) -> tuple[Samples, float, float]:
    """Render an utterance: speech at its level, silence before and after, background noise.

    Args:
        speech: at 24 kHz, with shape `(N,)`.
        what: the utterance's plan.

    Returns:
        Samples at 16 kHz, and the start and end of speech in seconds: the first and the last sample of the
        synthesised signal that is not silent (within 46 dB of its peak), before noise was added.

    Raises:
        EdgeSpeechError: the speech is silent.
    """
    signal: Samples = soxr.resample(speech, RATE, SAMPLE_RATE).astype(np.float32)
    peak = float(np.abs(signal).max(initial=0.0))
    loud = np.flatnonzero(np.abs(signal) >= max(_SILENT * peak, 1e-6))
    if loud.size == 0:
        raise bad("speech synthesis", "sentence", what.sentence.text, "one that gives audible speech")
    first, last = int(loud[0]), int(loud[-1])
    edge = round(_EDGE_S * SAMPLE_RATE)
    rms = float(np.sqrt(np.mean(np.square(signal[first : last + 1], dtype=np.float64))))
    gain = min(10 ** (what.level_db / 20) / rms, _PEAK / peak)
    before, after = (round(s * SAMPLE_RATE) for s in (what.before_s, what.after_s))
    start = max(first - min(edge, before), 0)
    end = min(last + 1 + min(edge, after), signal.size)
    total = before + (last + 1 - first) + after
    out = _noise(total, what.noise_db, what.seed)
    out[before - (first - start) : before + (end - first)] += gain * signal[start:end]
    return out, before / SAMPLE_RATE, (before + last + 1 - first) / SAMPLE_RATE


def _noise(n: int, level_db: float, seed: int) -> Samples:
    """Noise whose power falls by 3 dB an octave (pink), with shape `(n,)`."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    shaped = np.fft.irfft(spectrum / np.sqrt(np.arange(1, spectrum.size + 1)), n)
    samples: Samples = (shaped * (10 ** (level_db / 20) / np.sqrt(np.mean(shaped**2)))).astype(np.float32)
    return samples


def planned(recipe: Recipe) -> list[Plan]:
    """The utterances of a recipe, from its grammars, texts and voices. Prints how many sentences its texts have.

    Raises:
        EdgeSpeechError: what `plan` refuses, or another list of voices than the recipe's.
    """
    if (found := sha256_file(voices_file())) != recipe.voices_sha256:
        raise bad(f"recipe {recipe.name}", "voices_sha256", recipe.voices_sha256, f"{found} (now)")
    of_split = [name for name, voice in load_voices().items() if voice.split == recipe.split]
    voices = of_split if recipe.accents == "all" else [name for name in of_split if name[0] in _ENGLISH]
    grammars = {name: load_grammar(name) for name in recipe.grammars}
    held_out = {plain(line) for split in recipe.held_out for line in lines_of(split)}
    texts = {name: written(name, recipe.split, longest=recipe.words) for name in recipe.texts}
    for name, sentences in texts.items():
        left = sum(plain(sentence) not in held_out for sentence in sentences)
        print(f"text {name}: {left} sentences, {len(sentences) - left} held out", file=sys.stderr)
    return plan(recipe, grammars, voices, texts, held_out)


def synthesise(
    path: Path,
    load: Callable[[VocoderName], Talker],
    *,
    jobs: int = 1,
    out: Path | None = None,
    so_far: bool = False,
) -> Path:
    """Make the corpus of a recipe.

    Args:
        path: the recipe.
        load: makes the synthesiser with the recipe's vocoder; called once in every worker process.
        jobs: worker processes, each on one thread.
        out: the folder to write to; the recipe's own by default.
        so_far: synthesise nothing; the corpus has the utterances that an interrupted run has finished.

    Returns:
        The manifest.

    Raises:
        EdgeSpeechError: what `load_recipe` and `plan` refuse; another model or list of voices than the
            recipe's; a sentence or voice that cannot be synthesised; with `so_far`, nothing was synthesised yet.
    """
    recipe = load_recipe(path)
    where = f"recipe {recipe.name}"
    plans = planned(recipe)
    talker = load(recipe.vocoder)
    if talker.model_sha256 != recipe.model_sha256:
        raise bad(where, "model_sha256", recipe.model_sha256, talker.model_sha256)
    spoken = [cached(talker, what) for what in plans]
    missing = [i for i, file in enumerate(spoken) if not file.is_file()]
    if so_far:
        ready = sorted(set(range(len(plans))) - set(missing))
        if not ready:
            raise bad(where, "utterances so far", 0, "at least 1")
        plans, spoken = [plans[i] for i in ready], [spoken[i] for i in ready]
    elif jobs > 1 and missing:
        # spawn: espeak-ng and onnxruntime hold state that must not be forked.
        start = (partial(load, recipe.vocoder),)
        with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, start) as pool:
            _drain(pool.map(_speak, [plans[i] for i in missing]), len(missing))
    else:
        _drain((_say(talker, plans[i]) for i in missing), len(missing))
    folder = out or path.parent
    utterances = [_store(folder, recipe, *pair) for pair in zip(plans, spoken, strict=True)]
    manifest = folder / f"{recipe.name}.jsonl"
    write_manifest(manifest, utterances)
    for stale in set((folder / "audio").glob(f"{recipe.name}-*")) - {
        folder / u.audio_filepath for u in utterances
    }:
        stale.unlink()
    return manifest


def _drain(done: Iterable[Path], total: int) -> None:
    """Wait for all utterances, with a progress bar on a terminal or occasional lines elsewhere."""
    if sys.stderr.isatty():
        for _ in track(done, "synthesis", total):
            pass
        return
    for number, _ in enumerate(done, start=1):
        if number % 50 == 0 or number == total:
            print(f"synthesis: {number} of {total} utterances", file=sys.stderr)


def cached(talker: Talker, what: Plan) -> Path:
    """The cache file of an utterance."""
    key = talker.key(what.said, what.speaker, what.speed)
    return work_dir() / "synthesis" / key[:2] / f"{key}.flac"


def _say(talker: Talker, what: Plan) -> Path:
    samples = talker.say(what.said, what.speaker, what.speed)
    file = cached(talker, what)
    write_audio(file, samples, sample_rate=RATE)
    return file


_talker: Talker | None = None


def _start_worker(load: Callable[[], Talker]) -> None:
    global _talker
    _talker = load()


def _speak(what: Plan) -> Path:
    assert _talker is not None
    return _say(_talker, what)


def _store(folder: Path, recipe: Recipe, what: Plan, spoken: Path) -> Utterance:
    samples, sos_s, eos_s = render(read_audio(spoken, sample_rate=RATE), what)
    name = f"audio/{what.id}.{recipe.audio}"
    write_audio(folder / name, samples)
    if recipe.audio == "opus":
        write_atomic(folder / name, with_serial((folder / name).read_bytes()))
    return Utterance(
        id=what.id,
        audio_filepath=name,
        duration=samples.size / SAMPLE_RATE,
        text=what.sentence.text,
        sha256=sha256_file(folder / name),
        speaker=what.speaker.name,
        sos_s=round(sos_s, 4),
        eos_s=round(eos_s, 4),
        intent=what.sentence.intent or None,
        slots=dict(what.sentence.slots),
        context=what.context,
        lang="es" if recipe.spanish else "en",
        split=recipe.split,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m edgespeech.synthesis.synthesis", description="make a corpus"
    )
    parser.add_argument("recipe", type=Path, help="recipe.yaml; the corpus is written beside it")
    parser.add_argument("--out", type=Path, help="folder to write the corpus to instead")
    parser.add_argument("--jobs", type=int, default=JOBS, help="worker processes, each on one thread")
    parser.add_argument(
        "--so-far", action="store_true", help="synthesise nothing; write what an interrupted run has finished"
    )
    parser.add_argument("--kokoro", type=Path, help="folder with model.onnx and the voices")
    options = parser.parse_args(arguments)
    try:
        manifest = synthesise(
            options.recipe,
            partial(Kokoro, options.kokoro),
            jobs=options.jobs,
            out=options.out,
            so_far=options.so_far,
        )
    except EdgeSpeechError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(manifest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
