"""Synthetic speech corpora from recipes: sentences of grammars, said by Kokoro's voices, silence around them.

    python -m edgespeech.synthesis.synthesis data_manifests/assistant_mini/recipe.yaml [--jobs 2] [--kokoro FOLDER]

writes `audio/*` and `<name>.jsonl` beside the recipe, or in another folder (`--out`). Everything is drawn from
the recipe's seed. What the synthesiser said is kept (FLAC, 24 kHz) under a hash of all that it depends on, so an
interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self

import numpy as np
import soxr
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from rich.progress import track

from edgespeech.audio.io import read_audio, write_audio
from edgespeech.audio.ogg import with_serial
from edgespeech.contracts import SAMPLE_RATE, Samples
from edgespeech.core.config import explain
from edgespeech.core.files import sha256_file, write_atomic
from edgespeech.core.places import manifests_dir, work_dir
from edgespeech.corpora.manifest import Utterance, write_manifest
from edgespeech.corpora.written import written
from edgespeech.errors import EdgeSpeechError, bad
from edgespeech.synthesis.habits import draw_habits
from edgespeech.synthesis.kokoro import RATE, Kokoro, Speaker, load_voices, voices_file
from edgespeech.text.grammar import Grammar, Sentence, Split, load_grammar
from edgespeech.text.spoken import plain

RECIPES = "assistant"
"""Recipes of the corpora to train and to tune on: a folder beside the descriptions of corpora."""
CORPORA = "corpora/assistant"
"""Where these corpora are, in the work folder."""
JOBS = 2
"""Worker processes that say them."""
_SILENT = 0.005
"""A sample is silent below this share of the utterance's peak (-46 dB)."""
_EDGE_S = 0.1
"""What is kept of the synthesised signal before the first and after the last non-silent sample."""
_PEAK = 0.95
_DRAWS_PER_SENTENCE = 1000
_ENGLISH = ("a", "b")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Between = tuple[float, float]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GrammarUse(_Strict):
    """How many sentences of a grammar, and which version of it (`Grammar.sha256`)."""

    sentences: Annotated[int, Field(gt=0)]
    sha256: Sha256


class Recipe(_Strict):
    """A recipe. Ranges are drawn from evenly.

    Attributes:
        name: of the corpus and its manifest.
        about: one line for readers.
        split: which sentences (by `split_of`) and which voices may be used.
        seed: everything is drawn from it.
        speakers: how many; each of the split's voices, then blends of two.
        accents: `english` for the voices made for English alone, `all` for the foreign ones too.
        habits: how many habits of pronunciation a speaker has (`edgespeech.synthesis.habits`), from and to.
        grammars: by name.
        texts: sentences from written corpora: the name of a text split to the number of sentences.
        take: the first so many utterances of all that are drawn; none takes all.
        context: slot to the number of phrases from its vocabulary that an utterance with this slot brings
            along, the one that is said among them.
        model_sha256: of Kokoro's `model.onnx`.
        voices_sha256: of `data_manifests/voices/kokoro.yaml`, which holds each voice's hash.
        speed: of speech; 1 is the voice's own.
        level_db: root mean square of the speech, dB of full scale.
        silence_s: before and after the speech.
        noise_db: root mean square of the noise under everything, dB of full scale.
        audio: how it is stored; `flac` keeps every sample.
    """

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    about: str
    split: Split
    seed: Annotated[int, Field(ge=0)]
    speakers: Annotated[int, Field(gt=0)]
    accents: Literal["english", "all"] = "english"
    habits: tuple[Annotated[int, Field(ge=0)], int] = (0, 0)
    grammars: Annotated[dict[str, GrammarUse], Field(min_length=1)]
    texts: dict[str, Annotated[int, Field(gt=0)]] = {}
    take: Annotated[int, Field(gt=0)] | None = None
    context: dict[str, Annotated[int, Field(gt=0)]] = {}
    model_sha256: Sha256
    voices_sha256: Sha256
    speed: Between
    level_db: Between
    silence_s: Between
    noise_db: Between
    audio: Literal["opus", "flac"] = "opus"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name in ("habits", "speed", "level_db", "silence_s", "noise_db"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name}: {low} must not be above {high}")
        return self


class Talker(Protocol):
    """What says the sentences (`edgespeech.synthesis.kokoro.Kokoro`)."""

    model_sha256: str

    def say(self, text: str, speaker: Speaker, speed: float) -> Samples:
        """The sentence at 24 kHz, with shape `(N,)`."""
        ...

    def key(self, text: str, speaker: Speaker, speed: float) -> str:
        """A hash of everything that `say` depends on."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Everything about one utterance before it is said. Levels in dB of full scale, silences in seconds."""

    id: str
    sentence: Sentence
    speaker: Speaker
    speed: float
    level_db: float
    before_s: float
    after_s: float
    noise_db: float
    context: tuple[str, ...]
    seed: int


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Raises:
        EdgeSpeechError: missing, not YAML, an unknown key or a value out of range.
    """
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise bad("synthesis", "recipe", path.name, "a recipe that exists") from error
    except yaml.YAMLError as error:
        raise EdgeSpeechError(f"{path}: not YAML: {error}") from error
    except ValidationError as error:
        raise explain(str(path), error) from error


def plan(
    recipe: Recipe,
    grammars: Mapping[str, Grammar],
    voices: Sequence[str],
    texts: Mapping[str, Sequence[str]] | None = None,
) -> list[Plan]:
    """Draw all utterances of a recipe: no sentence twice, domains mixed.

    Args:
        recipe: what to draw.
        grammars: by the recipe's names.
        voices: the voices that may be used.
        texts: the sentences of written corpora, by the recipe's names.

    Raises:
        EdgeSpeechError: a grammar is another version, or has too few sentences, as may a written corpus;
            there are no voices; a context slot has no vocabulary.
    """
    rng = random.Random(recipe.seed)
    speakers = _speakers(rng, voices, recipe.speakers)
    if recipe.habits != (0, 0):
        speakers = [replace(who, habits=draw_habits(rng, rng.randint(*recipe.habits))) for who in speakers]
    sentences: list[tuple[Grammar | None, Sentence]] = []
    seen: set[str] = set()
    for name, use in recipe.grammars.items():
        grammar = grammars[name]
        if grammar.sha256 != use.sha256:
            raise bad(
                f"recipe {recipe.name}: grammar {name}", "sha256", use.sha256, f"{grammar.sha256} (now)"
            )
        drawn = _draw(rng, grammar, use.sentences, recipe.split, seen)
        sentences += [(grammar, sentence) for sentence in drawn]
    for name, wanted in recipe.texts.items():
        fresh = [text for text in (texts or {}).get(name, ()) if plain(text) not in seen]
        if len(fresh) < wanted:
            raise bad(f"recipe {recipe.name}: text {name}", "sentences", wanted, f"at most {len(fresh)}")
        sentences += [(None, Sentence(text, "", {})) for text in rng.sample(fresh, wanted)]
    rng.shuffle(sentences)
    return [
        Plan(
            id=f"{recipe.name}-{number:04d}",
            sentence=sentence,
            speaker=rng.choice(speakers),
            speed=round(rng.uniform(*recipe.speed), 3),
            level_db=round(rng.uniform(*recipe.level_db), 2),
            before_s=round(rng.uniform(*recipe.silence_s), 3),
            after_s=round(rng.uniform(*recipe.silence_s), 3),
            noise_db=round(rng.uniform(*recipe.noise_db), 2),
            context=_context(rng, grammar, sentence, recipe.context),
            seed=rng.getrandbits(32),
        )
        for number, (grammar, sentence) in enumerate(sentences[: recipe.take])
    ]


def _draw(rng: random.Random, grammar: Grammar, n: int, split: Split, seen: set[str]) -> list[Sentence]:
    """Draw `n` sentences of a split that were not seen yet, and note them as seen."""
    found: list[Sentence] = []
    for _ in range(_DRAWS_PER_SENTENCE * n):
        sentence = grammar.generate(rng, split)
        if (words := plain(sentence.text)) not in seen:
            seen.add(words)
            found.append(sentence)
            if len(found) == n:
                return found
    raise bad(
        f"grammar {grammar.name}", "sentences", n, f"at most about {len(found)}, it has no more in {split}"
    )


def _speakers(rng: random.Random, voices: Sequence[str], n: int) -> list[Speaker]:
    if not voices:
        raise bad("synthesis", "voices", [], "at least one voice of the split")
    speakers = [Speaker(((voice, 1.0),)) for voice in voices[:n]]
    while len(speakers) < n:
        if len(voices) < 2:
            raise bad("synthesis", "speakers", n, "1 where there is one voice, since blends take two")
        first, second = rng.sample(list(voices), 2)
        share = round(rng.uniform(0.5, 0.8), 2)
        speakers.append(Speaker(((first, share), (second, round(1 - share, 2)))))
    return speakers


def _context(
    rng: random.Random, grammar: Grammar | None, sentence: Sentence, sizes: Mapping[str, int]
) -> tuple[str, ...]:
    phrases: list[str] = []
    for slot, size in sizes.items():
        if grammar is not None and slot in sentence.slots:
            said = sentence.slots[slot]
            others = [value for value in grammar.values(slot) if value != said]
            phrases += [said, *rng.sample(others, min(size - 1, len(others)))]
    rng.shuffle(phrases)
    return tuple(phrases)


def render(speech: Samples, what: Plan) -> tuple[Samples, float, float]:
    """An utterance as if recorded: speech at its level, silence before and after, noise under all of it.

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
        raise bad("speech synthesis", "sentence", what.sentence.text, "one that gives a sound")
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


def synthesise(path: Path, load: Callable[[], Talker], *, jobs: int = 1, out: Path | None = None) -> Path:
    """Make the corpus of a recipe.

    Args:
        path: the recipe.
        load: makes the synthesiser; called once in every worker process.
        jobs: worker processes, each on one thread.
        out: the folder to write to; the recipe's own by default.

    Returns:
        The manifest.

    Raises:
        EdgeSpeechError: what `load_recipe` and `plan` refuse; another model or list of voices than the
            recipe's; a sentence or voice that cannot be said.
    """
    recipe = load_recipe(path)
    where = f"recipe {recipe.name}"
    if (found := sha256_file(voices_file())) != recipe.voices_sha256:
        raise bad(where, "voices_sha256", recipe.voices_sha256, f"{found} (now)")
    of_split = [name for name, voice in load_voices().items() if voice.split == recipe.split]
    voices = of_split if recipe.accents == "all" else [name for name in of_split if name[0] in _ENGLISH]
    grammars = {name: load_grammar(name) for name in recipe.grammars}
    plans = plan(recipe, grammars, voices, {name: written(name, recipe.split) for name in recipe.texts})
    talker = load()
    if talker.model_sha256 != recipe.model_sha256:
        raise bad(where, "model_sha256", recipe.model_sha256, talker.model_sha256)
    spoken = [_cached(talker, what) for what in plans]
    missing = [i for i, file in enumerate(spoken) if not file.is_file()]
    if jobs > 1 and missing:
        # spawn: espeak-ng and onnxruntime hold state that must not be forked.
        with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker, (load,)) as pool:
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


def make_corpora(names: Iterable[str]) -> None:
    """Make the synthetic corpora that configurations name, from the recipes in `data_manifests/assistant`.

    Args:
        names: of corpora; those other than `corpora/assistant/NAME.jsonl` are left to be fetched.

    Raises:
        EdgeSpeechError: no recipe has that name, or it cannot be made.
    """
    wanted = {Path(name).stem for name in names if name.startswith(f"{CORPORA}/")}
    folder = manifests_dir() / RECIPES
    recipes = {load_recipe(path).name: path for path in sorted(folder.glob("*.yaml"))}
    for name in sorted(wanted):
        if name not in recipes:
            raise bad(str(folder), "recipe", name, "one of " + ", ".join(recipes))
        print(f"speech of {name}", flush=True)
        synthesise(recipes[name], Kokoro, jobs=JOBS, out=work_dir() / CORPORA)


def _drain(done: Iterable[Path], total: int) -> None:
    """Wait for all of it: a progress bar on a terminal, a line now and then elsewhere."""
    if sys.stderr.isatty():
        for _ in track(done, "synthesis", total):
            pass
        return
    for number, _ in enumerate(done, start=1):
        if number % 50 == 0 or number == total:
            print(f"synthesis: {number} of {total} utterances", file=sys.stderr)


def _cached(talker: Talker, what: Plan) -> Path:
    key = talker.key(what.sentence.text, what.speaker, what.speed)
    return work_dir() / "synthesis" / key[:2] / f"{key}.flac"


def _say(talker: Talker, what: Plan) -> Path:
    samples = talker.say(what.sentence.text, what.speaker, what.speed)
    file = _cached(talker, what)
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
    parser.add_argument("--kokoro", type=Path, help="folder with model.onnx and the voices")
    options = parser.parse_args(arguments)
    try:
        manifest = synthesise(
            options.recipe, partial(Kokoro, options.kokoro), jobs=options.jobs, out=options.out
        )
    except EdgeSpeechError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(manifest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
